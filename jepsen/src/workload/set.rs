//! A set kept in one key: elements are added by a transaction guarded by the
//! key's modification revision, and read back. No element that was
//! acknowledged may ever be missing.

use super::Actor;
use crate::history::op::{
    Cmp, Compare, Load, PutReq, RangeReply, RangeReq, Request, Target, TxnOp, TxnReq,
};
use rand::Rng;
use std::sync::atomic::Ordering;

pub const PREFIX: &str = "s/";
/// Elements in one key before the next key is used.
const FULL: usize = 64;

pub async fn step(a: &mut Actor) {
    let epoch = a.shared.set_epoch.load(Ordering::Relaxed);
    let key = format!("{PREFIX}{epoch:05}");
    let Some(seen) = a
        .read(
            Load::Set,
            RangeReq {
                key: key.clone(),
                ..RangeReq::default()
            },
        )
        .await
    else {
        return;
    };
    if a.rng.random_ratio(1, 2) {
        return;
    }
    let element = a.unique();
    let (value, guard) = added(&seen, &element);
    if value.split(',').count() > FULL {
        // Whoever comes second finds the epoch moved on already.
        let _raced = a.shared.set_epoch.compare_exchange(
            epoch,
            epoch + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        return;
    }
    let txn = TxnReq {
        compare: vec![Compare {
            key: key.clone(),
            cmp: Cmp::Equal,
            target: Target::Mod(guard),
        }],
        then: vec![TxnOp::Put(PutReq {
            key,
            value,
            prev: false,
            lease: 0,
        })],
        or_else: Vec::new(),
    };
    a.call(Load::Set, Request::Txn(txn)).await;
}

/// The list with the element at its end, and the modification revision the
/// list was read at (zero when there is no key yet).
pub fn added(seen: &RangeReply, element: &str) -> (String, i64) {
    match seen.kvs.first() {
        Some(kv) => (format!("{},{element}", kv.value), kv.modified),
        None => (element.to_string(), 0),
    }
}
