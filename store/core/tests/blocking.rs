//! A view that answers from memory only may fail at any row it is asked for.
//! Every read then fails with the view's error, and done again it succeeds.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::rows::{Limited, Replica};
use mizzen_core::{
    Command, Compaction, Compare, CompareOp, CompareTarget, DeleteRange, LeaseGrant, LeaseRevoke,
    Operation, Overlay, Put, Range, RangeCursor, SortOrder, SortTarget, Txn, View, ViewError,
    apply, drop_tombstones, hash_kv, lease_keys, leases, range, read_only_txn, reclaim,
};

fn put(key: &'static str, len: usize, lease: i64) -> Command {
    let value = Bytes::from(vec![b'v'; len]);
    Command::Put(Put {
        key: Bytes::from_static(key.as_bytes()),
        value,
        lease,
        ..Put::default()
    })
}

fn replica() -> Replica {
    let mut replica = Replica::default();
    let mut commands = vec![Command::LeaseGrant(LeaseGrant { id: 5, ttl: 60 })];
    for len in [1, 3000, 2, 4000] {
        commands.extend([put("a", len, 5), put("b", len, 0), put("c", len, 5)]);
    }
    commands.push(Command::DeleteRange(DeleteRange {
        key: Bytes::from_static(b"c"),
        ..DeleteRange::default()
    }));
    commands.push(Command::Compact(Compaction { revision: 4 }));
    replica.apply(&commands);
    replica
}

fn all() -> Range {
    Range {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Range::default()
    }
}

/// Lets `read` meet a failing view at each of its rows.
fn at_every_row<T: PartialEq + std::fmt::Debug>(
    replica: &Replica,
    read: impl Fn(&Limited<'_>) -> Result<T, ViewError>,
) {
    let unlimited = read(&Limited::new(&replica.rows, usize::MAX)).unwrap();
    for limit in 0..10_000 {
        match read(&Limited::new(&replica.rows, limit)) {
            Ok(value) => {
                assert_eq!(value, unlimited);
                assert!(limit > 0, "something was read");
                return;
            }
            Err(error) => assert_eq!(error, ViewError::WouldBlock, "after {limit} rows"),
        }
    }
    panic!("no number of rows was enough");
}

#[test]
fn ranges_fail_cleanly() {
    let replica = replica();
    for revision in [0, 4, 6, 12] {
        for (sort_order, sort_target) in [
            (SortOrder::None, SortTarget::Key),
            (SortOrder::Descend, SortTarget::Value),
            (SortOrder::Ascend, SortTarget::Mod),
        ] {
            for count_only in [false, true] {
                let request = Range {
                    revision,
                    sort_order,
                    sort_target,
                    count_only,
                    ..all()
                };
                at_every_row(&replica, |view| {
                    range(&replica.state, view, &request, &mizzen_core::Unbounded)
                });
            }
        }
        let single = Range {
            revision,
            key: Bytes::from_static(b"b"),
            ..Range::default()
        };
        at_every_row(&replica, |view| {
            range(&replica.state, view, &single, &mizzen_core::Unbounded)
        });
    }
}

#[test]
fn other_reads_fail_cleanly() {
    let replica = replica();
    let target = CompareTarget::Value(Bytes::from_static(b"w"));
    let compare = Compare {
        key: all().key,
        range_end: all().range_end,
        op: CompareOp::Less,
        target,
    };
    let txn = Txn {
        compare: vec![compare],
        success: vec![Operation::Range(all())],
        failure: vec![],
    };
    at_every_row(&replica, |view| {
        read_only_txn(&replica.state, view, &txn, &mizzen_core::Unbounded)
    });
    at_every_row(&replica, |view| hash_kv(&replica.state, view, 0));
    at_every_row(&replica, |view| reclaim(&replica.state, view, 100));
    at_every_row(&replica, |view| leases(view));
    at_every_row(&replica, |view| lease_keys(view, 5));
}

#[test]
fn applying_fails_cleanly() {
    let replica = replica();
    let put = |ignore_value| Put {
        key: Bytes::from_static(b"a"),
        prev_kv: true,
        ignore_value,
        ..Put::default()
    };
    let delete = DeleteRange {
        key: all().key,
        range_end: all().range_end,
        prev_kv: true,
    };
    let txn = Txn {
        success: vec![
            Operation::Range(all()),
            Operation::Put(put(true)),
            Operation::Range(all()),
        ],
        ..Txn::default()
    };
    for command in [
        Command::Put(put(false)),
        Command::DeleteRange(delete),
        Command::Txn(txn),
        Command::LeaseRevoke(LeaseRevoke { id: 5 }),
    ] {
        at_every_row(&replica, |view| {
            let (mut state, mut overlay) = (replica.state, Overlay::new(view));
            let outcome = apply(
                &mut state,
                &mut overlay,
                &command,
                Some(&mizzen_core::Unbounded),
            )?;
            Ok((outcome, state, overlay.into_batch()))
        });
    }
    let step = reclaim(&replica.state, &replica.rows, 100).unwrap();
    let tombstones = [(Bytes::from_static(b"c"), replica.state.revision())];
    assert!(step.done && step.tombstones.is_empty(), "{step:?}");
    at_every_row(&replica, |view| {
        let mut overlay = Overlay::new(view);
        drop_tombstones(&replica.state, &mut overlay, &tombstones)?;
        Ok(overlay.into_batch())
    });
}

#[test]
fn a_stream_goes_on_where_it_failed() {
    let replica = replica();
    let whole = range(
        &replica.state,
        &replica.rows,
        &Range {
            revision: 6,
            ..all()
        },
        &mizzen_core::Unbounded,
    )
    .unwrap()
    .unwrap();
    let mut cursor = RangeCursor::new(
        &replica.state,
        &Range {
            revision: 6,
            ..all()
        },
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut limit = 0;
    while !cursor.is_finished() {
        let view = Limited::new(&replica.rows, limit);
        match cursor.next_chunk(&replica.state, &view as &dyn View, 1, 1) {
            Ok(chunk) => {
                bytes.extend_from_slice(&chunk.unwrap().kvs.bytes);
                limit = 0;
            }
            Err(error) => {
                assert_eq!(error, ViewError::WouldBlock);
                limit += 1;
                assert!(limit < 10_000, "no number of rows was enough");
            }
        }
    }
    assert_eq!(bytes, whole.kvs.bytes);
}
