//! Real-time order.

use super::script::*;
use super::{accepted, rejected};
use crate::check::realtime::{check, check_stale};
use crate::check::replay::replay;
use crate::history::op::{FailClass, Outcome};

#[test]
fn concurrent_operations_may_take_either_order() {
    let mut s = Script::default();
    let late = s.ok(0, 100, get("a"));
    s.ok(10, 20, put("a", "1"));
    s.ok(15, 25, put("a", "2"));
    assert_eq!(s.op(late).revision(), Some(1));
    accepted(&check(&s.history, &[]));
}

#[test]
fn a_stale_read_is_rejected() {
    let mut s = Script::default();
    s.ok(0, 10, put("a", "1"));
    s.ok(20, 30, put("a", "2"));
    let read = s.ok(40, 50, get("a"));
    s.set_rev(read, 2);
    rejected(
        &check(&s.history, &[]),
        "a reply is of revision 2, though an operation had seen revision 3",
    );
}

#[test]
fn what_a_stale_replica_showed_is_visible_to_all() {
    let mut s = Script::default();
    s.ok(0, 100, put("a", "1"));
    s.ok(10, 20, stale("a"));
    let read = s.ok(30, 40, get("a"));
    s.set_rev(read, 1);
    rejected(
        &check(&s.history, &[]),
        "though an operation had seen revision 2",
    );
}

#[test]
fn what_a_watch_showed_is_visible_to_all() {
    let mut s = Script::watched();
    s.lost(0, 10, put("a", "1"));
    let read = s.ok(30, 40, get("a"));
    s.set_rev(read, 1);
    rejected(
        &check(&s.history, &[]),
        "though a watch had seen revision 2",
    );
}

#[test]
fn a_write_below_what_was_visible_is_rejected() {
    let mut s = Script::default();
    s.ok(0, 10, put("a", "1"));
    let read = s.ok(20, 30, get("a"));
    let write = s.ok(40, 50, put("a", "2"));
    s.set_rev(read, 3);
    rejected(
        &check(&s.history, &[]),
        "a write made revision 3, though an operation had seen revision 3",
    );
    s.op(write).start = 25;
    accepted(&check(&s.history, &[]));
}

#[test]
fn an_unknown_write_cannot_take_effect_before_it_began() {
    let mut s = Script::watched();
    s.ok(0, 10, put("a", "1"));
    let lost = s.lost(60, 70, put("a", "2"));
    s.ok(20, 30, get("a"));
    let placed = replay(&s.history).placed;
    assert_eq!(placed, vec![(lost, 3)]);
    rejected(
        &check(&s.history, &placed),
        "a write made revision 3, though an operation had seen revision 3",
    );
    s.op(lost).start = 15;
    accepted(&check(&s.history, &placed));
}

#[test]
fn one_process_does_not_go_back_in_time() {
    let mut s = Script::default();
    s.ok(0, 10, put("a", "1"));
    s.ok(20, 30, stale("a"));
    let second = s.ok(40, 50, stale("a"));
    s.set_rev(second, 1);
    rejected(&check_stale(&s.history), "a reply is of revision 1");
    // Another process may be behind, of this member or another.
    s.op(second).incarnation = 2;
    accepted(&check_stale(&s.history));
    s.op(second).incarnation = 1;
    s.op(second).member = 1;
    accepted(&check_stale(&s.history));
    // A linearizable read may not, but that is the other check's business.
    accepted(&check(&s.history, &[]));
    // What was asked without an answer says nothing.
    s.op(second).member = 0;
    s.op(second).out = Outcome::Unknown {
        error: "timeout".into(),
    };
    accepted(&check_stale(&s.history));
    s.op(second).out = Outcome::Fail {
        class: FailClass::Read,
        error: "no leader".into(),
    };
    accepted(&check_stale(&s.history));
}
