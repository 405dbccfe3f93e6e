//! Replay against the model, and the resolution of unknown outcomes.

use super::script::*;
use super::{accepted, rejected, undecided};
use crate::check::Finding;
use crate::check::replay::replay;
use crate::history::op::{FailClass, Outcome, Reply, Request, TxnOpReply};

fn finding(script: &Script, check: &str) -> Finding {
    replay(&script.history)
        .findings
        .into_iter()
        .find(|f| f.check == check)
        .unwrap()
}

fn all_accepted(script: &Script) -> Vec<(usize, i64)> {
    let replayed = replay(&script.history);
    replayed.findings.iter().for_each(accepted);
    replayed.placed
}

/// Puts, a transaction, a deletion and reads of every kind.
fn valid() -> Script {
    let mut s = Script::watched();
    s.ok(0, 1, get("a"));
    s.ok(2, 3, put("a", "1"));
    s.ok(4, 5, put_prev("a", "2"));
    s.ok(6, 7, both(("a", "3"), ("b", "4")));
    s.ok(8, 9, get("b"));
    s.ok(10, 11, guarded("a", 4, "5"));
    s.ok(12, 13, guarded("a", 4, "6"));
    s.ok(14, 15, delete("b"));
    s.ok(16, 17, delete("b"));
    s.ok(18, 19, swap("a", "5", "7"));
    s.ok(20, 21, swap("a", "5", "8"));
    s.ok(22, 23, Request::scan(0));
    s
}

#[test]
fn a_valid_history_is_accepted() {
    assert_eq!(all_accepted(&valid()), vec![]);
}

#[test]
fn a_read_of_the_past_is_compared_with_the_past() {
    let mut s = valid();
    let head = s.model.rev;
    let i = s.ok(30, 31, get("a"));
    s.op(i).req = get_at("a", 2);
    rejected(&finding(&s, "replies"), "at revision 2 the reply must be");
    let Outcome::Ok {
        rev,
        reply: Reply::Range(r),
    } = &mut s.op(i).out
    else {
        panic!()
    };
    *rev = head;
    let kv = &mut r.kvs[0];
    (kv.value, kv.create, kv.modified, kv.version) = ("1".into(), 2, 2, 1);
    all_accepted(&s);
}

#[test]
fn each_field_of_a_reply_counts() {
    type Bend = fn(&mut crate::history::op::Kv);
    let bends: [Bend; 5] = [
        |kv| kv.value = "x".into(),
        |kv| kv.create -= 1,
        |kv| kv.modified -= 1,
        |kv| kv.version += 1,
        |kv| kv.lease = 1,
    ];
    for bend in bends {
        let mut s = valid();
        let i = s.ok(30, 31, get("a"));
        let Outcome::Ok {
            reply: Reply::Range(r),
            ..
        } = &mut s.op(i).out
        else {
            panic!()
        };
        bend(&mut r.kvs[0]);
        rejected(&finding(&s, "replies"), "the reply must be");
    }
}

#[test]
fn previous_pairs_counts_and_branches_are_compared() {
    let mut s = valid();
    let Outcome::Ok {
        reply: Reply::Put(p),
        ..
    } = &mut s.op(2).out
    else {
        panic!()
    };
    p.prev = None;
    rejected(&finding(&s, "replies"), "at revision 3");

    let mut s = valid();
    let Outcome::Ok {
        reply: Reply::Txn(t),
        ..
    } = &mut s.op(6).out
    else {
        panic!()
    };
    t.succeeded = true;
    rejected(&finding(&s, "replies"), "at revision 5");

    let mut s = valid();
    let Outcome::Ok {
        reply: Reply::Txn(t),
        ..
    } = &mut s.op(3).out
    else {
        panic!()
    };
    let TxnOpReply::Put(p) = &mut t.replies[0] else {
        panic!()
    };
    p.prev.as_mut().unwrap().version = 1;
    rejected(&finding(&s, "replies"), "at revision 4");

    let mut s = valid();
    let Outcome::Ok {
        reply: Reply::Range(r),
        ..
    } = &mut s.op(11).out
    else {
        panic!()
    };
    r.count += 1;
    rejected(&finding(&s, "replies"), "the reply must be");
}

#[test]
fn an_acknowledged_write_that_vanished() {
    // Acknowledged at revision 3, which another acknowledged write has too.
    let mut s = Script::default();
    s.ok(0, 1, put("a", "1"));
    let lost = s.ok(2, 3, put("b", "2"));
    s.model = Default::default();
    s.model.apply(&put("a", "1"));
    s.ok(4, 5, put("c", "3"));
    s.ok(6, 7, Request::scan(0));
    assert_eq!(s.op(lost).revision(), Some(3));
    rejected(
        &finding(&s, "acknowledged-writes"),
        "revision 3 was given to 2 acknowledged writes",
    );

    // The same, and the watch shows what the revision really did.
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    let lost = s.ok(2, 3, put("b", "2"));
    s.op(lost).req = put("b", "other");
    rejected(
        &finding(&s, "acknowledged-writes"),
        "a watch shows there put \"b\"=\"2\"",
    );
}

#[test]
fn a_gap_is_rejected() {
    let mut s = Script::default();
    s.ok(0, 1, put("a", "1"));
    s.model.rev += 1;
    s.ok(2, 3, put("a", "2"));
    rejected(&finding(&s, "revisions"), "gap: no write made revision 3");
    // With a further write that was never acknowledged, the gap may be its work.
    s.history.ops.clear();
    s.model = Default::default();
    s.ok(0, 1, put("a", "1"));
    s.unknown(0, 9, put("z", "9"));
    s.model.rev += 1;
    s.ok(2, 3, put("a", "2"));
    undecided(&finding(&s, "revisions"), "no evidence for revision 3");
}

#[test]
fn revision_zero_and_runaway_revisions_are_rejected() {
    for rev in [0, -1, 1_000_000_000_000] {
        let mut s = valid();
        s.set_rev(4, rev);
        rejected(&finding(&s, "replies"), &format!("header revision {rev}"));
    }
}

#[test]
fn unknown_writes_are_resolved_through_the_watch() {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    s.lost(2, 3, put("a", "2"));
    s.unknown(2, 3, put("a", "never"));
    s.lost(2, 3, both(("a", "3"), ("b", "4")));
    s.ok(4, 5, get("a"));
    s.lost(6, 7, delete("a"));
    s.ok(8, 9, get("a"));
    s.ok(10, 11, put("a", "5"));
    assert_eq!(all_accepted(&s), vec![(1, 3), (3, 4), (5, 5)]);
}

#[test]
fn unknown_writes_are_resolved_by_what_later_replies_show() {
    let mut s = Script::default();
    s.ok(0, 1, put("a", "1"));
    s.lost(2, 3, put("a", "2"));
    s.ok(4, 5, get("a"));
    s.lost(6, 7, put("a", "3"));
    s.ok(8, 9, put_prev("a", "4"));
    assert_eq!(all_accepted(&s), vec![(1, 3), (3, 4)]);
}

#[test]
fn unknown_writes_are_resolved_by_scans() {
    let mut s = Script::default();
    s.ok(0, 1, put("a", "1"));
    s.ok(0, 1, put("b", "1"));
    s.lost(2, 3, delete("a"));
    let scan = Request::scan(4);
    s.ok(4, 5, scan);
    s.ok(6, 7, put("b", "2"));
    assert_eq!(all_accepted(&s), vec![(2, 4)]);
}

#[test]
fn a_guarded_deletion_is_placed_before_a_plain_one() {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    s.unknown(2, 3, delete("a"));
    s.lost(2, 3, guarded_delete("a", 2));
    s.ok(4, 5, put("a", "2"));
    s.model.apply(&Request::scan(0));
    let effect = s.model.apply(&delete("a"));
    s.show(0, 7, effect.events);
    s.ok(8, 9, get("a"));
    assert_eq!(all_accepted(&s), vec![(2, 3), (1, 5)]);
}

#[test]
fn of_two_equal_deletions_the_one_sent_in_time_is_placed() {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    // Both end with the connection, and the later one is told of first.
    s.unknown(50, 60, delete("a"));
    let effect = s.model.apply(&delete("a"));
    s.show(0, 40, effect.events);
    s.unknown(2, 61, delete("a"));
    assert_eq!(all_accepted(&s), vec![(2, 3)]);
}

#[test]
fn a_failed_write_that_took_effect_is_rejected() {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    let i = s.lost(2, 3, put("a", "2"));
    s.op(i).out = Outcome::Fail {
        class: FailClass::Refused,
        error: "refused".into(),
    };
    s.unknown(2, 3, put("a", "x"));
    s.ok(4, 5, get("a"));
    rejected(
        &finding(&s, "revisions"),
        "a write reported as failed took effect",
    );
}

#[test]
fn a_write_applied_twice_is_rejected() {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    s.unknown(0, 1, put("x", "x"));
    let effect = s.model.apply(&put("a", "1"));
    s.show(0, 2, effect.events);
    s.ok(4, 5, get("a"));
    rejected(&finding(&s, "revisions"), "took effect twice");
}

#[test]
fn half_a_transaction_is_rejected() {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    s.unknown(2, 3, both(("a", "2"), ("b", "3")));
    let effect = s.model.apply(&put("b", "3"));
    s.show(0, 3, effect.events);
    s.ok(4, 5, get("b"));
    rejected(&finding(&s, "revisions"), "not as it was asked");
}
