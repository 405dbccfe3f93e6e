//! The engine: where a replica keeps the rows of its state machine.
//!
//! Knows rows, atomic batches, snapshots, checksums and files. Must not know
//! what a row means (etcd semantics belong to `mizzen-core`) nor why it is
//! written (Raft belongs to the store).
//!
//! Two engines stand behind the [`Engine`] trait and behave alike, which a
//! differential test holds them to: `RocksEngine`, and that of simulations
//! (`mizzen-sim`). Neither has a log of its own. What was written since
//! the last flush is lost with the process; the owner of the Raft log replays
//! it. That costs one rule for whoever writes: everything a replay needs to
//! know (the applied index above all) is a row of the same batch as its effect.

mod error;
#[cfg(feature = "rocksdb")]
mod rocks;
mod transfer;

use bytes::Bytes;
use mizzen_core::{Batch, Family, View};

pub use error::{EngineError, EngineErrorKind};
#[cfg(feature = "rocksdb")]
pub use rocks::{
    EngineOptions, FORMAT_VERSION, RocksEngine, RocksRows, RocksSnapshot, wait_closed,
};
pub use transfer::{CopiedFile, Incoming, Outgoing, Transfer};

/// Keeps rows. All methods may block on the disk: none is for an async worker.
pub trait Engine: Send + Sync + 'static {
    type Snapshot: Snapshot;

    /// Makes the changes of `batch`, in their order. They are visible together
    /// when this returns, and not durable before a flush. May block while the
    /// engine catches up with flushes and compactions ([`Engine::health`]).
    /// An error is final, and its cause (a failed flush most often) may lie
    /// further back.
    fn write(&self, batch: &Batch) -> Result<(), EngineError>;

    /// The rows as they are now. Cheap, yet not free: take one per applied
    /// batch and share it, rather than one per read.
    fn snapshot(&self) -> Self::Snapshot;

    /// When this returns, all batches written before it was called are durable.
    /// All families become durable together: at any moment a power loss leaves
    /// the rows as they were after some batch.
    fn flush(&self) -> Result<(), EngineError>;

    /// The row (`None`: no row) as a power loss at this moment would leave it. The engine may
    /// have flushed on its own, so this can be newer than the last
    /// [`Engine::flush`], never older.
    fn persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    fn size(&self) -> Result<EngineSize, EngineError>;

    /// About how many rows a family has: one that was written again and again may be
    /// counted several times until the engine has compacted it.
    fn estimated_rows(&self, family: Family) -> Result<u64, EngineError>;

    fn health(&self) -> Result<EngineHealth, EngineError>;
}

/// An immutable, consistent sight of the rows. A clone shares it. It outlives
/// the engine's own handle: the engine is closed with its last snapshot, and a
/// directory can be opened again only then.
pub trait Snapshot: View + Clone + Send + Sync + 'static {
    /// The same rows, answered from memory only and without blocking: a read
    /// that needs the disk fails with `ViewError::WouldBlock` (a scan possibly
    /// after it visited some rows).
    fn in_memory(&self) -> Self;

    /// The same rows, for reading very many of them once: reads ahead, and
    /// leaves the cache to others.
    fn bulk(&self) -> Self;
}

/// All figures in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineSize {
    /// What the files occupy, superseded rows and rotated logs included.
    pub disk: u64,
    /// An estimate of what the current rows need, as compressed as they are.
    pub in_use: u64,
    /// What would have to be written again after a power loss now.
    pub unflushed: u64,
}

/// How far the engine is from refusing or delaying writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineHealth {
    /// Writes block until flushes or compactions have caught up.
    pub write_stopped: bool,
    /// The rate in bytes per second that writes are held down to, if they are.
    pub delayed_write_rate: Option<u64>,
    /// Debts of flush and compaction in per cent of what the engine tolerates
    /// before it delays writes. May exceed 100.
    pub pressure: u32,
    /// Flushes and compactions that have failed since the engine was opened.
    pub background_errors: u64,
    /// Why every write fails at this moment, if it does.
    pub error: Option<EngineError>,
}
