//! A checksum of what can be read, by which replicas compare themselves.

use std::{collections::BTreeSet, ops::ControlFlow};

use crate::{
    compaction::{reclaimed, superseded},
    error::{Error, Stop, answered},
    rows::{
        Revision,
        log::{self, Change, LogRow},
        required,
    },
    state::State,
    view::{Family, View, ViewError},
};

/// Equal revisions and compact revisions give equal hashes on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    pub hash: u32,
    /// The revision up to which the hash goes.
    pub hash_revision: i64,
    pub compact_revision: i64,
    /// The store's revision.
    pub revision: i64,
}

/// Hashes all changes up to `revision` (0: all there are) that compaction has
/// left: of those up to the compaction floor, the newest version of each key
/// that lived there. How far they have been reclaimed makes no difference.
///
/// Reads the whole log up to the revision. Takes memory for every revision
/// that is compacted and not reclaimed.
pub fn hash_kv<V: View + ?Sized>(
    state: &State,
    view: &V,
    revision: i64,
) -> Result<Result<KvHash, Error>, ViewError> {
    answered(run(state, view, revision))
}

fn run<V: View + ?Sized>(state: &State, view: &V, revision: i64) -> Result<KvHash, Stop> {
    if revision > 0 {
        state.readable(revision)?;
    }
    let hash_revision = if revision == 0 {
        state.revision
    } else {
        revision
    };
    let floor = state.compact_revision;
    let gone = superseded_at_floor(state, view)?;
    let mut hash = 0;
    scan_log(
        view,
        Revision::default(),
        hash_revision,
        |own, row, version| {
            let compacted =
                own.main <= floor && (version.change == Change::Delete || gone.contains(&own));
            if !compacted {
                hash = append(hash, own, row, version);
            }
            Ok(())
        },
    )?;
    // A hash asked for up to the floor is the one of what was compacted there:
    // etcd names the floor before it.
    let compact_revision = if revision == floor {
        state.previous_compact_revision
    } else {
        floor
    };
    Ok(KvHash {
        hash,
        hash_revision,
        compact_revision,
        revision: state.revision,
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
    scan_log(view, from, state.compact_revision, |_, _, version| {
        gone.extend(superseded(version)?);
        Ok(())
    })?;
    Ok(gone)
}

/// What a change is, without the pointers of its row. The lengths keep key and
/// value apart.
fn append(hash: u32, own: Revision, row: &[u8], version: &LogRow<'_>) -> u32 {
    let rest = match version.change {
        Change::Put { rest } => rest,
        Change::Delete => &[],
    };
    let kind = [u8::from(version.change == Change::Delete)];
    let key_len = (version.key.len() as u64).to_be_bytes();
    debug_assert!(row.ends_with(rest), "a row ends with its key-value");
    [
        &log::encode_key(own)[..],
        &kind,
        &key_len,
        version.key,
        rest,
    ]
    .iter()
    .fold(hash, |hash, part| crc32c::crc32c_append(hash, part))
}

/// Visits the log from `from` to the end of revision `last`.
fn scan_log<V: View + ?Sized>(
    view: &V,
    from: Revision,
    last: i64,
    mut visit: impl FnMut(Revision, &[u8], &LogRow<'_>) -> Result<(), ViewError>,
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
            .and_then(|(own, version)| visit(own, row, &version));
        match visited {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}
