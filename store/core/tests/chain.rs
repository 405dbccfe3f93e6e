//! A key with very many versions: any of them is found with few reads.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::rows::{Limited, Replica};
use mizzen_core::{Command, Compaction, DeleteRange, Put, Range, State, View, kv::Fields, range};

const KEY: &[u8] = b"key";
const VERSIONS: i64 = 300_000;
/// Each of these is a deletion.
const DELETIONS: i64 = 997;
/// 64 for each of three rungs, 64 between two versions of the lowest, the head
/// and the version itself.
const READS_MAX: usize = 4 * 64 + 2;

/// Revision r of the store writes the value r, or deletes.
fn command(revision: i64) -> Command {
    let key = Bytes::from_static(KEY);
    if revision % DELETIONS == 0 {
        Command::DeleteRange(DeleteRange {
            key,
            ..DeleteRange::default()
        })
    } else {
        Command::Put(Put {
            key,
            value: revision.to_string().into(),
            ..Put::default()
        })
    }
}

fn replica() -> Replica {
    let mut replica = Replica::default();
    for first in (2..=VERSIONS).step_by(10_000) {
        let commands: Vec<_> = (first..(first + 10_000).min(VERSIONS + 1))
            .map(command)
            .collect();
        replica.apply(&commands);
    }
    assert_eq!(replica.state.revision(), VERSIONS);
    replica
}

/// The value at a revision, checked against what was written.
fn read(state: &State, view: &impl View, revision: i64) {
    let request = Range {
        key: Bytes::from_static(KEY),
        revision,
        ..Range::default()
    };
    let reply = range(state, view, &request, &mizzen_core::Unbounded)
        .unwrap_or_else(|error| panic!("at {revision}: {error}"))
        .unwrap();
    if revision < 2 || revision % DELETIONS == 0 {
        assert_eq!(reply.count, 0, "at {revision}");
    } else {
        // Tag and length of the element, then the key field.
        let rest = &reply.kvs.bytes[2 + 2 + KEY.len()..];
        let fields = Fields::decode(rest).unwrap();
        assert_eq!(
            (fields.mod_revision, fields.value),
            (revision, revision.to_string().as_bytes())
        );
    }
}

#[test]
fn any_version_of_many_is_near() {
    let mut replica = replica();
    let mut most = 0;
    let samples = (1..=VERSIONS)
        .step_by(101)
        .chain(1..200)
        .chain(VERSIONS - 9000..=VERSIONS);
    for revision in samples {
        let view = Limited::new(&replica.rows, READS_MAX);
        read(&replica.state, &view, revision);
        most = most.max(view.reads.get());
    }
    assert!(
        most > 64,
        "the samples need the rungs, and took {most} reads at most"
    );

    let floor = VERSIONS / 3;
    replica
        .apply_one(&Command::Compact(Compaction { revision: floor }))
        .reply
        .unwrap();
    while !replica.reclaim(50_000, false) {}
    for revision in (floor..=VERSIONS).step_by(103).chain(floor..floor + 200) {
        read(
            &replica.state,
            &Limited::new(&replica.rows, READS_MAX),
            revision,
        );
    }
}
