//! Copies of all rows, from one replica to another.
//!
//! A copy is a set of files with plain names. The one who has the rows makes an
//! [`Outgoing`] and reads its files; the other writes them into an [`Incoming`] and,
//! when they are complete and durable, puts them in the place of its own rows.

use bytes::Bytes;
use mizzen_core::View;

use crate::{Engine, EngineError};

/// An engine whose rows can be copied and replaced as a whole.
pub trait Transfer: Engine {
    /// A copy of the rows as they are now or became while this ran: the rows
    /// after some batch, and durable on this replica. Holds the space of what
    /// it shares with the engine until it is dropped; nothing remains of it then.
    fn copy(&self) -> Result<Box<dyn Outgoing>, EngineError>;

    /// A place for the rows of another replica. What an earlier process left
    /// of such a place is gone.
    fn receive(&self) -> Result<Box<dyn Incoming>, EngineError>;

    /// What [`Incoming::install`] was given for the rows as they are now, if
    /// they came so.
    fn label(&self) -> Option<Bytes>;
}

/// A file of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedFile {
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// All methods may block on the disk.
pub trait Outgoing: Send + Sync {
    fn files(&self) -> &[CopiedFile];

    /// `len` bytes of a file from `offset` on; fewer only at its end.
    fn read(&self, file: &CopiedFile, offset: u64, len: usize) -> Result<Bytes, EngineError>;
}

/// Rows on their way in. Dropped before it is installed, it leaves nothing.
/// All methods may block on the disk.
pub trait Incoming: Send {
    /// Begins the next file; the one before it is complete. Refuses what is no
    /// plain file name, or came already.
    fn file(&mut self, name: &str) -> Result<(), EngineError>;

    /// Adds bytes at the end of the file last begun.
    fn write(&mut self, data: &[u8]) -> Result<(), EngineError>;

    /// All files are there: makes them durable, checks that they are rows, and
    /// shows them.
    fn finish(&mut self, look: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError>;

    /// Puts the rows in the place of the engine's, durably: a crash at any
    /// moment leaves the old rows or the new. Snapshots taken before go on
    /// showing the old ones. `label` is kept with the rows. Only for rows that
    /// are finished, and by whoever writes: what is written to the engine
    /// meanwhile is lost.
    fn install(self: Box<Self>, label: &[u8]) -> Result<(), EngineError>;
}

/// Names a copy's file may have: no path, nothing hidden, nothing long.
#[cfg(feature = "rocksdb")]
pub(crate) fn is_plain_name(name: &str) -> bool {
    const MAX_NAME: usize = 64;
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
