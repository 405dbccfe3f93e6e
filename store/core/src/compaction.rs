//! Compaction. It is over, for whoever reads, as soon as the floor is raised:
//! reads below it are refused, and rows that only such reads need count as
//! absent. Removing them is each replica's own affair, later and in steps.
//!
//! Of the revisions up to the floor C there remain: of each living key the
//! newest version, and everything that happened exactly at C, so that a watch
//! can start there.

use std::ops::ControlFlow;

use bytes::Bytes;
use mizzen_planted::{bug, sometimes};

use crate::{
    error::{Error, Stop},
    overlay::Overlay,
    reply::Reply,
    rows::{
        Revision,
        head::{Body, HeadRow},
        log::{self, Change, LogRow},
        meta::{self, Reclaimed},
        required,
    },
    state::State,
    view::{Batch, Family, View, ViewError},
    write::Writer,
};

/// Raises the floor.
pub(crate) fn compact<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    revision: i64,
) -> Result<Reply, Stop> {
    if revision <= writer.before.compact_revision {
        return Err(Error::Compacted.into());
    }
    if revision > writer.before.revision {
        return Err(Error::FutureRevision.into());
    }
    sometimes!("compacted-to-the-head", revision == writer.before.revision);
    writer.before.previous_compact_revision = writer.before.compact_revision;
    writer.before.compact_revision =
        bug!("compacts-one-more", revision => writer.before.revision.min(revision + 1));
    let newest = writer.before.revision;
    writer
        .before
        .sizes
        .compact(revision, newest, writer.overlay)?;
    Ok(Reply::Compact {
        revision: writer.before.revision,
    })
}

/// One step of removing compacted rows.
///
/// The order matters, and both parts must be written before the next step is
/// taken: first [`drop_tombstones`], with the thread that applies commands,
/// then the batch. The batch says that the step is done, so a crash after it
/// and before the other would leave tombstones that nothing removes any more.
/// A crash before the batch repeats the step, which does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// Removals in family `Log`, and how far they go.
    pub batch: Batch,
    /// Keys of family `Head` that were deleted at the revision.
    pub tombstones: Vec<(Bytes, i64)>,
    /// Whether nothing more is to be removed for this floor.
    pub done: bool,
}

/// How far this replica has gone. `next` is where the next step begins.
pub(crate) fn reclaimed<V: View + ?Sized>(state: &State, view: &V) -> Result<Reclaimed, ViewError> {
    let mut reclaimed = match view.get(Family::Meta, meta::RECLAIM)? {
        Some(row) => required(meta::decode_reclaimed(&row), "reclaim")?,
        None => Reclaimed::default(),
    };
    if reclaimed.target < state.compact_revision {
        // What happened exactly at the former floor was kept, and is due now.
        reclaimed.next = reclaimed
            .next
            .min(Revision::new(reclaimed.target.max(0), 0));
    }
    Ok(reclaimed)
}

/// Looks at up to `budget` rows of the log (at least one) and tells what to
/// remove. To be called again, with a view that has the removals, until done;
/// what it tells holds for any later state of the same replica, but not for
/// one received from another replica.
pub fn reclaim<V: View + ?Sized>(
    state: &State,
    view: &V,
    budget: usize,
) -> Result<Reclaim, ViewError> {
    let floor = state.compact_revision;
    let Reclaimed { target, next } = reclaimed(state, view)?;
    if floor < 0 || (target >= floor && next.main > floor) {
        return Ok(Reclaim {
            done: true,
            ..Reclaim::default()
        });
    }
    let mut step = Step {
        floor,
        found: Reclaim::default(),
        left: budget.max(1),
        next,
    };
    let mut failure = None;
    let (from, to) = (
        log::encode_key(next),
        log::encode_key(Revision::new(floor + 1, 0)),
    );
    view.scan(
        Family::Log,
        &from,
        Some(&to),
        &mut |key, row| match step.visit(key, row) {
            Ok(flow) => flow,
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failure.map_or(Ok(()), Err)?;
    let Step {
        mut found,
        left,
        mut next,
        ..
    } = step;
    found.done = left > 0;
    if found.done {
        next = Revision::new(floor + 1, 0);
    }
    found.batch.put(
        Family::Meta,
        meta::RECLAIM,
        meta::encode_reclaimed(&Reclaimed {
            target: floor,
            next,
        }),
    );
    Ok(found)
}

struct Step {
    floor: i64,
    found: Reclaim,
    left: usize,
    next: Revision,
}

impl Step {
    fn visit(&mut self, key: &[u8], row: &[u8]) -> Result<ControlFlow<()>, ViewError> {
        let own = required(log::decode_key(key), "log")?;
        let version = required(LogRow::decode(own, row), "log")?;
        // A deletion goes by itself, whether or not something follows it.
        if version.change == Change::Delete {
            sometimes!("deletion-at-the-floor", own.main == self.floor);
            self.found
                .tombstones
                .push((Bytes::copy_from_slice(version.key), own.main));
            self.remove(own);
        }
        if let Some(superseded) = superseded(&version)? {
            self.remove(superseded);
        }
        self.next = Revision::new(own.main, own.sub.saturating_add(1));
        self.left -= 1;
        Ok(if self.left > 0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    }

    fn remove(&mut self, revision: Revision) {
        if revision.main < self.floor {
            self.found.batch.delete(
                Family::Log,
                Bytes::copy_from_slice(&log::encode_key(revision)),
            );
        }
    }
}

/// The version that lived until this one came.
pub(crate) fn superseded(version: &LogRow<'_>) -> Result<Option<Revision>, ViewError> {
    let creation = required(version.is_creation(), "log")?;
    Ok(version.links.previous.filter(|_| !creation))
}

/// Removes head rows of keys whose deletion compaction has passed. Rows that
/// have changed meanwhile stay.
pub fn drop_tombstones<V: View + ?Sized>(
    state: &State,
    overlay: &mut Overlay<'_, V>,
    tombstones: &[(Bytes, i64)],
) -> Result<(), ViewError> {
    for (key, revision) in tombstones {
        let Some(row) = overlay.get(Family::Head, key)? else {
            continue;
        };
        let body = required(HeadRow::decode(&row), "head")?.body;
        if body == Body::Tombstone(*revision) && *revision <= state.compact_revision {
            overlay.delete(Family::Head, key.clone());
        }
    }
    Ok(())
}
