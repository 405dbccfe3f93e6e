//! Memory for what clients asked for and have not been given yet: replies being
//! put together, and those that nobody has come for.
//!
//! Knows bytes. Must not know what they are for. The transport pays from a
//! budget of its own for what it receives and for what it has to send.

use std::{
    cell::Cell,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use mizzen_core::Room;

/// What is taken from the common budget at once, bytes, so that a reply of many
/// small keys does not go there for each.
const STEP: usize = 64 * 1024;

/// The budget of one member, shared by all its clients.
#[derive(Debug)]
pub struct Memory {
    free: AtomicUsize,
    /// Bytes of one reply.
    reply_bytes: usize,
}

impl Memory {
    /// `bytes` for all, of which one reply may have `reply_bytes`.
    pub fn new(bytes: usize, reply_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(bytes),
            reply_bytes: reply_bytes.min(bytes),
        })
    }

    /// For one reply; nothing is taken yet.
    pub fn grant(self: &Arc<Self>) -> Grant {
        Grant {
            memory: self.clone(),
            held: Cell::new(0),
            used: Cell::new(0),
            refused: Cell::new(None),
            wanted: None,
        }
    }

    /// For a reply that is put together elsewhere, and that has no more room once
    /// nobody holds the second: who began it has gone.
    pub fn grant_while_wanted(self: &Arc<Self>) -> (Grant, Wanted) {
        let wanted = Wanted(Arc::new(()));
        let mut grant = self.grant();
        grant.wanted = Some(Arc::downgrade(&wanted.0));
        (grant, wanted)
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |free: usize| free.checked_sub(bytes);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// Why a reply found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// It is larger than a reply may be.
    TooLarge,
    /// Others have taken what there is.
    Busy,
}

/// What one reply has taken; given back when dropped, which is when the reply
/// is the transport's.
#[derive(Debug)]
pub struct Grant {
    memory: Arc<Memory>,
    held: Cell<usize>,
    used: Cell<usize>,
    refused: Cell<Option<NoRoom>>,
    /// `None`: whoever waits does so to the end.
    wanted: Option<Weak<()>>,
}

/// Somebody waits for a reply, as long as this is not dropped.
#[derive(Debug)]
pub struct Wanted(Arc<()>);

impl Grant {
    /// The reply is put together anew, with the room that was taken for it.
    pub fn rewind(&self) {
        self.used.set(0);
    }

    /// Whoever waited has it, and may use it on.
    pub fn claim(&mut self) {
        self.wanted = None;
    }

    /// Bytes of the reply so far.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    pub fn refused(&self) -> Option<NoRoom> {
        self.refused.get()
    }
}

impl Room for Grant {
    fn take(&self, bytes: usize) -> bool {
        if self.refused.get().is_some() {
            return false;
        }
        let gone = |wanted: &Weak<()>| wanted.strong_count() == 0;
        if self.wanted.as_ref().is_some_and(gone) {
            // Nobody reads why.
            self.refused.set(Some(NoRoom::Busy));
            return false;
        }
        let used = self.used.get().saturating_add(bytes);
        if used > self.memory.reply_bytes {
            self.refused.set(Some(NoRoom::TooLarge));
            return false;
        }
        if let Some(more) = used.checked_sub(self.held.get()).filter(|more| *more > 0) {
            let more = more.next_multiple_of(STEP);
            if !self.memory.take(more) {
                self.refused.set(Some(NoRoom::Busy));
                return false;
            }
            self.held.set(self.held.get() + more);
        }
        self.used.set(used);
        true
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.memory
            .free
            .fetch_add(self.held.get(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let memory = Memory::new(3 * STEP, 2 * STEP);
        let (first, second) = (memory.grant(), memory.grant());
        assert!(first.take(1) && first.take(STEP));
        assert!(second.take(STEP));
        assert!(!second.take(1), "two steps are the first reply's");
        assert_eq!(second.refused(), Some(NoRoom::Busy));
        assert!(!second.take(0), "a reply without a part is none");
        drop(first);
        let third = memory.grant();
        assert!(third.take(2 * STEP));
        assert!(!third.take(1));
        assert_eq!(third.refused(), Some(NoRoom::TooLarge));
        drop((second, third));
        let all = memory.grant();
        assert!(all.take(2 * STEP) && memory.take(STEP));
    }

    #[test]
    fn a_reply_that_nobody_waits_for_is_not_put_together() {
        let memory = Memory::new(4 * STEP, 4 * STEP);
        let (grant, wanted) = memory.grant_while_wanted();
        assert!(grant.take(STEP) && grant.take(STEP));
        drop(wanted);
        assert!(!grant.take(1));
        drop(grant);
        let (mut grant, wanted) = memory.grant_while_wanted();
        grant.claim();
        drop(wanted);
        assert!(grant.take(4 * STEP));
    }

    #[test]
    fn a_reply_put_together_again_uses_its_room() {
        let memory = Memory::new(2 * STEP, 2 * STEP);
        let grant = memory.grant();
        assert!(grant.take(2 * STEP));
        grant.rewind();
        assert!(grant.take(2 * STEP));
        assert!(!memory.take(1));
    }
}
