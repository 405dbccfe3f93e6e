//! Random commands over few keys, so that they meet.
//!
//! Revisions are generated as distances from the newest one and resolved when
//! a command is about to be applied: 0 and negative numbers stay, 1 is the
//! revision that does not exist yet, 2 the newest, 3 the one before.

use bytes::Bytes;
use mizzen_core::{
    Command, Compaction, Compare, CompareOp, CompareTarget, DeleteRange, LeaseCheckpoint,
    LeaseGrant, LeaseRevoke, Operation, Put, Range, SortOrder, SortTarget, Txn,
};
use proptest::{collection::vec, prelude::*, sample::select};

pub fn resolve(distance: &mut i64, newest: i64) {
    if *distance > 0 {
        *distance = newest + 2 - *distance;
    }
}

pub fn resolve_range(range: &mut Range, newest: i64) {
    resolve(&mut range.revision, newest);
    resolve(&mut range.min_mod_revision, newest);
    resolve(&mut range.max_mod_revision, newest);
    resolve(&mut range.min_create_revision, newest);
    resolve(&mut range.max_create_revision, newest);
}

pub fn resolve_txn(txn: &mut Txn, newest: i64) {
    for compare in &mut txn.compare {
        if let CompareTarget::Create(operand) | CompareTarget::Mod(operand) = &mut compare.target {
            resolve(operand, newest);
        }
    }
    for operation in txn.success.iter_mut().chain(&mut txn.failure) {
        match operation {
            Operation::Range(range) => resolve_range(range, newest),
            Operation::Txn(nested) => resolve_txn(nested, newest),
            Operation::Put(_) | Operation::DeleteRange(_) | Operation::Empty => {}
        }
    }
}

pub fn resolve_command(command: &mut Command, newest: i64) {
    match command {
        Command::Txn(txn) => resolve_txn(txn, newest),
        Command::Compact(compaction) => resolve(&mut compaction.revision, newest),
        _ => {}
    }
}

const KEYS: [&[u8]; 9] = [
    b"a", b"a\0", b"ab", b"b", b"b\xff", b"c", b"\0", b"\xff", b"d",
];

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![60 => select(&KEYS[..]).prop_map(Bytes::from_static), 1 => Just(Bytes::new())]
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        6 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        3 => select(&KEYS[..]).prop_map(Bytes::from_static),
        2 => Just(Bytes::from_static(b"z")),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        6 => select(&["x", "y", "yy"][..]).prop_map(Bytes::from),
        2 => select(&[1023_usize, 1024, 1025, 3000][..]).prop_map(|len| Bytes::from(vec![b'v'; len])),
    ]
}

pub fn lease() -> impl Strategy<Value = i64> {
    select(&[0_i64, 0, 0, 0, 1, 1, 2, -7, i64::MAX][..])
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(0_i64), 6 => 2..12_i64, 4 => 2..60_i64, 1 => Just(1_i64), 1 => -3..0_i64]
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![12 => Just(0_i64), 4 => 1..30_i64, 1 => Just(-1_i64)]
}

pub fn put() -> impl Strategy<Value = Put> {
    (
        key(),
        value(),
        lease(),
        any::<bool>(),
        rarely(),
        rarely(),
        rarely(),
    )
        .prop_map(
            |(key, value, lease, prev_kv, ignore_value, ignore_lease, faulty)| Put {
                key,
                value: if ignore_value && !faulty {
                    Bytes::new()
                } else {
                    value
                },
                lease: if ignore_lease && !faulty { 0 } else { lease },
                prev_kv,
                ignore_value,
                ignore_lease,
            },
        )
}

pub fn delete() -> impl Strategy<Value = DeleteRange> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRange {
        key,
        range_end,
        prev_kv,
    })
}

pub fn range() -> impl Strategy<Value = Range> {
    let order = prop_oneof![
        10 => Just(SortOrder::None),
        4 => Just(SortOrder::Ascend),
        4 => Just(SortOrder::Descend),
        1 => Just(SortOrder::Undefined(7)),
    ];
    let target = prop_oneof![
        20 => Just(SortTarget::Key),
        4 => Just(SortTarget::Version),
        4 => Just(SortTarget::Create),
        4 => Just(SortTarget::Mod),
        4 => Just(SortTarget::Value),
        1 => Just(SortTarget::Undefined(-3)),
    ];
    let span = (
        key(),
        prop_oneof![2 => range_end(), 3 => Just(Bytes::from_static(b"\0"))],
    );
    let limit =
        prop_oneof![5 => Just(0_i64), 4 => 1..5_i64, 1 => Just(-2_i64), 1 => Just(i64::MAX)];
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.15),
    );
    let bounds = (bound(), bound(), bound(), bound());
    (span, limit, revision(), order, target, flags, bounds).prop_map(
        |((key, range_end), limit, revision, sort_order, sort_target, flags, bounds)| Range {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let op = prop_oneof![
        6 => Just(CompareOp::Equal),
        6 => Just(CompareOp::NotEqual),
        6 => Just(CompareOp::Greater),
        6 => Just(CompareOp::Less),
        1 => Just(CompareOp::Undefined(9)),
    ];
    let target = prop_oneof![
        6 => (0..4_i64).prop_map(CompareTarget::Version),
        6 => revision().prop_map(CompareTarget::Create),
        6 => revision().prop_map(CompareTarget::Mod),
        6 => value().prop_map(CompareTarget::Value),
        6 => lease().prop_map(CompareTarget::Lease),
        1 => Just(CompareTarget::Undefined(11)),
    ];
    (key(), range_end(), op, target).prop_map(|(key, range_end, op, target)| Compare {
        key,
        range_end,
        op,
        target,
    })
}

fn operation(depth: u32) -> BoxedStrategy<Operation> {
    let flat = prop_oneof![
        30 => range().prop_map(Operation::Range),
        40 => put().prop_map(Operation::Put),
        20 => delete().prop_map(Operation::DeleteRange),
        1 => Just(Operation::Empty),
    ];
    if depth == 0 {
        return flat.boxed();
    }
    prop_oneof![4 => flat, 1 => txn(depth - 1).prop_map(Operation::Txn)].boxed()
}

pub fn txn(depth: u32) -> impl Strategy<Value = Txn> {
    (
        vec(compare(), 0..3),
        vec(operation(depth), 0..4),
        vec(operation(depth), 0..4),
    )
        .prop_map(|(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        })
}

pub fn read_only_txn() -> impl Strategy<Value = Txn> {
    let operations = || vec(range().prop_map(Operation::Range), 0..3);
    (vec(compare(), 0..3), operations(), operations()).prop_map(|(compare, success, failure)| Txn {
        compare,
        success,
        failure,
    })
}

pub fn command() -> impl Strategy<Value = Command> {
    let compaction = prop_oneof![4 => 2..40_i64, 2 => 2..6_i64, 1 => -2..2_i64];
    let ttl = select(&[60_i64, 0, -1, 9_000_000_000, 9_000_000_001][..]);
    let checkpoint = (lease(), select(&[0_i64, 1, 59, -1, i64::MAX][..]))
        .prop_map(|(id, remaining)| LeaseCheckpoint { id, remaining });
    prop_oneof![
        40 => put().prop_map(Command::Put),
        12 => delete().prop_map(Command::DeleteRange),
        25 => txn(2).prop_map(Command::Txn),
        3 => compaction.prop_map(|revision| Command::Compact(Compaction { revision })),
        6 => (lease(), ttl).prop_map(|(id, ttl)| Command::LeaseGrant(LeaseGrant { id, ttl })),
        3 => lease().prop_map(|id| Command::LeaseRevoke(LeaseRevoke { id })),
        3 => vec(checkpoint, 0..4).prop_map(Command::LeaseCheckpoint),
    ]
}

/// Transactions of puts and deletes only, with much that may overlap. Keys are
/// of a single letter, so that ranges hold many of them.
pub fn dense_txn(depth: u32) -> BoxedStrategy<Txn> {
    let letter = || (b'a'..b'i').prop_map(|letter| Bytes::copy_from_slice(&[letter]));
    let put = letter().prop_map(|key| {
        Operation::Put(Put {
            key,
            ..Put::default()
        })
    });
    let end = prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"\0")),
        letter()
    ];
    let delete = (letter(), end).prop_map(|(key, range_end)| {
        Operation::DeleteRange(DeleteRange {
            key,
            range_end,
            prev_kv: false,
        })
    });
    let operation = if depth == 0 {
        prop_oneof![1 => put, 2 => delete].boxed()
    } else {
        let nested = dense_txn(depth - 1).prop_map(Operation::Txn);
        prop_oneof![2 => put, 3 => delete, 2 => nested].boxed()
    };
    (vec(operation.clone(), 0..5), vec(operation, 0..3))
        .prop_map(|(success, failure)| Txn {
            compare: vec![],
            success,
            failure,
        })
        .boxed()
}
