//! Turns of one client connection's calls at what all clients share: the rounds of
//! the group, threads for reads, and room for large replies. A client with many calls
//! waits for itself, and not the others for it.
//!
//! Whose turn it is at a thread keeps it until its reply has left, if that is large:
//! what its client does not read is a reason to put together nothing more for it.
//! Those that wait hold neither a sight of the rows nor room for a reply.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::limits;

/// Of one connection.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rounds: Semaphore,
    reads: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Inner {
            rounds: Semaphore::new(limits::CALLS_PER_CONNECTION),
            reads: Arc::new(Semaphore::new(limits::READS_PER_CONNECTION)),
        }))
    }
}

impl Turns {
    /// For one call.
    pub fn call(&self) -> Turn {
        Turn {
            turns: Some(self.clone()),
            held: Mutex::default(),
        }
    }
}

/// Somebody's turn, until all copies of this are dropped.
pub type Held = Arc<OwnedSemaphorePermit>;

/// Of one call. The default is that of a call which needs none.
#[derive(Debug, Default)]
pub struct Turn {
    turns: Option<Turns>,
    held: Mutex<Option<Held>>,
}

impl Turn {
    /// Waits for one at the rounds of the group, for as long as what it gives is
    /// not dropped.
    pub async fn round(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.turns.as_ref()?.0.rounds.acquire().await.ok()
    }

    /// Waits for one at the threads; `None` if none is needed.
    pub async fn wait(&self) -> Option<Held> {
        let reads = self.turns.as_ref()?.0.reads.clone();
        if let Some(held) = self.held.lock().clone() {
            return Some(held);
        }
        // Nobody closes it.
        let held = Arc::new(reads.acquire_owned().await.ok()?);
        *self.held.lock() = Some(held.clone());
        Some(held)
    }

    /// From here on it is only whose copies it is.
    pub fn end(&self) -> Option<Held> {
        self.held.lock().take()
    }
}

/// The same call's, for who must not keep others waiting.
impl Clone for Turn {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    // Tokio makes a task wait that has done much in one turn.
    use tokio::task::unconstrained;

    use super::*;

    #[tokio::test]
    async fn a_connection_waits_for_itself() {
        let turns = Turns::default();
        let calls: Vec<_> = (0..=limits::READS_PER_CONNECTION)
            .map(|_| turns.call())
            .collect();
        let (last, first) = calls.split_last().expect("more than one");
        for call in first {
            assert!(call.wait().now_or_never().flatten().is_some());
            // It has it already.
            assert!(call.wait().now_or_never().flatten().is_some());
        }
        assert!(last.wait().now_or_never().is_none(), "all turns are taken");
        assert!(Turns::default().call().wait().now_or_never().is_some());
        let reply = first[0].end();
        assert!(
            last.wait().now_or_never().is_none(),
            "the reply has not left"
        );
        drop(reply);
        assert!(last.wait().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_connection_has_so_many_calls_before_the_group() {
        let turns = Turns::default();
        let calls: Vec<_> = (0..=limits::CALLS_PER_CONNECTION)
            .map(|_| turns.call())
            .collect();
        let (last, first) = calls.split_last().expect("more than one");
        let rounds: Vec<_> = first
            .iter()
            .map(|call| {
                unconstrained(call.round())
                    .now_or_never()
                    .flatten()
                    .expect("a turn")
            })
            .collect();
        assert!(unconstrained(last.round()).now_or_never().is_none());
        assert!(
            unconstrained(last.wait()).now_or_never().is_some(),
            "another matter"
        );
        drop(rounds);
        assert!(unconstrained(last.round()).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_needs_none_does_not_wait() {
        assert!(Turn::default().wait().now_or_never().is_some());
    }
}
