//! Blind transactions over a few keys: puts, deletions and ranges in one
//! request, sometimes behind a comparison, and plain range deletions.

use super::Actor;
use crate::history::op::{
    Cmp, Compare, DeleteReq, Load, PutReq, RangeReq, Request, Target, TxnOp, TxnReq, prefix_end,
};
use rand::Rng;
use rand::seq::SliceRandom;

pub const PREFIX: &str = "w/";
const KEYS: u32 = 8;

fn key(i: u32) -> String {
    format!("{PREFIX}{i}")
}

pub async fn step(a: &mut Actor) {
    let req = match a.rng.random_range(0..10u8) {
        0 => {
            let from = a.rng.random_range(0..KEYS);
            let to = a.rng.random_range(from..=KEYS);
            Request::Delete(DeleteReq {
                key: key(from),
                end: key(to),
                prev: a.rng.random(),
            })
        }
        1 => Request::Range(RangeReq {
            key: PREFIX.into(),
            end: prefix_end(PREFIX),
            ..RangeReq::default()
        }),
        _ => Request::Txn(txn(a)),
    };
    a.call(Load::ReadWrite, req).await;
}

fn txn(a: &mut Actor) -> TxnReq {
    let mut keys: Vec<u32> = (0..KEYS).collect();
    keys.shuffle(&mut a.rng);
    let compare = if a.rng.random_ratio(1, 3) {
        vec![comparison(a, keys[0])]
    } else {
        Vec::new()
    };
    let then = operations(a, &keys[..3]);
    let or_else = operations(a, &keys[3..5]);
    TxnReq {
        compare,
        then,
        or_else,
    }
}

fn comparison(a: &mut Actor, i: u32) -> Compare {
    let cmp = [Cmp::Equal, Cmp::Greater, Cmp::Less, Cmp::NotEqual][a.rng.random_range(0..4)];
    let target = match a.rng.random_range(0..3u8) {
        0 => Target::Version(a.rng.random_range(0..4)),
        1 => Target::Create(0),
        _ => Target::Value(format!(
            "{}.{}",
            a.rng.random_range(0..8),
            a.rng.random_range(0..100)
        )),
    };
    Compare {
        key: key(i),
        cmp,
        target,
    }
}

/// One operation for each key; a key is written at most once, as the API
/// demands. A range over all keys comes first or last, to see the state
/// before or after the writes of its own transaction.
fn operations(a: &mut Actor, keys: &[u32]) -> Vec<TxnOp> {
    let mut ops: Vec<TxnOp> = keys
        .iter()
        .map(|&i| match a.rng.random_range(0..6u8) {
            0 | 1 => TxnOp::Range(RangeReq {
                key: key(i),
                ..RangeReq::default()
            }),
            2 => TxnOp::Delete(DeleteReq {
                key: key(i),
                prev: a.rng.random(),
                ..DeleteReq::default()
            }),
            _ => TxnOp::Put(PutReq {
                key: key(i),
                value: a.unique(),
                prev: a.rng.random_ratio(1, 3),
                lease: 0,
            }),
        })
        .collect();
    if a.rng.random_ratio(1, 4) {
        let all = TxnOp::Range(RangeReq {
            key: PREFIX.into(),
            end: prefix_end(PREFIX),
            ..RangeReq::default()
        });
        let at = if a.rng.random() { 0 } else { ops.len() };
        ops.insert(at, all);
    }
    ops
}
