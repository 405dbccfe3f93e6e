//! Transactions over several lists: read the lists, then append to some and
//! read others in one transaction that is guarded by every list's
//! modification revision.

use super::Actor;
use super::set::added;
use crate::history::op::{
    Cmp, Compare, Load, PutReq, RangeReply, RangeReq, Reply, Request, Target, TxnOp, TxnOpReply,
    TxnReq,
};
use rand::Rng;
use rand::seq::SliceRandom;
use std::sync::atomic::Ordering;

pub const PREFIX: &str = "a/";
const LISTS: usize = 3;
const FULL: usize = 32;

pub async fn step(a: &mut Actor) {
    let epoch = a.shared.append_epoch.load(Ordering::Relaxed);
    let mut keys: Vec<String> = (0..LISTS)
        .map(|i| format!("{PREFIX}{epoch:05}/{i}"))
        .collect();
    keys.shuffle(&mut a.rng);
    keys.truncate(a.rng.random_range(1..=LISTS));

    let ranges = keys
        .iter()
        .map(|k| {
            TxnOp::Range(RangeReq {
                key: k.clone(),
                ..RangeReq::default()
            })
        })
        .collect();
    let read = TxnReq {
        then: ranges,
        ..TxnReq::default()
    };
    let Some(Reply::Txn(reply)) = a.call(Load::Append, Request::Txn(read)).await else {
        return;
    };
    let lists: Vec<RangeReply> = reply
        .replies
        .into_iter()
        .filter_map(|r| match r {
            TxnOpReply::Range(r) => Some(r),
            _ => None,
        })
        .collect();
    if lists.len() != keys.len() {
        return;
    }
    if lists.iter().any(|l| {
        l.kvs
            .first()
            .is_some_and(|kv| kv.value.split(',').count() >= FULL)
    }) {
        let _raced = a.shared.append_epoch.compare_exchange(
            epoch,
            epoch + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        return;
    }
    let txn = guarded(a, &keys, &lists);
    a.call(Load::Append, Request::Txn(txn)).await;
}

fn guarded(a: &mut Actor, keys: &[String], lists: &[RangeReply]) -> TxnReq {
    let mut txn = TxnReq::default();
    for (i, (key, list)) in keys.iter().zip(lists).enumerate() {
        let element = a.unique();
        let (value, guard) = added(list, &element);
        let target = if guard == 0 && a.rng.random() {
            Target::Create(0)
        } else {
            Target::Mod(guard)
        };
        txn.compare.push(Compare {
            key: key.clone(),
            cmp: Cmp::Equal,
            target,
        });
        // The first list is always appended to, so that this is a write.
        txn.then.push(if i == 0 || a.rng.random() {
            TxnOp::Put(PutReq {
                key: key.clone(),
                value,
                prev: a.rng.random_ratio(1, 4),
                lease: 0,
            })
        } else {
            TxnOp::Range(RangeReq {
                key: key.clone(),
                ..RangeReq::default()
            })
        });
    }
    txn
}
