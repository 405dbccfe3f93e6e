//! Leases in the order of their deadlines, and how many fall into each stretch
//! of time: a look at what is coming must not cost a look at every lease.

use std::collections::{BTreeMap, BTreeSet};

use super::{Moment, SECOND};

/// Length of a stretch. A lease counts as due at the beginning of its own, so
/// the pace is at most that much too high.
const STRETCH: Moment = SECOND / 20;

#[derive(Default)]
pub struct Deadlines {
    order: BTreeSet<(Moment, i64)>,
    /// Leases by stretch; none is 0.
    counts: BTreeMap<Moment, u64>,
}

impl Deadlines {
    pub fn insert(&mut self, at: Moment, id: i64) {
        if self.order.insert((at, id)) {
            *self.counts.entry(at / STRETCH).or_default() += 1;
        }
    }

    pub fn remove(&mut self, at: Moment, id: i64) {
        if !self.order.remove(&(at, id)) {
            return;
        }
        if let Some(count) = self.counts.get_mut(&(at / STRETCH)) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&(at / STRETCH));
            }
        }
    }

    pub fn first(&self) -> Option<(Moment, i64)> {
        self.order.first().copied()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.counts.values().sum::<u64>(), self.order.len() as u64);
        self.order.len()
    }

    /// See [`Lessor::pace`](super::Lessor::pace).
    pub fn pace(&self, now: Moment, late: Moment) -> u64 {
        let soon = now.saturating_add(late) / STRETCH;
        let mut leases = 0_u64;
        let paces = self.counts.range(..=soon).map(|(stretch, count)| {
            leases += count;
            let left = (stretch * STRETCH).saturating_add(late).saturating_sub(now);
            leases.saturating_mul(SECOND) / left.max(SECOND / 100)
        });
        paces.max().unwrap_or(0)
    }
}
