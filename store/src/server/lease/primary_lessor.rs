//! The leases this member looks after while it leads; nothing at other times.
//!
//! The applying thread tells of leases that come and go, in the order of the
//! log and once they can be seen in the rows.

use std::time::Duration;

use mizzen_core::Lease;
use mizzen_planted::{bug, sometimes};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::change::Change;
#[cfg(feature = "planted")]
use super::own_expiry::OwnExpiry;
use crate::{
    lease::{Lessor, Takeover},
    limits,
};

enum Phase {
    /// Another member leads.
    Demoted,
    /// The leases are being read from the rows. Meanwhile: what changes, with
    /// the applied index after it; `None` once that was too much.
    Loading(Option<Vec<(u64, Change)>>),
    Promoted {
        term: u64,
        lessor: Lessor,
    },
}

pub struct PrimaryLessor {
    origin: Instant,
    phase: Mutex<Phase>,
    #[cfg(feature = "planted")]
    own: OwnExpiry,
}

impl PrimaryLessor {
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            phase: Mutex::new(Phase::Demoted),
            #[cfg(feature = "planted")]
            own: OwnExpiry::new(),
        }
    }

    /// Leases that a follower ends without the log.
    #[cfg(feature = "planted")]
    pub fn ended_here(&self) -> Vec<i64> {
        match *self.phase.lock() {
            Phase::Demoted => self.own.ended(self.now()),
            Phase::Loading(_) | Phase::Promoted { .. } => Vec::new(),
        }
    }

    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Leases changed, and the rows up to `index` show it.
    pub fn applied(&self, index: u64, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let now = self.now();
        #[cfg(feature = "planted")]
        self.own.applied(changes, now);
        match &mut *self.phase.lock() {
            Phase::Demoted => {}
            Phase::Loading(seen) => {
                let room = |seen: &Vec<_>| seen.len() + changes.len() <= limits::LEASE_CHANGES;
                *seen = seen.take().filter(room).map(|mut seen| {
                    seen.extend(changes.iter().map(|change| (index, *change)));
                    seen
                });
            }
            Phase::Promoted { lessor, .. } => {
                for change in changes {
                    change.make(lessor, now);
                }
            }
        }
    }

    /// From here on changes are remembered. Rows looked at later are complete
    /// with them.
    pub fn load(&self) {
        *self.phase.lock() = Phase::Loading(Some(Vec::new()));
    }

    /// What a leader begins with that finds these leases. Takes its time if
    /// they are many.
    pub fn restored(&self, leases: &[(i64, Lease)], takeover: Takeover) -> Lessor {
        let now = self.now();
        let mut lessor = Lessor::new(limits::LEASE_CHECKPOINT_INTERVAL);
        for (id, lease) in leases {
            let left = bug!("early-lease-after-election", lease.remaining => 1);
            lessor.restore(now, takeover, *id, lease.ttl, left);
        }
        lessor
    }

    /// Takes over the leases that the rows held at `index`. False: too much
    /// has changed since; to be loaded again.
    pub fn promote(&self, term: u64, index: u64, mut lessor: Lessor) -> bool {
        let now = self.now();
        let mut phase = self.phase.lock();
        let Phase::Loading(Some(seen)) = &mut *phase else {
            return false;
        };
        sometimes!("leases-changed-during-an-election", !seen.is_empty());
        for (changed_at, change) in seen {
            if *changed_at > index {
                change.make(&mut lessor, now);
            }
        }
        *phase = Phase::Promoted { term, lessor };
        true
    }

    pub fn demote(&self) {
        let phase = std::mem::replace(&mut *self.phase.lock(), Phase::Demoted);
        // Freeing many leases takes a moment, in which nobody need wait.
        drop(phase);
    }

    /// Looks at the leases with the time it is now and the term this member
    /// leads; `None` if it does not, or not yet.
    pub fn with<T>(&self, look: impl FnOnce(&mut Lessor, Duration, u64) -> T) -> Option<T> {
        match &mut *self.phase.lock() {
            // The time is taken under the lock, so that it never goes back.
            Phase::Promoted { term, lessor } => Some(look(lessor, self.now(), *term)),
            Phase::Demoted | Phase::Loading(_) => None,
        }
    }

    /// As [`PrimaryLessor::with`], for who acts in one term only.
    pub fn in_term<T>(
        &self,
        term: u64,
        look: impl FnOnce(&mut Lessor, Duration) -> T,
    ) -> Option<T> {
        self.with(|lessor, now, leading| (leading == term).then(|| look(lessor, now)))
            .flatten()
    }
}
