//! Commands as bytes: whatever is decoded can be applied, and nothing panics.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{
    check,
    commands::{command, put},
    rows::Replica,
};
use mizzen_core::{
    Alarm, AlarmKind, Command, Compaction, Compare, CompareOp, CompareTarget, DecodeError,
    DeleteRange, LeaseCheckpoint, LeaseGrant, LeaseRevoke, Limits, Operation, Put, Range, SetAlarm,
    SortOrder, SortTarget, Txn,
    limits::{TXN_DEPTH_MAX, TXN_NODES_MAX},
};
use proptest::{collection::vec, prelude::*};

#[test]
fn commands_round_trip() {
    check(
        "codec",
        "commands_round_trip",
        3000,
        &command(),
        |command| {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
            Ok(())
        },
    );
}

#[test]
fn only_whole_commands_decode() {
    check(
        "codec",
        "only_whole_commands_decode",
        500,
        &(command(), any::<u8>()),
        |(command, more)| {
            let bytes = command.encode();
            for len in 0..bytes.len() {
                prop_assert!(
                    Command::decode(&bytes.slice(..len)).is_err(),
                    "{} of {} bytes",
                    len,
                    bytes.len()
                );
            }
            prop_assert!(Command::decode(&[bytes.as_ref(), &[more]].concat().into()).is_err());
            Ok(())
        },
    );
}

/// Commands that are damaged, but not beyond decoding, change a replica the
/// same way on every member, so they must not stop one.
#[test]
fn damaged_commands_have_an_outcome() {
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    check(
        "codec",
        "damaged_commands_have_an_outcome",
        300,
        &vec((command(), damage), 1..40),
        |commands| {
            let mut replica = Replica::default();
            for (command, damage) in commands {
                let mut bytes = command.encode().to_vec();
                for (index, byte) in damage {
                    let index = index.index(bytes.len());
                    bytes[index] = byte;
                }
                if let Ok(command) = Command::decode(&bytes.into()) {
                    replica.apply_one(&command);
                }
            }
            Ok(())
        },
    );
}

#[test]
fn arbitrary_bytes_do_not_panic() {
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..200),
        (0..9_u8, vec(0..9_u8, 0..200)).prop_map(|(kind, more)| [&[1, kind], &more[..]].concat())
    ];
    check(
        "codec",
        "arbitrary_bytes_do_not_panic",
        20_000,
        &bytes,
        |bytes| {
            if let Ok(command) = Command::decode(&bytes.into()) {
                Replica::default().apply_one(&command);
            }
            Ok(())
        },
    );
}

fn nested(depth: usize) -> Command {
    let mut txn = Txn::default();
    for _ in 1..depth {
        txn = Txn {
            success: vec![Operation::Txn(txn)],
            ..Txn::default()
        };
    }
    Command::Txn(txn)
}

#[test]
fn depth_is_bounded_alike_for_checking_decoding_and_applying() {
    let limits = Limits {
        max_txn_ops: usize::MAX,
    };
    let deepest = nested(TXN_DEPTH_MAX);
    assert_eq!(deepest.check(&limits), Ok(()));
    assert_eq!(
        deepest.check(&Limits::default()),
        Ok(()),
        "the default limit allows this depth"
    );
    assert_eq!(Command::decode(&deepest.encode()), Ok(deepest.clone()));
    assert!(Replica::default().apply_one(&deepest).reply.is_ok());

    let deeper = nested(TXN_DEPTH_MAX + 1);
    assert!(deeper.check(&limits).is_err());
    assert_eq!(
        Command::decode(&deeper.encode()),
        Err(DecodeError::Malformed)
    );
    assert!(Replica::default().apply_one(&deeper).reply.is_err());
}

#[test]
fn nodes_are_bounded_alike_for_checking_and_decoding() {
    let limits = Limits {
        max_txn_ops: usize::MAX,
    };
    let compare = Compare {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::new(),
        op: CompareOp::Equal,
        target: CompareTarget::Version(0),
    };
    let most = Command::Txn(Txn {
        compare: vec![compare.clone(); TXN_NODES_MAX],
        ..Txn::default()
    });
    assert_eq!(most.check(&limits), Ok(()));
    assert_eq!(Command::decode(&most.encode()), Ok(most));
    let more = Command::Txn(Txn {
        compare: vec![compare; TXN_NODES_MAX + 1],
        ..Txn::default()
    });
    assert!(more.check(&limits).is_err());
    assert_eq!(Command::decode(&more.encode()), Err(DecodeError::Malformed));
}

/// A list that claims more items than there are bytes allocates nothing.
#[test]
fn a_false_count_is_refused() {
    let bytes = Bytes::from_static(&[1, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(Command::decode(&bytes), Err(DecodeError::Malformed));
}

#[test]
fn an_unknown_version_is_refused() {
    assert_eq!(
        Command::decode(&Bytes::from_static(&[2, 6, 0])),
        Err(DecodeError::UnknownVersion(2))
    );
    assert_eq!(Command::decode(&Bytes::new()), Err(DecodeError::Malformed));
}

#[test]
fn keys_and_values_are_slices_of_the_bytes() {
    check(
        "codec",
        "keys_and_values_are_slices_of_the_bytes",
        100,
        &put(),
        |put| {
            let bytes = Command::Put(put).encode();
            let Ok(Command::Put(put)) = Command::decode(&bytes) else {
                return Err(TestCaseError::fail("a put stays a put"));
            };
            for part in [&put.key, &put.value] {
                prop_assert!(part.is_empty() || bytes.as_ptr_range().contains(&part.as_ptr()));
            }
            Ok(())
        },
    );
}

/// The form in the log may not change: logs outlive programs.
#[test]
fn golden_bytes() {
    let key = Bytes::from_static(b"k");
    let value = Bytes::from_static(b"v");
    let put = Put {
        key: key.clone(),
        value: value.clone(),
        lease: -1,
        prev_kv: true,
        ignore_value: false,
        ignore_lease: true,
    };
    let delete = DeleteRange {
        key: key.clone(),
        range_end: Bytes::from_static(b"\0"),
        prev_kv: true,
    };
    let range = Range {
        key: key.clone(),
        range_end: Bytes::from_static(b"l"),
        limit: 1,
        revision: 2,
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Value,
        serializable: true,
        keys_only: false,
        count_only: true,
        min_mod_revision: 3,
        max_mod_revision: 4,
        min_create_revision: 5,
        max_create_revision: 6,
    };
    let compare = |target| Compare {
        key: key.clone(),
        range_end: Bytes::new(),
        op: CompareOp::NotEqual,
        target,
    };
    let txn = Txn {
        compare: vec![
            compare(CompareTarget::Version(1)),
            compare(CompareTarget::Create(2)),
            compare(CompareTarget::Mod(3)),
            compare(CompareTarget::Value(value)),
            compare(CompareTarget::Lease(4)),
            compare(CompareTarget::Undefined(9)),
        ],
        success: vec![
            Operation::Range(range),
            Operation::Put(put.clone()),
            Operation::DeleteRange(delete.clone()),
        ],
        failure: vec![Operation::Txn(Txn::default()), Operation::Empty],
    };
    let golden: [(Command, &[u8]); 8] = [
        (Command::Put(put), b"\x01\x01\x05\x01k\x01v\x01"),
        (Command::DeleteRange(delete), b"\x01\x02\x01\x01k\x01\0"),
        (
            Command::Txn(txn),
            b"\x01\x03\x06\x01k\0\x06\0\x02\x01k\0\x06\x01\x04\x01k\0\x06\x02\x06\x01k\0\x06\x03\x01v\x01k\0\x06\x04\x08\x01k\0\x06\x05\x12\
              \x03\x07\x05\x01k\x01l\x04\x08\x02\x04\x06\x08\x0a\x0c\x01\x05\x01k\x01v\x01\x02\x01\x01k\x01\0\
              \x02\x03\0\0\0\0",
        ),
        (Command::Compact(Compaction { revision: 300 }), b"\x01\x04\xd8\x04"),
        (Command::LeaseGrant(LeaseGrant { id: -7, ttl: 60 }), b"\x01\x05\x0d\x78"),
        (Command::LeaseRevoke(LeaseRevoke { id: 1 }), b"\x01\x06\x02"),
        (
            Command::LeaseCheckpoint(vec![
                LeaseCheckpoint { id: -7, remaining: 60 },
                LeaseCheckpoint { id: 1, remaining: 0 },
            ]),
            b"\x01\x08\x02\x0d\x78\x02\0",
        ),
        (
            Command::Alarm(SetAlarm {
                alarm: Alarm { kind: AlarmKind::Corrupt, member: 300 },
                active: true,
            }),
            b"\x01\x09\x01\x02\xac\x02",
        ),
    ];
    for (command, bytes) in golden {
        assert_eq!(command.encode().as_ref(), bytes, "{command:?}");
        assert_eq!(Command::decode(&Bytes::from_static(bytes)), Ok(command));
    }
}
