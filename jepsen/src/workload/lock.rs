//! Locks: clients add to a set that is kept in one key, each while it holds
//! the lock. A lock that ends by a lease cannot exclude a client that is late,
//! so the unguarded use loses elements; the guarded one changes the set only
//! if the holder's key is still there, and loses none.

use super::Actor;
use super::leases;
use super::set::added;
use crate::history::op::{
    Cmp, Compare, LeaseReq, Load, PutReq, RangeReq, Reply, Request, Target, TxnOp, TxnReq,
};
use rand::Rng;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

pub const PREFIX: &str = "k/";
const LOCK: &str = "lock";
/// Seconds.
const TTL: i64 = 2;
const FULL: usize = 64;
/// How long a client takes between reading and writing, at the most. Some
/// take longer than their lease lives.
const WORK: Duration = Duration::from_millis(200);
const SLEEP: Duration = Duration::from_millis(3_500);

pub async fn step(a: &mut Actor, guarded: bool) {
    let load = if guarded {
        Load::Lock
    } else {
        Load::LockUnsafe
    };
    let Some(lease) = leases::grant(a, load, TTL).await else {
        return;
    };
    let request = Request::Lock {
        name: LOCK.into(),
        lease,
    };
    if let Some(Reply::Locked { key }) = a.call(load, request).await {
        hold(a, load, &key).await;
        if a.rng.random() {
            a.call(load, Request::Unlock { key }).await;
        }
    }
    a.call(load, Request::Lease(LeaseReq::Revoke { id: lease }))
        .await;
}

/// Adds one element to the set.
async fn hold(a: &mut Actor, load: Load, holder: &str) {
    let epoch = a.shared.lock_epoch.load(Ordering::Relaxed);
    let key = format!("{PREFIX}{}/{epoch:05}", load.name());
    let range = RangeReq {
        key: key.clone(),
        ..RangeReq::default()
    };
    let Some(Reply::Range(seen)) = a.call(load, Request::Range(range)).await else {
        return;
    };
    let pause = if a.rng.random_ratio(1, 6) {
        SLEEP
    } else {
        WORK
    };
    sleep(pause.mul_f64(a.rng.random())).await;
    let element = a.unique();
    let (value, _) = added(&seen, &element);
    if value.split(',').count() > FULL {
        let _raced = a.shared.lock_epoch.compare_exchange(
            epoch,
            epoch + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        return;
    }
    let put = PutReq {
        key,
        value,
        ..PutReq::default()
    };
    let held = Compare {
        key: holder.into(),
        cmp: Cmp::Greater,
        target: Target::Version(0),
    };
    let txn = TxnReq {
        compare: (load == Load::Lock).then_some(held).into_iter().collect(),
        then: vec![TxnOp::Put(put)],
        or_else: Vec::new(),
    };
    a.call(load, Request::Txn(txn)).await;
}
