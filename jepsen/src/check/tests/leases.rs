//! Leases and locks.

use super::script::*;
use super::{accepted, rejected};
use crate::check::replay::replay;
use crate::check::{leases, locks};
use crate::clock::SECOND;
use crate::history::History;
use crate::history::op::{LeaseReq, Load, Outcome, PutReq, Reply, Request, lock_key};
use crate::history::record::{Fault, Injected};

const TTL: i64 = 3;

fn ask(request: LeaseReq) -> Request {
    Request::Lease(request)
}

fn grant(s: &mut Script, at: u64, id: i64) -> usize {
    let i = s.ok(
        at * SECOND,
        at * SECOND + 1,
        ask(LeaseReq::Grant { id, ttl: TTL }),
    );
    says(s, i, TTL);
    i
}

fn renew(s: &mut Script, at: u64, id: i64, ttl: i64) -> usize {
    let i = s.ok(at * SECOND, at * SECOND + 1, ask(LeaseReq::Renew { id }));
    says(s, i, ttl);
    i
}

fn says(s: &mut Script, i: usize, left: i64) {
    let Outcome::Ok {
        reply: Reply::Lease { ttl },
        ..
    } = &mut s.op(i).out
    else {
        panic!("not about a lease")
    };
    *ttl = left;
}

fn held(key: &str, lease: i64) -> Request {
    Request::Put(PutReq {
        key: key.into(),
        value: "held".into(),
        prev: false,
        lease,
    })
}

/// The lease ends by itself, seen by the watch.
fn ends(s: &mut Script, at: u64, id: i64) {
    let effect = s.model.apply(&ask(LeaseReq::Revoke { id }));
    s.show(0, at * SECOND, effect.events);
}

/// A lease granted at 1 s, with two keys, renewed at 3 s.
fn kept() -> Script {
    let mut s = Script::watched();
    grant(&mut s, 1, 7);
    s.ok(SECOND + 2, SECOND + 3, held("a", 7));
    s.ok(SECOND + 4, SECOND + 5, held("b", 7));
    s.ok(SECOND + 6, SECOND + 7, put("c", "free"));
    renew(&mut s, 3, 7, TTL);
    s
}

fn judged(history: &History) -> crate::check::Finding {
    let replayed = replay(history);
    replayed.findings.iter().for_each(accepted);
    leases::check(history, &replayed)
}

#[test]
fn an_end_in_time_is_accepted() {
    let mut s = kept();
    ends(&mut s, 7, 7);
    renew(&mut s, 8, 7, 0);
    accepted(&judged(&s.history));
}

#[test]
fn unknown_renewals_and_revocations_are_given_both_ways() {
    // The renewal at 5 s may or may not have been carried out.
    for end in [7, 9] {
        let mut s = kept();
        s.unknown(5 * SECOND, 6 * SECOND, ask(LeaseReq::Renew { id: 7 }));
        ends(&mut s, end, 7);
        accepted(&judged(&s.history));
    }
    let mut s = kept();
    s.lost(4 * SECOND, 5 * SECOND, ask(LeaseReq::Revoke { id: 7 }));
    accepted(&judged(&s.history));
}

#[test]
fn a_renewal_after_a_revocation_is_rejected() {
    for (left, good) in [(0, true), (TTL, false)] {
        let mut s = kept();
        s.ok(4 * SECOND, 4 * SECOND + 1, ask(LeaseReq::Revoke { id: 7 }));
        renew(&mut s, 5, 7, left);
        match good {
            true => accepted(&judged(&s.history)),
            false => rejected(
                &judged(&s.history),
                "lease 7 was renewed at 5.000 s though it had been revoked by 4.000 s",
            ),
        }
    }
    // Both at once: either may have been first.
    let mut s = kept();
    s.ok(4 * SECOND, 6 * SECOND, ask(LeaseReq::Revoke { id: 7 }));
    renew(&mut s, 5, 7, TTL);
    accepted(&judged(&s.history));
}

#[test]
fn an_early_end_is_rejected() {
    let mut s = kept();
    ends(&mut s, 5, 7);
    rejected(
        &judged(&s.history),
        "lease 7 ended at revision 5, seen at 5.000 s, though it was renewed until 6.000 s",
    );
}

#[test]
fn a_late_end_is_rejected_unless_a_fault_explains_it() {
    let mut s = kept();
    ends(&mut s, 9, 7);
    rejected(&judged(&s.history), "after its time at the latest");
    s.history.faults.push(cut());
    accepted(&judged(&s.history));
}

#[test]
fn the_time_begins_anew_when_a_leader_is_back() {
    for (back, late) in [(6, true), (8, false)] {
        let mut s = kept();
        s.history.faults.push(cut());
        s.ok(5 * SECOND, back * SECOND, put("c", "again"));
        ends(&mut s, 12, 7);
        if late {
            rejected(&judged(&s.history), "3.000 s after its time at the latest");
        } else {
            accepted(&judged(&s.history));
        }
    }
}

/// A leader was lost from 4 s to 5 s.
fn cut() -> Fault {
    Fault {
        kind: "kill-leader".into(),
        members: vec![0],
        hit_leader: true,
        start: 4 * SECOND,
        end: 5 * SECOND,
        injected: Injected::Installed,
        kills: 1,
        detail: String::new(),
    }
}

#[test]
fn a_lease_that_never_ends_is_rejected() {
    let mut s = kept();
    s.load = Some(Load::Final);
    s.ok(20 * SECOND, 21 * SECOND, get("a"));
    rejected(&judged(&s.history), "has not ended");
}

#[test]
fn half_of_a_leases_keys_is_no_end() {
    let mut s = kept();
    let event = s.model.apply(&delete("a")).events;
    s.show(0, 7 * SECOND, event);
    let replayed = replay(&s.history);
    let revisions = replayed.findings.iter().find(|f| f.check == "revisions");
    rejected(revisions.unwrap(), "no operation asked for this");
}

#[test]
fn renewals_after_the_end_and_wrong_refusals_are_rejected() {
    let mut s = kept();
    ends(&mut s, 7, 7);
    renew(&mut s, 8, 7, TTL);
    rejected(
        &judged(&s.history),
        "was renewed though its end at revision 5",
    );
    let mut s = kept();
    renew(&mut s, 4, 7, 0);
    rejected(&judged(&s.history), "lease 7 was said to be gone");
}

#[test]
fn a_revocation_that_leaves_a_key_is_rejected() {
    let mut s = kept();
    s.ok(4 * SECOND, 5 * SECOND, ask(LeaseReq::Revoke { id: 7 }));
    accepted(&judged(&s.history));
    let mut s = kept();
    let i = s.ok(4 * SECOND, 5 * SECOND, get("a"));
    s.op(i).req = ask(LeaseReq::Revoke { id: 7 });
    let replies = replay(&s.history).findings;
    let replies = replies.iter().find(|f| f.check == "replies");
    rejected(replies.unwrap(), "\"a\" is still attached to it");
}

fn lock(s: &mut Script, start: u64, end: u64, lease: i64) -> usize {
    let name = "lock".to_string();
    s.ok(start * SECOND, end * SECOND, Request::Lock { name, lease })
}

#[test]
fn locks_one_after_the_other_are_accepted() {
    let mut s = Script::watched();
    grant(&mut s, 1, 1);
    grant(&mut s, 1, 2);
    lock(&mut s, 2, 2, 1);
    let key = lock_key("lock", 1);
    s.ok(3 * SECOND, 3 * SECOND, Request::Unlock { key });
    lock(&mut s, 2, 3, 2);
    accepted(&locks::check(&s.history));
    replay(&s.history).findings.iter().for_each(accepted);
    // A holder whose lease may have ended holds nothing for certain.
    let mut s = Script::watched();
    grant(&mut s, 1, 1);
    grant(&mut s, 3, 2);
    lock(&mut s, 2, 2, 1);
    lock(&mut s, 3, 5, 2);
    accepted(&locks::check(&s.history));
}

#[test]
fn locks_of_unknown_outcome_are_held_by_nobody_for_certain() {
    let mut s = Script::watched();
    grant(&mut s, 1, 1);
    grant(&mut s, 1, 2);
    grant(&mut s, 1, 3);
    // Taken, but its client never heard of it.
    let name = "lock".to_string();
    s.unknown(2 * SECOND, 3 * SECOND, Request::Lock { name, lease: 3 });
    lock(&mut s, 2, 2, 1);
    // A renewal without an answer prolongs nothing for certain.
    s.unknown(3 * SECOND, 4 * SECOND, ask(LeaseReq::Renew { id: 1 }));
    renew(&mut s, 3, 2, TTL);
    lock(&mut s, 2, 5, 2);
    accepted(&locks::check(&s.history));
    // Nor is a lock held once it may have been given back.
    let mut s = Script::watched();
    grant(&mut s, 1, 1);
    grant(&mut s, 1, 2);
    lock(&mut s, 2, 2, 1);
    let key = lock_key("lock", 1);
    s.unknown(2 * SECOND + 1, 9 * SECOND, Request::Unlock { key });
    lock(&mut s, 2, 3, 2);
    accepted(&locks::check(&s.history));
}

#[test]
fn two_holders_at_once_are_rejected() {
    let mut s = Script::watched();
    grant(&mut s, 1, 1);
    grant(&mut s, 1, 2);
    lock(&mut s, 2, 2, 1);
    lock(&mut s, 2, 3, 2);
    rejected(
        &locks::check(&s.history),
        "lock \"lock\" was given away at 3.000 s, though another client held it until 4.000 s",
    );
}

#[test]
fn a_lock_given_up_may_leave_and_take_its_key() {
    let mut s = Script::watched();
    grant(&mut s, 1, 1);
    let name = "lock".to_string();
    s.lost(SECOND * 2, SECOND * 3, Request::Lock { name, lease: 1 });
    let key = lock_key("lock", 1);
    let gone = s.model.apply(&Request::Unlock { key });
    s.show(0, 3 * SECOND, gone.events);
    accepted(&judged(&s.history));
}
