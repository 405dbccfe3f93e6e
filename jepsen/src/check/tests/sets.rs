//! Sets without revisions.

use super::script::*;
use super::{accepted, rejected, undecided};
use crate::check::set::{check, check_unsafe};
use crate::history::op::{FailClass, Load, Outcome, Reply, Request};

fn valid() -> Script {
    let mut s = Script::of(Load::Set);
    s.ok(0, 10, guarded("s/0", 0, "1"));
    s.ok(20, 30, get("s/0"));
    s.ok(40, 50, guarded("s/0", 2, "1,2"));
    s.ok(41, 51, guarded("s/0", 2, "1,x"));
    s.unknown(60, 70, guarded("s/0", 3, "1,2,y"));
    s.lost(60, 70, guarded("s/0", 3, "1,2,3"));
    s.ok(80, 90, get("s/0"));
    s.load = Some(Load::Final);
    s.ok(100, 110, Request::scan(0));
    s
}

/// Replaces the value that a read shows.
fn bend(s: &mut Script, i: usize, value: &str) {
    let Outcome::Ok {
        reply: Reply::Range(r),
        ..
    } = &mut s.op(i).out
    else {
        panic!()
    };
    r.kvs[0].value = value.into();
}

#[test]
fn a_valid_history_is_accepted() {
    accepted(&check(&valid().history));
}

#[test]
fn a_lost_element_is_rejected() {
    let mut s = valid();
    bend(&mut s, 6, "1,3");
    rejected(&check(&s.history), "set \"s/0\" lost \"2\"");
}

#[test]
fn what_a_read_showed_stays() {
    let mut s = valid();
    bend(&mut s, 7, "1,2");
    rejected(&check(&s.history), "set \"s/0\" lost \"3\"");
}

#[test]
fn elements_that_were_never_added_are_rejected() {
    for (added, why) in [("1,2,x", "shows \"x\""), ("1,2,other", "shows \"other\"")] {
        let mut s = valid();
        bend(&mut s, 6, added);
        rejected(&check(&s.history), why);
    }
    let mut s = valid();
    s.load = Some(Load::Set);
    s.fail(60, 70, guarded("s/0", 3, "1,2,f"), FailClass::Refused);
    bend(&mut s, 6, "1,2,3,f");
    rejected(&check(&s.history), "shows \"f\"");
}

#[test]
fn an_element_cannot_be_seen_before_it_was_sent() {
    let mut s = valid();
    bend(&mut s, 1, "1,2");
    rejected(&check(&s.history), "shows \"2\", which nobody had added");
}

/// Two clients read the same set under a lock that one of them has lost.
fn under_lock(load: Load) -> Script {
    let mut s = Script::of(load);
    s.ok(0, 10, blind("k/0", "1"));
    s.ok(20, 30, blind("k/0", "1,2"));
    s.ok(40, 50, blind("k/0", "1,3"));
    s.unknown(50, 60, blind("k/0", "1,3,4"));
    s.ok(60, 70, get("k/0"));
    s
}

fn blind(key: &str, value: &str) -> Request {
    let Request::Put(put) = put(key, value) else {
        panic!("not a put")
    };
    Request::Txn(crate::history::op::TxnReq {
        then: vec![crate::history::op::TxnOp::Put(put)],
        ..Default::default()
    })
}

#[test]
fn a_guarded_set_must_lose_nothing() {
    rejected(
        &check(&under_lock(Load::Lock).history),
        "set \"k/0\" lost \"2\"",
    );
}

#[test]
fn an_unguarded_set_must_lose_something() {
    let finding = check_unsafe(&under_lock(Load::LockUnsafe).history).unwrap();
    accepted(&finding);
    assert!(finding.summary.contains("lost=1"), "{finding:?}");
    let mut s = Script::of(Load::LockUnsafe);
    s.ok(0, 10, blind("k/0", "1"));
    s.ok(60, 70, get("k/0"));
    undecided(&check_unsafe(&s.history).unwrap(), "lost nothing");
    assert!(check_unsafe(&valid().history).is_none());
}
