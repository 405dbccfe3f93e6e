//! The log as its callers see it: everything submitted, durable or not.
//!
//! Bounds, the term of every index, and the entries of the tail. Knows nothing of files.
//!
//! Invariants: the tail holds every index from `tail_first` to the last one, without a gap, and
//! every entry that is not durable is in it. What is below `tail_first` is read from the segments.

use std::collections::VecDeque;

use super::limits::ITEM_OVERHEAD_BYTES;
use super::{Entry, LogId};

#[derive(Debug, Default)]
pub(super) struct View {
    purged: Option<LogId>,
    last: Option<LogId>,
    /// (first index, term) of each run of entries with one term, ascending, none empty.
    terms: VecDeque<(u64, u64)>,
    tail: VecDeque<Entry>,
    tail_first: u64,
    tail_bytes: usize,
    truncations: u64,
}

/// The index after `id`, or 0 where there is none: bounds as plain numbers.
pub(super) fn after(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

impl View {
    /// A view of what recovery found; all of it is in the segments.
    pub fn recovered(
        purged: Option<LogId>,
        last: Option<LogId>,
        terms: VecDeque<(u64, u64)>,
    ) -> Self {
        let mut view = Self {
            purged,
            last,
            terms,
            tail_first: after(last),
            ..Self::default()
        };
        view.drop_purged_terms();
        view
    }

    pub fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub fn last(&self) -> Option<LogId> {
        self.last
    }

    /// Index of the first entry held, if there is one.
    pub fn first_index(&self) -> Option<u64> {
        let first = self.purged.map_or_else(
            || self.terms.front().map_or(0, |run| run.0),
            |id| id.index + 1,
        );
        (first < after(self.last)).then_some(first)
    }

    pub fn tail_first(&self) -> u64 {
        self.tail_first
    }

    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Number of truncations so far: entries read before and after one do not belong together.
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// The term of an entry held, or of the last purged one.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        match self.purged {
            Some(purged) if index == purged.index => return Some(purged.term),
            Some(purged) if index < purged.index => return None,
            _ => {}
        }
        if index >= after(self.last) {
            return None;
        }
        term_at(&self.terms, index)
    }

    /// Appends one entry, which the caller has checked to follow the last one.
    pub fn push(&mut self, entry: Entry) {
        push_term(&mut self.terms, entry.index, entry.term);
        if self.tail.is_empty() {
            self.tail_first = entry.index;
        }
        self.last = Some(LogId {
            term: entry.term,
            index: entry.index,
        });
        self.tail_bytes += cost(&entry);
        self.tail.push_back(entry);
    }

    /// Drops all entries after `last`, which is an entry held, the last purged one, or none.
    pub fn truncate(&mut self, last: Option<LogId>) {
        let end = after(last);
        truncate_terms(&mut self.terms, end);
        while self.tail.back().is_some_and(|entry| entry.index >= end) {
            self.drop_back();
        }
        self.tail_first = self.tail_first.min(end);
        self.last = last;
        self.truncations += 1;
    }

    /// Forgets everything through `upto`. Beyond the last entry, the log becomes empty there.
    pub fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        while self
            .tail
            .front()
            .is_some_and(|entry| entry.index <= upto.index)
        {
            self.drop_front();
        }
        if after(self.last) <= upto.index + 1 {
            self.last = Some(upto);
            self.terms.clear();
            self.tail_first = upto.index + 1;
        }
        self.drop_purged_terms();
    }

    /// Lets go of the oldest entries of the tail until it is within `budget` bytes, but keeps all
    /// from `durable_next` on.
    pub fn evict(&mut self, budget: usize, durable_next: u64) {
        while self.tail_bytes > budget
            && self
                .tail
                .front()
                .is_some_and(|entry| entry.index < durable_next)
        {
            self.drop_front();
        }
    }

    /// The entries of the tail from `from` on.
    pub fn tail_from(&self, from: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(from.saturating_sub(self.tail_first)).unwrap_or(usize::MAX);
        self.tail.iter().skip(skip)
    }

    fn drop_front(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.tail_bytes -= cost(&entry);
            self.tail_first = entry.index + 1;
        }
    }

    fn drop_back(&mut self) {
        if let Some(entry) = self.tail.pop_back() {
            self.tail_bytes -= cost(&entry);
        }
    }

    fn drop_purged_terms(&mut self) {
        let Some(purged) = self.purged else { return };
        while self
            .terms
            .get(1)
            .is_some_and(|next| next.0 <= purged.index + 1)
        {
            self.terms.pop_front();
        }
    }
}

fn cost(entry: &Entry) -> usize {
    entry.payload.len() + ITEM_OVERHEAD_BYTES
}

/// Adds an entry to runs of terms.
pub(super) fn push_term(terms: &mut VecDeque<(u64, u64)>, index: u64, term: u64) {
    if terms.back().is_none_or(|run| run.1 != term) {
        terms.push_back((index, term));
    }
}

/// Drops what runs of terms say about `end` and later indexes.
pub(super) fn truncate_terms(terms: &mut VecDeque<(u64, u64)>, end: u64) {
    while terms.back().is_some_and(|run| run.0 >= end) {
        terms.pop_back();
    }
}

/// The term of an index at or after the first run.
pub(super) fn term_at(terms: &VecDeque<(u64, u64)>, index: u64) -> Option<u64> {
    let run = terms.partition_point(|run| run.0 <= index).checked_sub(1)?;
    terms.get(run).map(|run| run.1)
}
