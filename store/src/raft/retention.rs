//! How long the log keeps what the rows hold already.
//!
//! A follower that is behind is brought up to date from the log, or, when that
//! does not reach back far enough, by a copy of all rows. So a part of the log
//! stays that is cheap next to such a copy; what a transfer or a follower on
//! its way depends on stays for longer; and nothing goes that is not durable in
//! the rows.

use std::{sync::Arc, time::Duration};

use mizzen_wal as wal;
use openraft::{Instant as _, async_runtime::watch::WatchReceiver as _};
use tokio::time::Instant;

use super::{machine, snapshot::Holds, types::RaftLogId};
use crate::limits;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Entries after which the rows are made durable and the log is cut, if
    /// that is to be counted in entries at all.
    pub snapshot_entries: Option<u64>,
    /// Entries that then stay for followers that are behind.
    pub catchup_entries: u64,
}

/// How often there is a look at whether something is due. Tests write for
/// fractions of a second only.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1_000 });

pub struct Purger {
    raft: machine::Raft,
    wal: Arc<wal::Wal>,
    holds: Holds,
    retention: Retention,
    flush_at: Instant,
    /// [`wal::Wal::written_bytes`] when the rows were last made durable.
    flushed_bytes: u64,
    purged: u64,
}

/// A look at the group.
struct Metrics {
    applied: Option<RaftLogId>,
    /// What is durable in the rows.
    flushed: Option<RaftLogId>,
    /// The oldest position from which a follower within reach goes on.
    needed: Option<u64>,
}

/// From one flush to the next at most: not the same on every member, for a
/// quorum goes on beside one that flushes.
fn interval() -> Duration {
    limits::FLUSH_INTERVAL.mul_f64(rand::random_range(0.5..1.0))
}

fn index(log_id: Option<RaftLogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index)
}

impl Purger {
    pub fn new(
        raft: machine::Raft,
        wal: Arc<wal::Wal>,
        holds: Holds,
        retention: Retention,
    ) -> Self {
        let flushed_bytes = wal.written_bytes();
        let purged = wal.purged().map_or(0, |(_, index)| index);
        Self {
            raft,
            wal,
            holds,
            retention,
            flush_at: Instant::now() + interval(),
            flushed_bytes,
            purged,
        }
    }

    /// Works until the group stops.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.tell_purged();
            let metrics = self.look();
            let done = if self.is_flush_due(&metrics) {
                self.flush(&metrics).await
            } else {
                Some(())
            };
            let metrics = self.look();
            let purged = match self.purge_target(&metrics) {
                Some(upto) => self.raft.trigger().purge_log(upto).await.ok(),
                None => Some(()),
            };
            if done.is_none() || purged.is_none() {
                return;
            }
        }
    }

    /// A purge takes place when nobody reads what goes.
    fn tell_purged(&mut self) {
        let purged = self.wal.purged().map_or(0, |(_, index)| index);
        if purged > self.purged {
            self.purged = purged;
            tracing::info!(index = purged, "purged the raft log");
        }
    }

    fn look(&self) -> Metrics {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let followers = metrics.replication.iter().flatten();
        let heartbeats = metrics.heartbeat.as_ref();
        let needed = followers
            .filter(|(member, _)| {
                heartbeats
                    .and_then(|heartbeats| heartbeats.get(*member).copied().flatten())
                    .is_some_and(|heard| heard.elapsed() < limits::FOLLOWER_GONE_AFTER)
            })
            .map(|(_, matched)| index(*matched))
            .min();
        Metrics {
            applied: metrics.last_applied,
            flushed: metrics.snapshot,
            needed,
        }
    }

    fn is_flush_due(&self, metrics: &Metrics) -> bool {
        let unflushed = index(metrics.applied).saturating_sub(index(metrics.flushed));
        if unflushed == 0 {
            return false;
        }
        Instant::now() >= self.flush_at
            || self.wal.written_bytes() - self.flushed_bytes >= limits::FLUSH_LOG_BYTES
            || self
                .retention
                .snapshot_entries
                .is_some_and(|entries| unflushed >= entries)
    }

    /// Makes durable what has been applied. A failure stops the group.
    async fn flush(&mut self, metrics: &Metrics) -> Option<()> {
        let (next, bytes) = (Instant::now() + interval(), self.wal.written_bytes());
        let mut progress = self.raft.watch_snapshot_progress();
        self.raft.trigger().snapshot().await.ok()?;
        progress.wait_until_ge(&metrics.applied).await.ok()?;
        (self.flush_at, self.flushed_bytes) = (next, bytes);
        Some(())
    }

    /// Up to where the log can go now, if anything can.
    fn purge_target(&self, metrics: &Metrics) -> Option<u64> {
        let mut target = self.wal.index_before_last(limits::LOG_KEEP_BYTES);
        if self.retention.snapshot_entries.is_some() {
            let by_entries = index(metrics.applied).checked_sub(self.retention.catchup_entries);
            target = target.max(by_entries);
        }
        // Who counts entries does not want to wait for followers, as etcd does not.
        let needed = metrics
            .needed
            .filter(|_| self.retention.snapshot_entries.is_none());
        let held = self.holds.lowest().into_iter().chain(needed).min();
        let mut target = target?.min(index(metrics.flushed));
        if let Some(held) = held
            && self.wal.size_bytes() <= limits::LOG_HOLD_BYTES
        {
            target = target.min(held);
        }
        (target > self.purged).then_some(target)
    }
}
