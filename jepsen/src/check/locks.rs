//! Locks: two clients never certainly hold the same lock at one moment. A
//! client certainly holds a lock from the reply that gave it until it began to
//! give it back, or until its lease may have ended.

use super::Finding;
use crate::clock::{Nanos, SECOND, seconds};
use crate::history::History;
use crate::history::op::{LeaseReq, Op, Outcome, Reply, Request, lock_key};
use std::collections::{BTreeMap, HashMap};

struct Held {
    from: Nanos,
    until: Nanos,
    op: u64,
}

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("locks");
    let ends = ends(history);
    let mut locks: BTreeMap<&str, Vec<Held>> = BTreeMap::new();
    for op in &history.ops {
        let Request::Lock { name, lease } = &op.req else {
            continue;
        };
        let Outcome::Ok {
            reply: Reply::Locked { key },
            ..
        } = &op.out
        else {
            continue;
        };
        if *key != lock_key(name, *lease) {
            finding.violation(
                format!("lease {lease} was given lock {name:?} by the key {key:?}"),
                &[op.id],
            );
        }
        let until = ends.get(lease).copied().unwrap_or(0);
        if until > op.end {
            locks.entry(name).or_default().push(Held {
                from: op.end,
                until,
                op: op.id,
            });
        }
    }
    let mut held = 0;
    for (name, list) in &mut locks {
        held += list.len();
        list.sort_by_key(|h| h.from);
        let mut last: Option<&Held> = None;
        for next in list.iter() {
            if let Some(last) = last
                && next.from < last.until
            {
                let why = format!(
                    "lock {name:?} was given away at {} s, though another client held it until {} s",
                    seconds(next.from),
                    seconds(last.until)
                );
                finding.violation(why, &[last.op, next.op]);
            }
            if last.is_none_or(|last| last.until < next.until) {
                last = Some(next);
            }
        }
    }
    finding.summary = format!("locks={} held={held}", locks.len());
    finding.rests_on("locks held", held);
    finding
}

/// Until when each lease, and what it holds, is certainly there: its time to
/// live after the last acknowledged renewal was sent, or the beginning of
/// anything that may take it away.
fn ends(history: &History) -> HashMap<i64, Nanos> {
    let mut ttls: HashMap<i64, Nanos> = HashMap::new();
    let mut ends: HashMap<i64, Nanos> = HashMap::new();
    let mut taken: HashMap<i64, Nanos> = HashMap::new();
    let mut keys: HashMap<String, i64> = HashMap::new();
    let alive =
        |op: &Op| matches!(&op.out, Outcome::Ok { reply: Reply::Lease { ttl }, .. } if *ttl > 0);
    let mut earlier = |id: i64, at: Nanos| {
        let first = taken.entry(id).or_insert(at);
        *first = at.min(*first);
    };
    for op in &history.ops {
        match &op.req {
            Request::Lease(LeaseReq::Grant { id, ttl }) if alive(op) => {
                ttls.insert(*id, u64::try_from(*ttl).unwrap_or(0) * SECOND);
            }
            Request::Lease(LeaseReq::Revoke { id }) => earlier(*id, op.start),
            Request::Lock { name, lease } => {
                keys.insert(lock_key(name, *lease), *lease);
            }
            _ => {}
        }
    }
    for op in &history.ops {
        match &op.req {
            Request::Lease(LeaseReq::Grant { id, .. } | LeaseReq::Renew { id }) if alive(op) => {
                let until = op.start + ttls.get(id).copied().unwrap_or(0);
                let end = ends.entry(*id).or_insert(until);
                *end = until.max(*end);
            }
            Request::Unlock { key } => {
                if let Some(lease) = keys.get(key) {
                    earlier(*lease, op.start);
                }
            }
            _ => {}
        }
    }
    for (id, end) in &mut ends {
        *end = taken.get(id).map_or(*end, |taken| (*taken).min(*end));
    }
    ends
}
