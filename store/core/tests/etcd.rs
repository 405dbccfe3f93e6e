//! What etcd 3.7.3 does in corners, one by one, and the few places where it
//! stops and a replica of this store does not.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::rows::Replica;
use mizzen_core::{
    Command, Compaction, DeleteRange, Error, Event, EventKind, Family, Operation, Outcome, Put,
    Range, RangeReply, Reply, SortTarget, Txn, hash_kv, kv::Fields, range,
};

fn key(key: &'static str) -> Bytes {
    Bytes::from_static(key.as_bytes())
}

fn put(name: &'static str, value: &'static str) -> Put {
    Put {
        key: key(name),
        value: key(value),
        ..Put::default()
    }
}

fn delete(name: &'static str, range_end: &'static str) -> DeleteRange {
    DeleteRange {
        key: key(name),
        range_end: key(range_end),
        ..DeleteRange::default()
    }
}

fn txn(success: Vec<Operation>) -> Command {
    Command::Txn(Txn {
        success,
        ..Txn::default()
    })
}

fn all() -> Range {
    Range {
        key: key("\0"),
        range_end: key("\0"),
        ..Range::default()
    }
}

fn compact(revision: i64) -> Command {
    Command::Compact(Compaction { revision })
}

fn read(replica: &Replica, request: &Range) -> Result<RangeReply, Error> {
    range(
        &replica.state,
        &replica.rows,
        request,
        &mizzen_core::Unbounded,
    )
    .unwrap()
}

/// Keys and values of a reply.
fn pairs(reply: &RangeReply) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut bytes = reply.kvs.bytes.as_ref();
    while let [_tag, len, rest @ ..] = bytes {
        let (element, more) = rest.split_at(usize::from(*len));
        let (key, rest) = element[2..].split_at(usize::from(element[1]));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        pairs.push((text(key), text(Fields::decode(rest).unwrap().value)));
        bytes = more;
    }
    pairs
}

fn kinds(events: &[Event]) -> Vec<(EventKind, &[u8], bool)> {
    events
        .iter()
        .map(|event| (event.kind, event.key.as_ref(), event.prev.is_some()))
        .collect()
}

/// etcd 3.7.3 ends here, on every member and at each start.
#[test]
fn keeping_the_value_of_a_key_deleted_just_before_is_refused() {
    for keep in [
        Put {
            ignore_value: true,
            ..put("b", "")
        },
        Put {
            ignore_lease: true,
            ..put("b", "x")
        },
    ] {
        let mut replica = Replica::default();
        replica.apply_one(&Command::Put(put("a", "1")));
        replica.apply_one(&Command::Put(put("b", "2")));
        let before = replica.clone();
        let open = Operation::DeleteRange(delete("a", "\0"));
        let refused = replica.apply_one(&txn(vec![
            Operation::Put(put("0", "0")),
            open.clone(),
            Operation::Put(keep.clone()),
        ]));
        assert_eq!(
            refused,
            Outcome {
                reply: Err(Error::KeyNotFound),
                events: vec![],
                events_in_log: false
            }
        );
        assert_eq!((&replica.rows, replica.state), (&before.rows, before.state));
        // In one batch with others it leaves theirs alone.
        let outcomes = replica.apply(&[
            Command::Put(put("c", "3")),
            txn(vec![
                Operation::Put(put("c", "4")),
                open,
                Operation::Put(keep),
            ]),
            Command::Put(put("d", "5")),
        ]);
        assert_eq!(outcomes[1].reply, Err(Error::KeyNotFound));
        let left = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "5")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pairs(&read(&replica, &all()).unwrap()), left);
    }
}

/// The check for duplicates does not see a range that is open upwards.
#[test]
fn a_key_may_be_put_after_an_open_delete() {
    let mut replica = Replica::default();
    replica.apply_one(&Command::Put(put("a", "1")));
    let outcome = replica.apply_one(&txn(vec![
        Operation::DeleteRange(delete("a", "\0")),
        Operation::Put(put("a", "2")),
    ]));
    assert!(outcome.reply.is_ok());
    assert_eq!(
        kinds(&outcome.events),
        [
            (EventKind::Delete, &b"a"[..], true),
            (EventKind::Put, b"a", true)
        ]
    );
    let fields = Fields::decode(&outcome.events[1].kv).unwrap();
    assert_eq!(
        (fields.create_revision, fields.mod_revision, fields.version),
        (3, 3, 1)
    );
    // Both events have the same value before the revision.
    assert_eq!(outcome.events[0].prev, outcome.events[1].prev);

    // A compaction there keeps the key; etcd 3.7.3 loses its value and ends.
    replica.apply_one(&compact(3)).reply.unwrap();
    let hash = hash_kv(&replica.state, &replica.rows, 0).unwrap().unwrap();
    replica.reclaim_all();
    assert_eq!(
        pairs(&read(&replica, &all()).unwrap()),
        [("a".to_owned(), "2".to_owned())]
    );
    assert_eq!(
        hash_kv(&replica.state, &replica.rows, 0).unwrap().unwrap(),
        hash
    );
    assert_eq!(
        replica.rows.len(Family::Log),
        2,
        "a watch from the floor sees all of its revision"
    );
}

/// Nor does it see a delete in a nested transaction that follows a put in one
/// before it.
#[test]
fn a_key_may_be_deleted_after_it_was_put_in_a_nested_transaction() {
    let mut replica = Replica::default();
    let nested = |operation| {
        Operation::Txn(Txn {
            success: vec![operation],
            ..Txn::default()
        })
    };
    let put_then_delete = txn(vec![
        nested(Operation::Put(put("a", "1"))),
        nested(Operation::DeleteRange(delete("a", "b"))),
    ]);
    let outcome = replica.apply_one(&put_then_delete);
    assert!(outcome.reply.is_ok());
    assert_eq!(
        kinds(&outcome.events),
        [
            (EventKind::Put, &b"a"[..], false),
            (EventKind::Delete, b"a", false)
        ]
    );
    assert_eq!(read(&replica, &all()).unwrap().count, 0);

    let delete_then_put = txn(vec![
        nested(Operation::DeleteRange(delete("a", "b"))),
        nested(Operation::Put(put("a", "1"))),
    ]);
    assert_eq!(
        replica.apply_one(&delete_then_put).reply,
        Err(Error::DuplicateKey)
    );
}

#[test]
fn headers_carry_the_revision_of_their_moment() {
    let mut replica = Replica::default();
    let read = || {
        Operation::Range(Range {
            key: key("a"),
            ..Range::default()
        })
    };
    let nothing = Operation::DeleteRange(delete("zz", ""));
    let nested = Operation::Txn(Txn {
        success: vec![read()],
        ..Txn::default()
    });
    let command = txn(vec![
        read(),
        nothing.clone(),
        Operation::Put(put("a", "1")),
        nothing.clone(),
        read(),
        nested,
    ]);
    let Ok(Reply::Txn {
        revision,
        responses,
        ..
    }) = replica.apply_one(&command).reply
    else {
        panic!("the transaction is fine");
    };
    let revisions: Vec<i64> = responses
        .iter()
        .map(|reply| match reply {
            Reply::Range(reply) => reply.revision,
            Reply::Put { revision, .. }
            | Reply::DeleteRange { revision, .. }
            | Reply::Txn { revision, .. } => *revision,
            other => panic!("{other:?} does not answer an operation"),
        })
        .collect();
    assert_eq!((revision, revisions), (2, vec![1, 1, 2, 2, 2, 0]));
    // A transaction that changes nothing takes no revision.
    assert!(matches!(
        replica.apply_one(&txn(vec![nothing])).reply,
        Ok(Reply::Txn { revision: 2, .. })
    ));
    assert_eq!(replica.state.revision(), 2);
}

#[test]
fn compaction_goes_from_minus_one_to_the_newest_revision() {
    let mut replica = Replica::default();
    assert_eq!(
        (replica.state.revision(), replica.state.compact_revision()),
        (1, -1)
    );
    assert_eq!(replica.apply_one(&compact(-1)).reply, Err(Error::Compacted));
    assert_eq!(
        replica.apply_one(&compact(2)).reply,
        Err(Error::FutureRevision)
    );
    assert_eq!(
        replica.apply_one(&compact(0)).reply,
        Ok(Reply::Compact { revision: 1 })
    );
    assert_eq!(replica.apply_one(&compact(0)).reply, Err(Error::Compacted));
    assert_eq!(
        replica.apply_one(&compact(1)).reply,
        Ok(Reply::Compact { revision: 1 })
    );
    replica.apply_one(&Command::Put(put("a", "1")));
    assert_eq!(
        read(
            &replica,
            &Range {
                revision: 1,
                ..all()
            }
        )
        .unwrap()
        .count,
        0
    );
    replica.apply_one(&compact(2)).reply.unwrap();
    assert_eq!(
        read(
            &replica,
            &Range {
                revision: 1,
                ..all()
            }
        ),
        Err(Error::Compacted)
    );
    assert_eq!(
        read(
            &replica,
            &Range {
                revision: 3,
                ..all()
            }
        ),
        Err(Error::FutureRevision)
    );
}

/// A range by itself takes a negative revision for none; one in a transaction
/// finds it compacted, except -1 before the first compaction.
#[test]
fn negative_revisions() {
    let mut replica = Replica::default();
    let within = |revision| {
        txn(vec![
            Operation::Range(Range { revision, ..all() }),
            Operation::Put(put("a", "")),
        ])
    };
    assert!(
        read(
            &replica,
            &Range {
                revision: -9,
                ..all()
            }
        )
        .is_ok()
    );
    assert_eq!(replica.apply_one(&within(-2)).reply, Err(Error::Compacted));
    assert!(replica.apply_one(&within(-1)).reply.is_ok());
    replica.apply_one(&compact(0)).reply.unwrap();
    assert_eq!(replica.apply_one(&within(-1)).reply, Err(Error::Compacted));
    assert!(
        read(
            &replica,
            &Range {
                revision: -9,
                ..all()
            }
        )
        .is_ok()
    );
}

/// Without an order, only the first keys up to one beyond the limit are sorted.
#[test]
fn a_limit_without_an_order_comes_before_the_sort() {
    let mut replica = Replica::default();
    for (name, value) in [("a", "3"), ("b", "2"), ("c", "1")] {
        replica.apply_one(&Command::Put(put(name, value)));
    }
    let request = Range {
        limit: 1,
        sort_target: SortTarget::Value,
        ..all()
    };
    let reply = read(&replica, &request).unwrap();
    assert_eq!(pairs(&reply), [("b".to_owned(), "2".to_owned())]);
    assert!(reply.more && reply.count == 3);
}

#[test]
fn keys_only_ranges_show_a_lease_only_if_values_are_sorted_by() {
    let mut replica = Replica::default();
    replica
        .apply_one(&Command::LeaseGrant(mizzen_core::LeaseGrant {
            id: 5,
            ttl: 60,
        }))
        .reply
        .unwrap();
    replica.apply_one(&Command::Put(Put {
        lease: 5,
        ..put("a", "1")
    }));
    for (sort_target, lease) in [
        (SortTarget::Key, 0),
        (SortTarget::Mod, 0),
        (SortTarget::Value, 5),
    ] {
        let reply = read(
            &replica,
            &Range {
                keys_only: true,
                sort_target,
                ..all()
            },
        )
        .unwrap();
        let fields = Fields::decode(&reply.kvs.bytes[5..]).unwrap();
        assert_eq!(
            (fields.lease, fields.value),
            (lease, &b""[..]),
            "{sort_target:?}"
        );
    }
}
