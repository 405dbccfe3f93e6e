//! Cycles among transactions over lists.

use super::script::*;
use super::{accepted, rejected};
use crate::check::cycles::check;
use crate::history::op::{
    Load, Outcome, PutReq, RangeReq, Reply, Request, TxnOp, TxnOpReply, TxnReq,
};

/// Appends an element to one list, given what it held, and reads another.
fn txn(list: &str, held: &str, element: &str, read: &str) -> Request {
    let value = match held {
        "" => element.to_string(),
        held => format!("{held},{element}"),
    };
    Request::Txn(TxnReq {
        then: vec![
            TxnOp::Put(PutReq {
                key: list.into(),
                value,
                ..PutReq::default()
            }),
            TxnOp::Range(RangeReq {
                key: read.into(),
                ..RangeReq::default()
            }),
        ],
        ..TxnReq::default()
    })
}

fn reads(keys: &[&str]) -> Request {
    let then = keys.iter().map(|key| {
        TxnOp::Range(RangeReq {
            key: (*key).into(),
            ..RangeReq::default()
        })
    });
    Request::Txn(TxnReq {
        then: then.collect(),
        ..TxnReq::default()
    })
}

/// Makes the second reply of a transaction one of an empty list.
fn sees_nothing(s: &mut Script, i: usize) {
    let Outcome::Ok {
        reply: Reply::Txn(reply),
        ..
    } = &mut s.op(i).out
    else {
        panic!("not a transaction")
    };
    reply.replies[1] = TxnOpReply::Range(Default::default());
}

#[test]
fn a_serial_history_is_accepted() {
    let mut s = Script::of(Load::Append);
    s.ok(0, 1, txn("x", "", "1", "y"));
    s.ok(2, 3, txn("y", "", "2", "x"));
    s.lost(4, 5, txn("x", "1", "3", "y"));
    s.unknown(4, 5, txn("x", "1,3", "9", "y"));
    s.ok(6, 7, reads(&["x", "y"]));
    accepted(&check(&s.history));
}

#[test]
fn write_skew_is_a_cycle() {
    let mut s = Script::of(Load::Append);
    // Both began before either ended, and neither saw the other.
    s.ok(0, 9, txn("x", "", "1", "y"));
    let second = s.ok(0, 9, txn("y", "", "2", "x"));
    accepted(&check(&s.history));
    sees_nothing(&mut s, second);
    s.ok(10, 11, reads(&["x", "y"]));
    rejected(&check(&s.history), "did not see");
}

#[test]
fn a_stale_read_is_a_cycle_with_time() {
    let mut s = Script::of(Load::Append);
    s.ok(0, 1, txn("x", "", "1", "y"));
    let late = s.ok(2, 3, txn("y", "", "2", "x"));
    s.ok(4, 5, reads(&["x"]));
    accepted(&check(&s.history));
    sees_nothing(&mut s, late);
    rejected(&check(&s.history), "ended before");
}

#[test]
fn readings_that_do_not_fit_are_rejected() {
    let mut s = Script::of(Load::Append);
    s.ok(0, 1, txn("x", "", "1", "y"));
    s.ok(2, 3, reads(&["x"]));
    // The first element is lost.
    s.ok(4, 5, txn("x", "", "2", "y"));
    s.ok(6, 7, reads(&["x"]));
    rejected(&check(&s.history), "neither is the beginning of the other");
}
