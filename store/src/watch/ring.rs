//! The newest revisions in memory: live watches are told from here, and so are those
//! that lag by a little.

use std::{collections::VecDeque, sync::Arc};

use super::event::Revision;

/// Revisions without a gap, as many as fit.
#[derive(Debug)]
pub struct Ring {
    revisions: VecDeque<Arc<Revision>>,
    bytes: usize,
    limit: usize,
    newest: i64,
}

impl Ring {
    /// Everything up to `newest` is past.
    pub fn new(newest: i64, limit: usize) -> Self {
        Self {
            revisions: VecDeque::new(),
            bytes: 0,
            limit,
            newest,
        }
    }

    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// The oldest revision that is here; one after the newest if none is.
    pub fn oldest(&self) -> i64 {
        self.newest + 1 - self.revisions.len() as i64
    }

    /// Adds the revision after the newest. A gap makes all before it past.
    pub fn push(&mut self, revision: Arc<Revision>) {
        if revision.number != self.newest + 1 {
            self.forget(revision.number - 1);
        }
        self.newest = revision.number;
        self.bytes += revision.bytes();
        self.revisions.push_back(revision);
        while self.bytes > self.limit && self.revisions.len() > 1 {
            if let Some(oldest) = self.revisions.pop_front() {
                self.bytes -= oldest.bytes();
            }
        }
    }

    /// Everything up to `newest` is past.
    pub fn forget(&mut self, newest: i64) {
        self.revisions.clear();
        self.bytes = 0;
        self.newest = newest;
    }

    /// Up to `count` revisions from `from` on; `None` if the first of them is
    /// past.
    pub fn from(&self, from: i64, count: usize) -> Option<Vec<Arc<Revision>>> {
        let skip = usize::try_from(from - self.oldest()).ok()?;
        Some(
            self.revisions
                .iter()
                .skip(skip)
                .take(count)
                .cloned()
                .collect(),
        )
    }
}
