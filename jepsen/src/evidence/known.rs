//! Which revisions are explained already.

use std::collections::BTreeSet;

/// Revisions seen, as a mark below which all are and a set above it.
#[derive(Debug)]
pub struct Known {
    low: i64,
    above: BTreeSet<i64>,
}

impl Default for Known {
    /// Revision 1 is the empty store.
    fn default() -> Known {
        Known {
            low: 1,
            above: BTreeSet::new(),
        }
    }
}

impl Known {
    pub fn insert(&mut self, rev: i64) {
        if rev > self.low {
            self.above.insert(rev);
        }
        while self.above.remove(&(self.low + 1)) {
            self.low += 1;
        }
    }

    pub fn extend(&mut self, revs: impl Iterator<Item = i64>) {
        revs.for_each(|rev| self.insert(rev));
    }

    /// Every revision up to this one is known.
    pub fn low(&self) -> i64 {
        self.low
    }

    /// Up to `limit` revisions not known, from the lowest, none above `head`.
    pub fn missing(&self, head: i64, limit: usize) -> Vec<i64> {
        let mut missing = Vec::new();
        let mut next = self.low + 1;
        for &seen in self
            .above
            .range(..=head)
            .chain(std::iter::once(&(head + 1)))
        {
            while next < seen && missing.len() < limit {
                missing.push(next);
                next += 1;
            }
            next = seen + 1;
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_and_closed() {
        let mut known = Known::default();
        for rev in [2, 3, 6, 9] {
            known.insert(rev);
        }
        assert_eq!(known.low(), 3);
        assert_eq!(known.missing(10, 100), vec![4, 5, 7, 8, 10]);
        assert_eq!(known.missing(10, 2), vec![4, 5]);
        assert_eq!(known.missing(6, 100), vec![4, 5]);
        for rev in [5, 4, 2] {
            known.insert(rev);
        }
        assert_eq!(known.low(), 6);
        assert_eq!(known.missing(6, 100), Vec::<i64>::new());
    }
}
