//! Running totals, for the progress line and for what clients do next;
//! checks count from the history.

use crate::clock::Nanos;
use crate::evidence::known::Known;
use crate::history::op::{Op, Outcome};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

#[derive(Default)]
pub struct Stats {
    pub ok: AtomicU64,
    pub fail: AtomicU64,
    pub unknown: AtomicU64,
    /// When a write was last acknowledged.
    pub last_ack: AtomicU64,
    /// The highest revision any reply showed.
    pub head: AtomicI64,
    /// Revisions that an acknowledged write or a watch explains.
    pub known: Mutex<Known>,
}

impl Stats {
    pub fn count(&self, op: &Op) {
        match &op.out {
            Outcome::Ok { rev, .. } => {
                self.ok.fetch_add(1, Ordering::Relaxed);
                self.head.fetch_max(*rev, Ordering::Relaxed);
                if op.made_revision() {
                    self.last_ack.fetch_max(op.end, Ordering::Relaxed);
                    self.known.lock().insert(*rev);
                }
            }
            Outcome::Fail { .. } => {
                self.fail.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown { .. } => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub fn total(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
            + self.fail.load(Ordering::Relaxed)
            + self.unknown.load(Ordering::Relaxed)
    }

    pub fn last_ack(&self) -> Nanos {
        self.last_ack.load(Ordering::Relaxed)
    }

    pub fn head(&self) -> i64 {
        self.head.load(Ordering::Relaxed)
    }
}
