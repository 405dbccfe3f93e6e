//! What compaction has left of the history, in order: what a hash goes over, and
//! what a copy of the store holds.

use std::{collections::BTreeSet, ops::ControlFlow};

use crate::{
    compaction::{reclaimed, superseded},
    rows::{
        Revision,
        log::{self, Change, LogRow},
        required,
    },
    state::State,
    view::{Family, View, ViewError},
};

/// A change that compaction has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    pub revision: Revision,
    pub key: &'a [u8],
    /// The encoded key-value without its key; `None` for a deletion.
    pub rest: Option<&'a [u8]>,
}

/// Visits all changes up to revision `last` that compaction has left, until the
/// visitor breaks: of those up to the compaction floor, the newest version of each
/// key that lived there. How far they have been reclaimed makes no difference.
///
/// Reads the whole log up to the revision. Takes memory for every revision
/// that is compacted and not reclaimed.
pub fn kept_changes<V: View + ?Sized>(
    state: &State,
    view: &V,
    last: i64,
    mut visit: impl FnMut(&Kept<'_>) -> ControlFlow<()>,
) -> Result<(), ViewError> {
    let floor = state.compact_revision;
    let gone = superseded_at_floor(state, view)?;
    scan_log(view, Revision::default(), last, |own, version| {
        let compacted =
            own.main <= floor && (version.change == Change::Delete || gone.contains(&own));
        if compacted {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(visit(&Kept {
            revision: own,
            key: version.key,
            rest: match version.change {
                Change::Put { rest } => Some(rest),
                Change::Delete => None,
            },
        }))
    })
}

/// Revisions whose rows may still be there though they are of no use at the
/// floor or above.
fn superseded_at_floor<V: View + ?Sized>(
    state: &State,
    view: &V,
) -> Result<BTreeSet<Revision>, ViewError> {
    let mut gone = BTreeSet::new();
    let from = reclaimed(state, view)?
        .next
        .min(Revision::new(state.compact_revision.max(0), 0));
    scan_log(view, from, state.compact_revision, |_, version| {
        gone.extend(superseded(version)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(gone)
}

/// Visits the log from `from` to the end of revision `last`.
fn scan_log<V: View + ?Sized>(
    view: &V,
    from: Revision,
    last: i64,
    mut visit: impl FnMut(Revision, &LogRow<'_>) -> Result<ControlFlow<()>, ViewError>,
) -> Result<(), ViewError> {
    if last < from.main {
        return Ok(());
    }
    let mut failure = None;
    let (from, to) = (
        log::encode_key(from),
        log::encode_key(Revision::new(last.saturating_add(1), 0)),
    );
    view.scan(Family::Log, &from, Some(&to), &mut |key, row| {
        let visited = required(log::decode_key(key), "log")
            .and_then(|own| Ok((own, required(LogRow::decode(own, row), "log")?)))
            .and_then(|(own, version)| visit(own, &version));
        match visited {
            Ok(flow) => flow,
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}
