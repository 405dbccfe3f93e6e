//! What a replica counts of its work, and what it says of itself in numbers.

use std::{collections::BTreeMap, time::Duration};

use mizzen_core::{Command, Operation, Txn};
use mizzen_engine::Engine;
use tokio::time::Instant;

use super::{Server, proposal::Body};
use crate::{
    counters::{Counter, Distribution, Histogram},
    raft::PeerFigures,
};

/// A run of entries that takes longer than this counts as slow (etcd's
/// --warning-apply-duration).
const SLOW: Duration = Duration::from_millis(100);

/// Counted by the thread that applies, and by those that propose.
#[derive(Debug)]
pub struct Counted {
    commits: Histogram,
    slow_runs: Counter,
    proposals_failed: Counter,
    puts: Counter,
    deletes: Counter,
    txns: Counter,
    compactions: Counter,
    leases_granted: Counter,
    leases_revoked: Counter,
    leases_expired: Counter,
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

    /// An entry that is applied, whatever comes of it.
    pub fn proposal(&self, body: &Body) {
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
            Body::Command(_) | Body::Members(_) => {}
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

/// A replica in numbers.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub member_id: u64,
    pub has_leader: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    pub leader_changes: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub proposals_pending: u64,
    pub proposals_failed: u64,
    pub slow_runs: u64,
    pub cluster_version: Option<&'static str>,
    /// Bytes; none without a limit.
    pub quota: Option<u64>,
    pub db_bytes: i64,
    pub db_bytes_in_use: i64,
    pub revision: i64,
    pub compact_revision: i64,
    pub puts: u64,
    pub deletes: u64,
    pub txns: u64,
    pub compactions: u64,
    pub leases_granted: u64,
    pub leases_revoked: u64,
    pub leases_expired: u64,
    pub log_syncs: Distribution,
    pub log_written_bytes: u64,
    pub commits: Distribution,
    /// By id.
    pub peers: BTreeMap<u64, PeerFigures>,
}

impl<E: Engine> Server<E> {
    pub fn figures(&self) -> Figures {
        let status = self.group.status();
        let published = self.published.load();
        let (db_bytes, db_bytes_in_use) = self.db_sizes();
        let counted = &*self.counted;
        Figures {
            member_id: self.group.id(),
            has_leader: self.has_leader(),
            is_leader: self.group.is_leader(),
            is_learner: self.is_learner(),
            leader_changes: self.group.leader_changes(),
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            proposals_pending: self.waiters.pending() as u64,
            proposals_failed: counted.proposals_failed.read(),
            slow_runs: counted.slow_runs.read(),
            cluster_version: self.cluster_version(),
            quota: self.quota,
            db_bytes,
            db_bytes_in_use,
            revision: published.state.revision(),
            compact_revision: published.state.compact_revision(),
            puts: counted.puts.read(),
            deletes: counted.deletes.read(),
            txns: counted.txns.read(),
            compactions: counted.compactions.read(),
            leases_granted: counted.leases_granted.read(),
            leases_revoked: counted.leases_revoked.read(),
            leases_expired: counted.leases_expired.read(),
            log_syncs: self.group.log_syncs(),
            log_written_bytes: self.group.log_written(),
            commits: counted.commits.read(),
            peers: self.group.traffic().read(),
        }
    }
}
