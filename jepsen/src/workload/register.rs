//! Registers: single keys with reads, writes, deletions and compare-and-swap
//! by value. A key is used by at most [`GROUP`] clients and for about
//! [`OPS_PER_KEY`] operations, so that a search that knows nothing of
//! revisions can decide each key in a moment.

use super::Actor;
use crate::history::op::{
    Cmp, Compare, DeleteReq, Load, PutReq, RangeReply, RangeReq, Reply, Request, Target, TxnOp,
    TxnReq,
};
use rand::Rng;
use std::sync::atomic::{AtomicU64, Ordering};

pub const PREFIX: &str = "r/";
const GROUP: u32 = 8;
const SLOTS: usize = 3;
const OPS_PER_KEY: u64 = 300;

/// How often each slot of each group of clients was used so far.
pub struct Keys {
    groups: Vec<[AtomicU64; SLOTS]>,
}

impl Keys {
    pub fn new(clients: u32) -> Keys {
        let groups = clients.div_ceil(GROUP).max(1);
        Keys {
            groups: (0..groups).map(|_| Default::default()).collect(),
        }
    }

    /// The key a client uses in this slot now.
    fn take(&self, client: u32, slot: usize) -> String {
        let group = client as usize % self.groups.len();
        let slot = slot % SLOTS;
        let used = self.groups[group][slot].fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{group}.{slot}/{:05}", used / OPS_PER_KEY)
    }
}

pub async fn step(a: &mut Actor) {
    let slot = a.rng.random_range(0..SLOTS);
    let key = a.shared.registers.take(a.client.id, slot);
    match a.rng.random_range(0..20u8) {
        0..7 => {
            read(a, &key).await;
        }
        7..13 => {
            let value = a.unique();
            let prev = a.rng.random_ratio(1, 4);
            a.call(
                Load::Register,
                Request::Put(PutReq {
                    key,
                    value,
                    prev,
                    lease: 0,
                }),
            )
            .await;
        }
        13..19 => swap(a, key).await,
        _ => {
            a.call(
                Load::Register,
                Request::Delete(DeleteReq {
                    key,
                    prev: true,
                    ..DeleteReq::default()
                }),
            )
            .await;
        }
    }
}

async fn read(a: &mut Actor, key: &str) -> Option<RangeReply> {
    a.read(
        Load::Register,
        RangeReq {
            key: key.to_string(),
            ..RangeReq::default()
        },
    )
    .await
}

/// Reads, then swaps if the value is still the one read, once and perhaps
/// again with the value that a failed swap showed.
async fn swap(a: &mut Actor, key: String) {
    let Some(seen) = read(a, &key).await else {
        return;
    };
    let Some(mut expected) = seen.kvs.into_iter().next().map(|kv| kv.value) else {
        return;
    };
    for _ in 0..2 {
        let value = a.unique();
        let txn = TxnReq {
            compare: vec![Compare {
                key: key.clone(),
                cmp: Cmp::Equal,
                target: Target::Value(expected),
            }],
            then: vec![TxnOp::Put(PutReq {
                key: key.clone(),
                value,
                prev: false,
                lease: 0,
            })],
            or_else: vec![TxnOp::Range(RangeReq {
                key: key.clone(),
                ..RangeReq::default()
            })],
        };
        let Some(Reply::Txn(reply)) = a.call(Load::Register, Request::Txn(txn)).await else {
            return;
        };
        let shown = reply.replies.into_iter().find_map(|r| match r {
            crate::history::op::TxnOpReply::Range(r) => r.kvs.into_iter().next(),
            _ => None,
        });
        match shown {
            Some(kv) if !reply.succeeded => expected = kv.value,
            _ => return,
        }
    }
}
