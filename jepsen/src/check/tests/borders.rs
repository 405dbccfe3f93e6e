//! Compaction borders.

use super::script::*;
use super::{accepted, rejected};
use crate::check::compaction::check;
use crate::history::op::{FailClass, Request};

const COMPACT: fn(i64) -> Request = |rev| Request::Compact { rev };

/// Five revisions, compacted at 4.
fn script() -> Script {
    let mut s = Script::default();
    for i in 0..4 {
        s.ok(i * 10, i * 10 + 5, put("a", &i.to_string()));
    }
    s.ok(50, 60, COMPACT(4));
    s
}

#[test]
fn the_borders_as_they_are() {
    let mut s = script();
    s.fail(70, 80, get_at("a", 3), FailClass::Compacted);
    s.ok(70, 80, get_at("a", 4));
    s.ok(70, 80, get_at("a", 5));
    s.fail(70, 80, get_at("a", 6), FailClass::Future);
    s.fail(70, 80, COMPACT(4), FailClass::Compacted);
    s.fail(70, 80, COMPACT(6), FailClass::Future);
    s.ok(70, 80, COMPACT(5));
    accepted(&check(&s.history));
}

#[test]
fn compaction_below_or_above_its_mark_is_rejected() {
    let mut s = script();
    s.fail(70, 80, get_at("a", 4), FailClass::Compacted);
    rejected(&check(&s.history), "revision 4 is called compacted");
    let mut s = script();
    s.ok(70, 80, get_at("a", 3));
    rejected(
        &check(&s.history),
        "revision 3 was read though revisions below 4 were compacted",
    );
}

#[test]
fn a_compaction_in_flight_may_have_happened_or_not() {
    for unknown in [false, true] {
        let mut s = script();
        if unknown {
            s.unknown(70, 80, COMPACT(5));
        } else {
            s.ok(70, 200, COMPACT(5));
        }
        s.ok(75, 90, get_at("a", 4));
        s.fail(75, 90, get_at("a", 4), FailClass::Compacted);
        accepted(&check(&s.history));
    }
}

#[test]
fn a_stale_replica_may_still_know_the_past() {
    let mut s = script();
    let i = s.ok(70, 80, get_at("a", 3));
    let Request::Range(r) = &mut s.op(i).req else {
        panic!()
    };
    r.serializable = true;
    accepted(&check(&s.history));
}

#[test]
fn compacting_twice_or_the_future_is_rejected() {
    let mut s = script();
    s.ok(70, 80, COMPACT(4));
    rejected(&check(&s.history), "though the floor was 4 already");
    let mut s = script();
    s.ok(70, 80, COMPACT(9));
    rejected(&check(&s.history), "though the head was 5");
    let mut s = script();
    s.fail(70, 80, COMPACT(5), FailClass::Compacted);
    rejected(&check(&s.history), "revision 5 is called compacted");
}

#[test]
fn a_visible_revision_is_not_in_the_future() {
    let mut s = script();
    s.fail(70, 80, get_at("a", 5), FailClass::Future);
    rejected(&check(&s.history), "revision 5 is called a future one");
}
