//! etcd's rule that a transaction changes a key once.
//!
//! The rule, exactly: on each level, a put must not meet a delete of its own
//! level, nor a put or delete of a transaction nested there; puts of nested
//! transactions must not meet deletes of this level, nor puts or deletes of
//! those nested before. The two branches of one transaction exclude each other,
//! so they may put the same key. What the rule does not see: a range that is
//! open upwards (`range_end` of one zero byte), and deletes of a nested
//! transaction that follow puts of one nested before.
//!
//! Sets are merged the smaller into the larger, and the smaller is the one
//! that is walked, so the cost grows little faster than the operations.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use crate::{
    command::{DeleteRange, Operation},
    error::Error,
};

/// Checks one branch of a transaction whose depth has been checked.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Error> {
    let mut changes = 0;
    for operation in operations {
        match operation {
            Operation::Put(_) | Operation::DeleteRange(_) => changes += 1,
            Operation::Txn(_) => return Touched::by(operations).map(drop),
            Operation::Range(_) | Operation::Empty => {}
        }
    }
    if changes > 1 {
        Touched::by(operations).map(drop)
    } else {
        Ok(())
    }
}

/// What the operations of one branch may change.
#[derive(Default)]
struct Touched<'t> {
    puts: BTreeSet<&'t [u8]>,
    deletes: Deletes<'t>,
}

impl<'t> Touched<'t> {
    fn by(operations: &'t [Operation]) -> Result<Self, Error> {
        let mut touched = Self::default();
        for operation in operations {
            if let Operation::DeleteRange(delete) = operation {
                touched.deletes.add(delete);
            }
        }
        for operation in operations {
            if let Operation::Txn(txn) = operation {
                touched.add_nested(Self::by(&txn.success)?, Self::by(&txn.failure)?)?;
            }
        }
        for operation in operations {
            if let Operation::Put(put) = operation
                && (touched.deletes.contains(&put.key) || !touched.puts.insert(&put.key))
            {
                return Err(Error::DuplicateKey);
            }
        }
        Ok(touched)
    }

    fn add_nested(&mut self, success: Self, failure: Self) -> Result<(), Error> {
        for branch in [&success, &failure] {
            if intersects(&branch.puts, &self.puts) || self.deletes.contains_any(&branch.puts) {
                return Err(Error::DuplicateKey);
            }
        }
        for branch in [success, failure] {
            merge(&mut self.puts, branch.puts);
            self.deletes.merge(branch.deletes);
        }
        Ok(())
    }
}

fn intersects(a: &BTreeSet<&[u8]>, b: &BTreeSet<&[u8]>) -> bool {
    let (small, large) = if a.len() < b.len() { (a, b) } else { (b, a) };
    small.iter().any(|key| large.contains(key))
}

fn merge<'t>(into: &mut BTreeSet<&'t [u8]>, mut other: BTreeSet<&'t [u8]>) {
    if into.len() < other.len() {
        std::mem::swap(into, &mut other);
    }
    into.extend(other);
}

/// A set of keys given by keys and spans.
#[derive(Default)]
struct Deletes<'t> {
    keys: BTreeSet<&'t [u8]>,
    /// Begin -> end, not included. Disjoint.
    spans: BTreeMap<&'t [u8], &'t [u8]>,
}

impl<'t> Deletes<'t> {
    fn add(&mut self, delete: &'t DeleteRange) {
        if delete.range_end.is_empty() {
            self.keys.insert(&delete.key);
        } else {
            self.add_span(&delete.key, &delete.range_end);
        }
    }

    /// A span that ends where it begins or before holds nothing; one that is
    /// open upwards looks like that.
    fn add_span(&mut self, mut from: &'t [u8], mut to: &'t [u8]) {
        if to <= from {
            return;
        }
        if let Some((before, end)) = self.spans.range(..=from).next_back()
            && *end >= from
        {
            from = before;
        }
        while let Some((&begin, &end)) = self.spans.range(from..=to).next() {
            self.spans.remove(begin);
            to = to.max(end);
        }
        self.spans.insert(from, to);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let in_span = || {
            self.spans
                .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
                .next_back()
                .is_some_and(|(_, end)| *end > key)
        };
        self.keys.contains(key) || in_span()
    }

    fn contains_any(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() < self.keys.len() + self.spans.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        self.keys.iter().any(|key| keys.contains(key))
            || self
                .spans
                .iter()
                .any(|(from, to)| keys.range(*from..*to).next().is_some())
    }

    fn merge(&mut self, mut other: Self) {
        merge(&mut self.keys, other.keys);
        if self.spans.len() < other.spans.len() {
            std::mem::swap(&mut self.spans, &mut other.spans);
        }
        for (from, to) in other.spans {
            self.add_span(from, to);
        }
    }
}
