//! A checksum of what can be read, by which replicas compare themselves.

use std::ops::ControlFlow;

use bytes::BytesMut;

use crate::{
    error::{Error, Stop, answered},
    kept::{Kept, kept_changes},
    read::{Reader, Span},
    state::State,
    view::{View, ViewError},
    wire::put_varint,
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
/// that lived there and has it at the revision, as etcd does. How far they have been
/// reclaimed makes no difference.
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
    let reader = Reader::new(view, state, hash_revision);
    let mut any_lives = false;
    // Below zero, which etcd takes too, there is nothing.
    if hash_revision > 0 {
        reader.scan(EVERYTHING, |_| {
            any_lives = true;
            Ok(ControlFlow::Break(()))
        })?;
    }
    let mut hash = crc32c::crc32c(BUCKET);
    let mut failure = None;
    kept_changes(state, view, hash_revision, |change| {
        let counts = match change.revision.main <= floor && any_lives {
            true => lives(&reader, change),
            false => Ok(true),
        };
        match counts {
            Ok(true) => hash = append(hash, change),
            Ok(false) => {}
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
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

const EVERYTHING: Span<'_> = Span::Keys {
    from: b"",
    to: None,
};

/// Whether a key still has this version at the revision that is hashed. Of what was
/// compacted etcd hashes nothing else, unless no key lives there at all
/// (`unsafeHashByRev`, which is given what the hashed revision keeps and not what the
/// floor did).
fn lives<V: View + ?Sized>(reader: &Reader<'_, V>, change: &Kept<'_>) -> Result<bool, ViewError> {
    let own = change.revision.main;
    let same = reader.get(change.key, |live| Ok(live.fields()?.mod_revision == own))?;
    Ok(same == Some(true))
}

/// What etcd's hash begins with: the name of its bucket.
const BUCKET: &[u8] = b"key";

/// A change as it stands in etcd's database file, so that `etcdutl hashkv` of a
/// backup tells what the server tells: the revision as key, marked if it is a
/// deletion, and a mvccpb.KeyValue.
fn append(hash: u32, change: &Kept<'_>) -> u32 {
    let mut key_len = BytesMut::with_capacity(10);
    put_varint(&mut key_len, change.key.len() as u64);
    let deletion: &[u8] = match change.rest {
        Some(_) => &[],
        None => b"t",
    };
    [
        &change.revision.main.to_be_bytes()[..],
        b"_",
        &u64::from(change.revision.sub).to_be_bytes(),
        deletion,
        // The tag of the field `key`.
        &[0x0a],
        &key_len,
        change.key,
        change.rest.unwrap_or_default(),
    ]
    .iter()
    .fold(hash, |hash, part| crc32c::crc32c_append(hash, part))
}
