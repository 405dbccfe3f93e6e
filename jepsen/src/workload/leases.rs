//! Leases of a few seconds with keys: granted, renewed for a while over any
//! member, revoked or left to their end; keys move between them and away.

use super::Actor;
use crate::history::op::{
    LeaseReq, Load, PutReq, RangeReq, Reply, Request, TxnOp, TxnReq, prefix_end,
};
use rand::Rng;
use std::time::Duration;
use tokio::time::sleep;

pub const PREFIX: &str = "l/";
const TTLS: std::ops::RangeInclusive<i64> = 2..=4;
const KEYS: u32 = 24;
/// Rounds after which a lease is given up at the latest.
const ROUNDS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(300);

/// An id nobody else takes.
pub fn id(a: &mut Actor) -> i64 {
    a.leases += 1;
    (i64::from(a.client.id) + 1) << 32 | a.leases
}

/// Grants a lease; `None` if that may not have worked.
pub async fn grant(a: &mut Actor, load: Load, ttl: i64) -> Option<i64> {
    let id = id(a);
    let request = Request::Lease(LeaseReq::Grant { id, ttl });
    a.call(load, request).await.map(|_| id)
}

/// True when the renewal is acknowledged.
pub async fn renew(a: &mut Actor, load: Load, id: i64) -> bool {
    let reply = a.call(load, Request::Lease(LeaseReq::Renew { id })).await;
    matches!(reply, Some(Reply::Lease { ttl }) if ttl > 0)
}

pub async fn revoke(a: &mut Actor, load: Load, id: i64) {
    a.call(load, Request::Lease(LeaseReq::Revoke { id })).await;
}

/// A lease from its grant to its end, or as far as this client follows it.
pub async fn step(a: &mut Actor) {
    let ttl = a.rng.random_range(TTLS);
    let Some(lease) = grant(a, Load::Lease, ttl).await else {
        return;
    };
    for _ in 0..a.rng.random_range(1..4) {
        put(a, lease).await;
    }
    for _ in 0..a.rng.random_range(0..ROUNDS) {
        sleep(PAUSE).await;
        match a.rng.random_range(0..10u8) {
            0..4 => {
                let kept = renew(a, Load::Lease, lease).await;
                if !kept {
                    return;
                }
            }
            4..6 => put(a, lease).await,
            6 => put(a, 0).await,
            7..9 => read(a).await,
            _ => {}
        }
    }
    if a.rng.random_ratio(1, 3) {
        revoke(a, Load::Lease, lease).await;
        // Whoever leads may not have applied it yet, and must not renew it.
        renew(a, Load::Lease, lease).await;
    }
}

/// Attaches a key, or takes it from whatever lease it is attached to.
async fn put(a: &mut Actor, lease: i64) {
    let key = format!("{PREFIX}{:02}", a.rng.random_range(0..KEYS));
    let put = PutReq {
        key,
        value: a.unique(),
        prev: a.rng.random(),
        lease,
    };
    let request = if a.rng.random_ratio(1, 4) {
        Request::Txn(TxnReq {
            then: vec![TxnOp::Put(put)],
            ..TxnReq::default()
        })
    } else {
        Request::Put(put)
    };
    a.call(Load::Lease, request).await;
}

async fn read(a: &mut Actor) {
    let range = RangeReq {
        key: PREFIX.into(),
        end: prefix_end(PREFIX),
        ..RangeReq::default()
    };
    a.call(Load::Lease, Request::Range(range)).await;
}
