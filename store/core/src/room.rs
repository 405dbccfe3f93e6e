//! What a reply may cost in memory.
//!
//! Rows, revisions and refusals never depend on it: only whether, and how far,
//! a reply is put together for whoever waits for it.

/// Pays for the bytes of one reply.
pub trait Room {
    /// Takes `bytes` more; false if there is no room for them, from then on for
    /// nothing.
    fn take(&self, bytes: usize) -> bool;
}

/// Room for everything: for what is small whatever it is asked, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl Room for Unbounded {
    fn take(&self, _: usize) -> bool {
        true
    }
}

/// The reply of a command that is being applied.
pub(crate) struct ReplyRoom<'r> {
    /// `None`: nobody waits for it.
    room: Option<&'r dyn Room>,
    over: bool,
}

impl<'r> ReplyRoom<'r> {
    pub(crate) fn new(room: Option<&'r dyn Room>) -> Self {
        Self { room, over: false }
    }

    /// Where the rest of the reply goes; `None` if nobody waits for it, or it
    /// has become too large.
    pub(crate) fn open(&self) -> Option<&'r dyn Room> {
        self.room.filter(|_| !self.over)
    }

    /// Whether `bytes` more are to be put into the reply.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        match self.open() {
            Some(room) => {
                self.over = !room.take(bytes);
                !self.over
            }
            None => false,
        }
    }

    /// The reply will not be given.
    pub(crate) fn overflow(&mut self) {
        self.over = true;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}
