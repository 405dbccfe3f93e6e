//! Alarms and what they forbid, and the sums of space they are raised for.
//!
//! `cargo test --release -p mizzen-core --test alarm`

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::rows::Replica;
use mizzen_core::{
    Alarm, AlarmKind, Command, Compaction, DeleteRange, Error, Family, LeaseGrant, LeaseRevoke,
    Operation, Put, Range, Reply, SetAlarm, Txn, alarms, range, read_only_txn,
};

fn key(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

fn put(name: &'static str, value_bytes: usize) -> Command {
    Command::Put(Put {
        key: key(name),
        value: vec![b'v'; value_bytes].into(),
        ..Put::default()
    })
}

fn delete(name: &'static str) -> Command {
    Command::DeleteRange(DeleteRange {
        key: key(name),
        ..DeleteRange::default()
    })
}

fn alarm(kind: AlarmKind, member: u64, active: bool) -> Command {
    Command::Alarm(SetAlarm {
        alarm: Alarm { kind, member },
        active,
    })
}

fn compact(revision: i64) -> Command {
    Command::Compact(Compaction { revision })
}

fn txn(operation: Operation) -> Command {
    Command::Txn(Txn {
        success: vec![operation],
        ..Txn::default()
    })
}

fn named(kind: AlarmKind, member: u64) -> Alarm {
    Alarm { kind, member }
}

fn replied(replica: &mut Replica, command: &Command) -> Vec<Alarm> {
    match replica.apply_one(command).reply {
        Ok(Reply::Alarm { alarms, .. }) => alarms,
        other => panic!("{command:?} gave {other:?}"),
    }
}

#[test]
fn an_alarm_is_raised_once_and_ended_once() {
    let mut replica = Replica::default();
    let (space, corrupt) = (AlarmKind::NoSpace, AlarmKind::Corrupt);
    for _ in 0..2 {
        assert_eq!(
            replied(&mut replica, &alarm(space, 7, true)),
            [named(space, 7)]
        );
    }
    replied(&mut replica, &alarm(corrupt, 3, true));
    replied(&mut replica, &alarm(space, u64::MAX, true));
    assert_eq!(
        alarms(&replica.rows).unwrap(),
        [named(space, 7), named(space, u64::MAX), named(corrupt, 3)]
    );
    assert_eq!(
        replied(&mut replica, &alarm(corrupt, 3, false)),
        [named(corrupt, 3)]
    );
    assert_eq!(replied(&mut replica, &alarm(corrupt, 3, false)), []);
    replied(&mut replica, &alarm(space, 7, false));
    // One of the kind is left.
    assert!(replica.state.alarms().no_space());
    replied(&mut replica, &alarm(space, u64::MAX, false));
    assert!(!replica.state.alarms().no_space());
    // Alarms change no revision.
    assert_eq!(replica.state.revision(), 1);
}

#[test]
fn without_space_only_what_gives_some_back_is_applied() {
    let mut replica = Replica::default();
    replica.apply_one(&Command::LeaseGrant(LeaseGrant { id: 1, ttl: 60 }));
    replica.apply_one(&put("kept", 1));
    replica.apply_one(&put("kept", 2));
    replied(&mut replica, &alarm(AlarmKind::NoSpace, 1, true));
    let Command::Put(plain) = put("new", 1) else {
        unreachable!("it is a put");
    };
    let nested = Txn {
        failure: vec![Operation::Put(plain.clone())],
        ..Txn::default()
    };
    let refused = [
        put("new", 0),
        txn(Operation::Put(plain)),
        txn(Operation::Txn(nested)),
        Command::LeaseGrant(LeaseGrant { id: 2, ttl: 60 }),
    ];
    for command in refused {
        assert_eq!(
            replica.apply_one(&command).reply,
            Err(Error::NoSpace),
            "{command:?}"
        );
    }
    let accepted = [
        txn(Operation::DeleteRange(DeleteRange {
            key: key("kept"),
            ..DeleteRange::default()
        })),
        delete("kept"),
        compact(4),
        Command::LeaseRevoke(LeaseRevoke { id: 1 }),
        alarm(AlarmKind::NoSpace, 1, false),
        put("new", 1),
    ];
    for command in accepted {
        assert!(replica.apply_one(&command).reply.is_ok(), "{command:?}");
    }
}

#[test]
fn a_corrupt_store_answers_nothing() {
    let mut replica = Replica::default();
    replica.apply_one(&put("a", 1));
    replied(&mut replica, &alarm(AlarmKind::NoSpace, 1, true));
    replied(&mut replica, &alarm(AlarmKind::Corrupt, 1, true));
    for command in [put("a", 1), delete("a"), compact(1)] {
        assert_eq!(
            replica.apply_one(&command).reply,
            Err(Error::Corrupt),
            "{command:?}"
        );
    }
    let get = Range {
        key: key("a"),
        ..Range::default()
    };
    assert_eq!(
        range(&replica.state, &replica.rows, &get, &mizzen_core::Unbounded).unwrap(),
        Err(Error::Corrupt)
    );
    let read = Txn {
        success: vec![Operation::Range(get)],
        ..Txn::default()
    };
    assert_eq!(
        read_only_txn(
            &replica.state,
            &replica.rows,
            &read,
            &mizzen_core::Unbounded
        )
        .unwrap(),
        Err(Error::Corrupt)
    );
    replied(&mut replica, &alarm(AlarmKind::Corrupt, 1, false));
    assert!(replica.apply_one(&delete("a")).reply.is_ok());
}

#[test]
fn compaction_at_the_newest_revision_leaves_what_lives() {
    let mut replica = Replica::default();
    assert_eq!(replica.state.sizes().retained(), 0);
    for round in 0..20 {
        replica.apply_one(&put("a", 100));
        replica.apply_one(&put("b", 5_000));
        if round % 3 == 0 {
            replica.apply_one(&delete("b"));
        }
    }
    let before = replica.state.sizes();
    assert!(before.retained() > 20 * 5_000, "{before:?}");
    assert!((5_100..6_000).contains(&before.live()), "{before:?}");
    replica.apply_one(&compact(replica.state.revision()));
    let after = replica.state.sizes();
    assert_eq!(after.retained(), before.live());
    assert_eq!(after.live(), before.live());

    replica.apply_one(&delete("a"));
    replica.apply_one(&delete("b"));
    replica.apply_one(&compact(replica.state.revision()));
    assert_eq!(replica.state.sizes().retained(), 0);
}

/// A floor between two notes gives back what the one before it says, and the
/// next compaction all the rest. Notes do not pile up.
#[test]
fn compaction_in_the_past_gives_back_in_steps() {
    let mut replica = Replica::default();
    let puts: Vec<Command> = (0..4_500).map(|_| put("a", 10)).collect();
    replica.apply(&puts);
    let one = replica.state.sizes().live();
    let all = replica.state.sizes().retained();
    let notes = |replica: &Replica| {
        let prefix: &[u8] = &[0x01, 0x05];
        let meta = replica.rows.family(Family::Meta);
        meta.keys().filter(|key| key.starts_with(prefix)).count()
    };
    assert_eq!(notes(&replica), 4);
    replica.apply_one(&compact(900));
    assert_eq!(replica.state.sizes().retained(), all);
    replica.apply_one(&compact(2_500));
    let left = replica.state.sizes().retained();
    // Revision 2,000 is the 1,999th put, which superseded 1,998 others.
    assert!((all - 1_998 * one..=all - 1_990 * (one - 2)).contains(&left));
    assert_eq!(notes(&replica), 2);
    replica.apply_one(&compact(replica.state.revision()));
    assert_eq!(replica.state.sizes().retained(), one);
    assert_eq!(notes(&replica), 0);
}
