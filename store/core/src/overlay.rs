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

use crate::view::{Batch, Family, RowOp, RowSpan, View, ViewError, Visit, VisitEach};

/// The rows of one family: present, or known to be absent.
type Rows = BTreeMap<Bytes, Option<Bytes>>;

pub struct Overlay<'a, V: ?Sized> {
    base: &'a V,
    changes: [Rows; 3],
    /// Rows of the base read ahead. Only looked up by key.
    prefetched: [Rows; 3],
    /// While a change that may be taken back goes on: what each row's change
    /// was before, newest last.
    undo: Option<Vec<Undo>>,
}

struct Undo {
    family: Family,
    key: Bytes,
    /// `None`: the row was not changed.
    before: Option<Option<Bytes>>,
}

impl<'a, V: View + ?Sized> Overlay<'a, V> {
    pub fn new(base: &'a V) -> Self {
        Self {
            base,
            changes: Default::default(),
            prefetched: Default::default(),
            undo: None,
        }
    }

    pub fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.change(family, key, Some(value));
    }

    pub fn delete(&mut self, family: Family, key: Bytes) {
        self.change(family, key, None);
    }

    fn change(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        let changes = &mut self.changes[family as usize];
        match &mut self.undo {
            Some(undo) => {
                let before = changes.insert(key.clone(), value);
                undo.push(Undo {
                    family,
                    key,
                    before,
                });
            }
            None => {
                changes.insert(key, value);
            }
        }
    }

    /// Reads the rows of `keys` from the base at once. Later reads of them cost
    /// nothing. For keys that the next commands will read, see
    /// [`prefetch_keys`](crate::prefetch_keys).
    pub fn prefetch(&mut self, family: Family, keys: &[Bytes]) -> Result<(), ViewError> {
        let wanted: Vec<&[u8]> = keys.iter().map(Bytes::as_ref).collect();
        let rows = self.base.multi_get(family, &wanted)?;
        self.prefetched[family as usize].extend(keys.iter().cloned().zip(rows));
        Ok(())
    }

    /// A row that was changed or read ahead.
    fn known(&self, family: Family, key: &[u8]) -> Option<&Option<Bytes>> {
        self.changes[family as usize]
            .get(key)
            .or_else(|| self.prefetched[family as usize].get(key))
    }

    /// Whether a row of a span that is not empty was changed.
    fn changed(&self, family: Family, (from, to): RowSpan<'_>) -> bool {
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.changes[family as usize]
            .range::<[u8], _>((Bound::Included(from), upper))
            .next()
            .is_some()
    }

    /// From here on changes can be taken back.
    pub(crate) fn begin(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// Keeps the changes made since [`Overlay::begin`].
    pub(crate) fn commit(&mut self) {
        self.undo = None;
    }

    /// Takes back the changes made since [`Overlay::begin`].
    pub(crate) fn rollback(&mut self) {
        for Undo {
            family,
            key,
            before,
        } in self.undo.take().into_iter().flatten().rev()
        {
            let changes = &mut self.changes[family as usize];
            match before {
                Some(change) => changes.insert(key, change),
                None => changes.remove(&key),
            };
        }
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
        match self.known(family, key) {
            Some(row) => Ok(row.clone()),
            None => self.base.get(family, key),
        }
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, ViewError> {
        let mut rows: Vec<Option<Bytes>> = Vec::with_capacity(keys.len());
        let mut unknown = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            let known = self.known(family, key);
            if known.is_none() {
                unknown.push(place);
            }
            rows.push(known.cloned().flatten());
        }
        let wanted: Vec<&[u8]> = unknown.iter().map(|place| keys[*place]).collect();
        for (place, row) in unknown
            .into_iter()
            .zip(self.base.multi_get(family, &wanted)?)
        {
            rows[place] = row;
        }
        Ok(rows)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), ViewError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut changes = self.changes[family as usize]
            .range::<[u8], _>((Bound::Included(from), upper))
            .peekable();
        let mut stopped = false;
        self.base.scan(family, from, to, &mut |key, value| {
            while let Some((changed, change)) =
                changes.next_if(|(changed, _)| changed.as_ref() < key)
            {
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

    fn scan_each(
        &self,
        family: Family,
        spans: &[RowSpan<'_>],
        visit: VisitEach<'_>,
    ) -> Result<(), ViewError> {
        let mut unchanged = Vec::with_capacity(spans.len());
        let mut places = Vec::with_capacity(spans.len());
        for (place, span) in spans.iter().enumerate() {
            let (from, to) = *span;
            if to.is_some_and(|to| to <= from) {
                continue;
            }
            if self.changed(family, *span) {
                self.scan(family, from, to, &mut |key, row| visit(place, key, row))?;
            } else {
                unchanged.push(*span);
                places.push(place);
            }
        }
        self.base
            .scan_each(family, &unchanged, &mut |place, key, row| {
                visit(places[place], key, row)
            })
    }
}
