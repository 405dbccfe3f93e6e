//! What an API server asks of its store: objects created if absent, updated
//! and deleted at the revision they were read at, events that end with a
//! lease, and clients that list in pages of one revision and watch from there.

use super::Actor;
use super::leases;
use super::watching::{self, Ask};
use crate::history::op::{
    Cmp, Compare, DeleteReq, Kv, Load, PutReq, RangeReply, RangeReq, Reply, Request, Target, TxnOp,
    TxnOpReply, TxnReq, prefix_end,
};
use rand::Rng;
use rand::seq::IndexedRandom;

pub const PREFIX: &str = "registry/";
const KINDS: [&str; 3] = ["pods", "leases", "configmaps"];
const NAMESPACES: u32 = 2;
const NAMES: u32 = 12;
const PAGE: i64 = 5;
/// Seconds that events live.
const EVENT_TTL: i64 = 3;

fn object(a: &mut Actor) -> String {
    let kind = KINDS.choose(&mut a.rng).unwrap_or(&KINDS[0]);
    let namespace = a.rng.random_range(0..NAMESPACES);
    let name = a.rng.random_range(0..NAMES);
    format!("{PREFIX}{kind}/ns{namespace}/{name:03}")
}

pub async fn step(a: &mut Actor) {
    // Watches take seconds, so the clients that watch do not write.
    if a.client.id % 3 == 2 {
        return list_and_watch(a).await;
    }
    match a.rng.random_range(0..20u8) {
        0..4 => create(a).await,
        4..13 => change(a, false).await,
        13..15 => change(a, true).await,
        15..17 => event(a).await,
        _ => {
            list(a).await;
        }
    }
}

fn at(key: &str, modified: i64) -> Vec<Compare> {
    vec![Compare {
        key: key.into(),
        cmp: Cmp::Equal,
        target: Target::Mod(modified),
    }]
}

fn get(key: &str) -> TxnOp {
    TxnOp::Range(RangeReq {
        key: key.into(),
        ..RangeReq::default()
    })
}

async fn create(a: &mut Actor) {
    let key = object(a);
    let value = a.unique();
    let txn = TxnReq {
        compare: at(&key, 0),
        then: vec![TxnOp::Put(PutReq {
            key: key.clone(),
            value,
            ..PutReq::default()
        })],
        or_else: vec![get(&key)],
    };
    a.call(Load::Kubernetes, Request::Txn(txn)).await;
}

/// Reads, then updates or deletes at that revision, and once more with what
/// the failed attempt showed.
async fn change(a: &mut Actor, delete: bool) {
    let key = object(a);
    let range = RangeReq {
        key: key.clone(),
        ..RangeReq::default()
    };
    let read = a.call(Load::Kubernetes, Request::Range(range)).await;
    let Some(Reply::Range(RangeReply { kvs, .. })) = read else {
        return;
    };
    let mut seen = kvs.into_iter().next();
    for _ in 0..2 {
        let Some(kv) = seen else { return };
        seen = attempt(a, &key, &kv, delete).await;
    }
}

async fn attempt(a: &mut Actor, key: &str, kv: &Kv, delete: bool) -> Option<Kv> {
    let operation = if delete {
        TxnOp::Delete(DeleteReq {
            key: key.into(),
            prev: true,
            ..DeleteReq::default()
        })
    } else {
        TxnOp::Put(PutReq {
            key: key.into(),
            value: a.unique(),
            ..PutReq::default()
        })
    };
    let txn = TxnReq {
        compare: at(key, kv.modified),
        then: vec![operation],
        or_else: vec![get(key)],
    };
    let Some(Reply::Txn(reply)) = a.call(Load::Kubernetes, Request::Txn(txn)).await else {
        return None;
    };
    match reply.replies.into_iter().next() {
        Some(TxnOpReply::Range(r)) if !reply.succeeded => r.kvs.into_iter().next(),
        _ => None,
    }
}

/// Events share a lease for a while.
async fn event(a: &mut Actor) {
    let lease = match a.event_lease.filter(|_| a.rng.random_ratio(7, 8)) {
        Some(lease) => lease,
        None => match leases::grant(a, Load::Kubernetes, EVENT_TTL).await {
            Some(lease) => lease,
            None => return,
        },
    };
    a.event_lease = Some(lease);
    let key = format!("{PREFIX}events/{}", a.unique());
    let value = a.unique();
    let txn = TxnReq {
        compare: at(&key, 0),
        then: vec![TxnOp::Put(PutReq {
            key,
            value,
            lease,
            ..PutReq::default()
        })],
        or_else: Vec::new(),
    };
    if a.call(Load::Kubernetes, Request::Txn(txn)).await.is_none() {
        a.event_lease = None;
    }
}

/// All pages of a kind, at the revision of the first. Gives that revision.
async fn list(a: &mut Actor) -> Option<i64> {
    let kind = KINDS.choose(&mut a.rng).unwrap_or(&KINDS[0]);
    let prefix = format!("{PREFIX}{kind}/");
    let mut key = prefix.clone();
    let mut rev = 0;
    loop {
        let range = RangeReq {
            key: key.clone(),
            end: prefix_end(&prefix),
            rev,
            limit: PAGE,
            ..RangeReq::default()
        };
        let (head, reply) = a.call_at(Load::Kubernetes, Request::Range(range)).await?;
        let Reply::Range(reply) = reply else {
            return None;
        };
        if rev == 0 {
            rev = head;
        }
        match reply.kvs.last() {
            Some(last) if reply.more => key = format!("{}\0", last.key),
            _ => return Some(rev),
        }
    }
}

async fn list_and_watch(a: &mut Actor) {
    let Some(rev) = list(a).await else { return };
    let ask = Ask {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX),
        from: rev + 1,
        prev: true,
        ..Ask::default()
    };
    watching::window(a, ask).await;
}
