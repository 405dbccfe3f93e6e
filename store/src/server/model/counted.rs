//! What a replica counts of its work.

use std::time::Duration;

use mizzen_core::{Command, Operation, Txn};
use mizzen_counters::{Counter, Histogram};
use tokio::time::Instant;

use super::proposal::Body;

/// A run of entries that takes longer than this counts as slow (etcd's
/// --warning-apply-duration).
const SLOW: Duration = Duration::from_millis(100);

/// Counted by the thread that applies, and by those that propose.
#[derive(Debug)]
pub struct Counted {
    /// Batches of rows written.
    pub commits: Histogram,
    pub slow_runs: Counter,
    pub proposals_failed: Counter,
    pub puts: Counter,
    pub deletes: Counter,
    pub txns: Counter,
    pub compactions: Counter,
    pub leases_granted: Counter,
    pub leases_revoked: Counter,
    pub leases_expired: Counter,
}

impl Counted {
    pub fn new() -> Self {
        Self {
            // etcd's buckets.
            commits: Histogram::doubling(Duration::from_millis(1), 14),
            slow_runs: Counter::default(),
            proposals_failed: Counter::default(),
            puts: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            compactions: Counter::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_expired: Counter::default(),
        }
    }

    /// Applies a run of entries.
    pub fn run<T>(&self, run: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = run();
        if begun.elapsed() > SLOW {
            self.slow_runs.add(1);
        }
        done
    }

    /// Writes a batch of rows.
    pub fn commit<T>(&self, write: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = write();
        self.commits.observe(begun.elapsed());
        done
    }

    pub fn proposal_failed(&self) {
        self.proposals_failed.add(1);
    }

    /// An entry that is applied and was not refused.
    pub fn applied(&self, body: &Body) {
        match body {
            Body::Command(Command::Put(_)) => self.puts.add(1),
            Body::Command(Command::DeleteRange(_)) => self.deletes.add(1),
            Body::Command(Command::Txn(txn)) => {
                self.txns.add(1);
                let (puts, deletes) = writes(txn);
                self.puts.add(puts);
                self.deletes.add(deletes);
            }
            Body::Command(Command::Compact(_)) => self.compactions.add(1),
            Body::Command(Command::LeaseGrant(_)) => self.leases_granted.add(1),
            Body::Command(Command::LeaseRevoke(_)) => self.leases_revoked.add(1),
            Body::Expiry(ids) => {
                self.leases_expired.add(ids.len() as u64);
                self.leases_revoked.add(ids.len() as u64);
            }
            Body::Command(_) | Body::Members(_) | Body::Auth(_) => {}
        }
    }
}

/// Puts and deletes in a transaction, in the branch with more of them: which one
/// is taken is not known here.
fn writes(txn: &Txn) -> (u64, u64) {
    let branch = |operations: &[Operation]| {
        operations
            .iter()
            .fold((0, 0), |(puts, deletes), operation| {
                let (more_puts, more_deletes) = match operation {
                    Operation::Put(_) => (1, 0),
                    Operation::DeleteRange(_) => (0, 1),
                    Operation::Txn(nested) => writes(nested),
                    Operation::Range(_) | Operation::Empty => (0, 0),
                };
                (puts + more_puts, deletes + more_deletes)
            })
    };
    branch(&txn.success).max(branch(&txn.failure))
}
