//! What a command puts into memory: rows never depend on who waits for the
//! reply, nor on how much room there is for it.

mod common;

use std::cell::Cell;

use common::rows::Replica;
use mizzen_core::{
    Command, DeleteRange, Error, Operation, Outcome, Overlay, Put, Range, Reply, Room, Txn,
    Unbounded, apply, read_only_txn, rehearse,
};

/// Room for so many bytes.
struct Bytes(Cell<usize>);

impl Room for Bytes {
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

fn room(bytes: usize) -> Bytes {
    Bytes(Cell::new(bytes))
}

fn put(key: &str, value: Vec<u8>) -> Put {
    Put {
        key: key.to_owned().into(),
        value: value.into(),
        ..Put::default()
    }
}

fn everything() -> Range {
    Range {
        key: "k".into(),
        range_end: vec![0].into(),
        ..Range::default()
    }
}

/// A hundred keys of a thousand bytes.
fn replica() -> Replica {
    let mut replica = Replica::default();
    for number in 0..100 {
        replica.apply(&[Command::Put(put(&format!("k{number:03}"), vec![7; 1_000]))]);
    }
    replica
}

/// A put, and the whole store a hundred times.
fn amplifier() -> Txn {
    let mut success = vec![Operation::Put(put("kx", vec![1]))];
    success.extend((0..100).map(|_| Operation::Range(everything())));
    Txn {
        success,
        ..Txn::default()
    }
}

fn carried_out(replica: &Replica, command: &Command, room: Option<&dyn Room>) -> (Outcome, String) {
    let mut state = replica.state;
    let mut overlay = Overlay::new(&replica.rows);
    let outcome = apply(&mut state, &mut overlay, command, room).expect("rows can be read");
    (outcome, format!("{state:?} {:?}", overlay.into_batch()))
}

#[test]
fn rows_do_not_depend_on_who_waits() {
    let replica = replica();
    let delete = DeleteRange {
        key: "k".into(),
        range_end: vec![0].into(),
        prev_kv: true,
    };
    for command in [
        Command::Txn(amplifier()),
        Command::DeleteRange(delete.clone()),
        Command::Txn(Txn {
            success: vec![
                Operation::DeleteRange(delete),
                Operation::Range(everything()),
                Operation::Put(put("k5", vec![])),
            ],
            ..Txn::default()
        }),
    ] {
        let (whole, rows) = carried_out(&replica, &command, Some(&Unbounded));
        assert!(whole.reply.is_ok());
        let (untold, same) = carried_out(&replica, &command, None);
        assert_eq!((&untold.events, same), (&whole.events, rows.clone()));
        for bytes in [0, 500, 50_000] {
            let (cut, same) = carried_out(&replica, &command, Some(&room(bytes)));
            assert_eq!(cut.reply, Err(Error::ReplyTooLarge), "{bytes}");
            assert_eq!((&cut.events, same), (&whole.events, rows.clone()));
        }
    }
}

#[test]
fn nothing_is_read_for_nobody() {
    let (untold, _) = carried_out(&replica(), &Command::Txn(amplifier()), None);
    let Ok(Reply::Txn { responses, .. }) = untold.reply else {
        panic!("{:?}", untold.reply);
    };
    assert_eq!(responses.len(), 1, "only the put has an answer");
}

#[test]
fn what_is_too_large_is_known_before_it_is_proposed() {
    let replica = replica();
    let rehearsed = |txn: &Txn, bytes| {
        rehearse(&replica.state, &replica.rows, txn, &room(bytes)).expect("rows can be read")
    };
    assert_eq!(rehearsed(&amplifier(), 1 << 20), Err(Error::ReplyTooLarge));
    assert_eq!(rehearsed(&amplifier(), 100 << 20), Ok(()));
    let deletion = Txn {
        success: vec![Operation::DeleteRange(DeleteRange {
            key: "k".into(),
            range_end: vec![0].into(),
            prev_kv: false,
        })],
        ..Txn::default()
    };
    assert_eq!(rehearsed(&deletion, 10_000), Err(Error::DeletesTooMuch));
    assert_eq!(rehearsed(&deletion, 100_000), Ok(()));
    let reads = Txn {
        success: vec![Operation::Range(everything())],
        ..Txn::default()
    };
    let read = |bytes| read_only_txn(&replica.state, &replica.rows, &reads, &room(bytes));
    assert_eq!(read(10_000).expect("readable"), Err(Error::ReplyTooLarge));
    assert!(read(1 << 20).expect("readable").is_ok());
}

#[test]
fn more_events_than_are_worth_keeping_are_left_in_the_log() {
    let mut replica = Replica::default();
    for number in 0..20 {
        replica.apply(&[Command::Put(put(&format!("k{number}"), vec![7; 1 << 20]))]);
    }
    let delete = Command::DeleteRange(DeleteRange {
        key: "k".into(),
        range_end: vec![0].into(),
        prev_kv: false,
    });
    let (outcome, _) = carried_out(&replica, &delete, None);
    assert!(outcome.events_in_log && outcome.events.is_empty());
    assert_eq!(
        outcome.reply,
        Ok(Reply::DeleteRange {
            revision: 22,
            deleted: 20,
            prev_kvs: Vec::new()
        })
    );
}

#[test]
fn a_range_of_more_keys_than_are_read_at_once_is_deleted() {
    let keys = 2 * mizzen_core::limits::DELETE_PAGE_ROWS + 1;
    let mut replica = Replica::default();
    let puts: Vec<_> = (0..keys)
        .map(|number| Command::Put(put(&format!("k{number:05}"), Vec::new())))
        .collect();
    replica.apply(&puts);
    let delete = Command::DeleteRange(DeleteRange {
        key: "k00001".into(),
        range_end: "l".into(),
        prev_kv: true,
    });
    let (outcome, _) = carried_out(&replica, &delete, Some(&Unbounded));
    let Ok(Reply::DeleteRange {
        deleted, prev_kvs, ..
    }) = outcome.reply
    else {
        panic!("{:?}", outcome.reply);
    };
    assert_eq!((deleted as usize, prev_kvs.len()), (keys - 1, keys - 1));
}
