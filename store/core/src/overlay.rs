//! The row changes of commands applied but not yet written, laid over a view.
//!
//! One overlay serves a whole apply batch: a later command of the batch reads
//! what an earlier one wrote, so the result does not depend on how the log was
//! cut into batches.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;

use crate::view::{Batch, Family, RowOp, View, ViewError};

pub struct Overlay<'a, V: ?Sized> {
    base: &'a V,
    changes: [BTreeMap<Bytes, Option<Bytes>>; 3],
}

impl<'a, V: View + ?Sized> Overlay<'a, V> {
    pub fn new(base: &'a V) -> Self {
        Self { base, changes: Default::default() }
    }

    pub fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.changes[family as usize].insert(key, Some(value));
    }

    pub fn delete(&mut self, family: Family, key: Bytes) {
        self.changes[family as usize].insert(key, None);
    }

    /// Number of changed rows, over all families.
    pub fn len(&self) -> usize {
        self.changes.iter().map(BTreeMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changes, ordered by family and key.
    pub fn into_batch(self) -> Batch {
        let mut ops = Vec::with_capacity(self.len());
        for (family, changes) in Family::ALL.into_iter().zip(self.changes) {
            for (key, value) in changes {
                ops.push(match value {
                    Some(value) => RowOp::Put { family, key, value },
                    None => RowOp::Delete { family, key },
                });
            }
        }
        Batch { ops }
    }
}

impl<V: View + ?Sized> View for Overlay<'_, V> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.changes[family as usize].get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut changes = self.changes[family as usize].range::<[u8], _>((Bound::Included(from), upper)).peekable();
        let mut stopped = false;
        self.base.scan(family, from, to, &mut |key, value| {
            while let Some((changed, change)) = changes.next_if(|(changed, _)| changed.as_ref() < key) {
                if let Some(new) = change
                    && visit(changed, new).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let visited = match changes.next_if(|(changed, _)| changed.as_ref() == key) {
                Some((_, Some(new))) => visit(key, new),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(key, value),
            };
            stopped = visited.is_break();
            visited
        })?;
        if !stopped {
            for (changed, change) in changes {
                if let Some(new) = change
                    && visit(changed, new).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}
