//! Sets without revisions.

use super::script::*;
use super::{accepted, rejected};
use crate::check::set::check;
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
