//! How much space the versions take, counted from the commands alone, so that
//! all members agree on it and on what a compaction gives back, whatever their
//! engines make of it.
//!
//! Every change is counted when it happens, and counted again as superseded
//! when another one of its key follows; a deletion is superseded at once. What
//! a compaction gives back is what was superseded up to its revision. That sum
//! is noted at every [`INTERVAL`]th revision; a compaction in between gives back
//! what the note before it says, and the next one the rest.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    overlay::Overlay,
    rows::{
        meta::{self, Sizes},
        required,
    },
    view::{Family, View, ViewError},
};

/// Revisions from one note to the next.
const INTERVAL: i64 = 1_000;

/// What a change takes beside its key and value, bytes: its place in the
/// history and its row in the head.
const OVERHEAD: usize = 64;

impl Sizes {
    /// Bytes of all versions that can still be read.
    pub fn retained(&self) -> i64 {
        self.written - self.compacted
    }

    /// Bytes of what lives now.
    pub fn live(&self) -> i64 {
        self.written - self.superseded
    }

    pub(crate) fn write(&mut self, key: &[u8], rest: &[u8]) {
        self.written = self.written.saturating_add(cost(key, rest));
    }

    pub(crate) fn supersede(&mut self, key: &[u8], rest: &[u8]) {
        self.superseded = self.superseded.saturating_add(cost(key, rest));
    }

    /// Remembers the sum for compactions to come, if it is time to.
    pub(crate) fn note<V: View + ?Sized>(&self, revision: i64, overlay: &mut Overlay<'_, V>) {
        if revision % INTERVAL == 0 {
            overlay.put(
                Family::Meta,
                meta::superseded_key(revision),
                meta::encode_superseded(self.superseded),
            );
        }
    }

    /// As [`Sizes::note`], when the revisions after `last` and before `next` had no
    /// changes.
    pub(crate) fn note_between<V: View + ?Sized>(
        &self,
        last: i64,
        next: i64,
        overlay: &mut Overlay<'_, V>,
    ) {
        let noted = (next - 1) / INTERVAL * INTERVAL;
        if noted >= last {
            self.note(noted, overlay);
        }
    }

    /// Gives back what was superseded up to `floor`, and forgets the notes up
    /// to there. `revision` is the newest one.
    pub(crate) fn compact<V: View + ?Sized>(
        &mut self,
        floor: i64,
        revision: i64,
        overlay: &mut Overlay<'_, V>,
    ) -> Result<(), ViewError> {
        let (from, to) = (meta::superseded_key(0), meta::superseded_key(floor + 1));
        let mut notes = Vec::new();
        let mut newest = None;
        overlay.scan(Family::Meta, &from, Some(&to), &mut |key, row| {
            notes.push(Bytes::copy_from_slice(key));
            newest = Some(Bytes::copy_from_slice(row));
            ControlFlow::Continue(())
        })?;
        if floor == revision {
            self.compacted = self.superseded;
        } else if let Some(row) = newest {
            let noted = required(meta::decode_superseded(&row), "size")?;
            self.compacted = self.compacted.max(noted);
        }
        for note in notes {
            overlay.delete(Family::Meta, note);
        }
        Ok(())
    }
}

fn cost(key: &[u8], rest: &[u8]) -> i64 {
    i64::try_from(key.len() + rest.len() + OVERHEAD).unwrap_or(i64::MAX)
}
