//! Collects what really happened: every change of every revision, seen
//! through a watch on each member from revision 1, or, where the server has no
//! watch, through scans at the revisions that no acknowledged write explains.
//!
//! The evidence resolves unknown outcomes; it never replaces a reply.

pub mod known;
pub mod scan;
pub mod watch;

use std::sync::atomic::{AtomicI64, Ordering};

/// How far the evidence reaches, for each collector.
pub struct Collected {
    through: Vec<AtomicI64>,
    /// The revision every collector must reach before the run ends; zero
    /// while the load runs.
    goal: AtomicI64,
}

impl Collected {
    pub fn new(collectors: usize) -> Collected {
        Collected {
            through: (0..collectors).map(|_| AtomicI64::new(1)).collect(),
            goal: AtomicI64::new(0),
        }
    }

    /// Everything up to this revision is on record with every collector, so
    /// it may be compacted away.
    pub fn through(&self) -> i64 {
        self.through
            .iter()
            .map(|t| t.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }

    fn advance(&self, collector: usize, rev: i64) {
        if let Some(t) = self.through.get(collector) {
            t.fetch_max(rev, Ordering::Relaxed);
        }
    }

    pub fn set_goal(&self, rev: i64) {
        self.goal.store(rev, Ordering::Relaxed);
    }

    fn goal(&self) -> Option<i64> {
        Some(self.goal.load(Ordering::Relaxed)).filter(|g| *g > 0)
    }
}
