//! Reads of the past and of single replicas: ranges at old revisions and
//! serializable ranges, with limits, counts and keys only. The checker
//! compares each with the state of exactly that revision.

use super::Actor;
use super::{append, read_write, register, set};
use crate::history::op::{Load, RangeReq, Request, prefix_end};
use rand::Rng;

/// How far back reads go.
const PAST: i64 = 300;

pub async fn step(a: &mut Actor) {
    let prefix = [
        append::PREFIX,
        read_write::PREFIX,
        register::PREFIX,
        set::PREFIX,
    ][a.rng.random_range(0..4)];
    let head = a.client.head();
    let rev = if a.rng.random() {
        0
    } else {
        (head - a.rng.random_range(0..PAST)).max(1)
    };
    let range = RangeReq {
        key: prefix.into(),
        end: prefix_end(prefix),
        rev,
        limit: if a.rng.random_ratio(3, 4) {
            a.rng.random_range(1..20)
        } else {
            0
        },
        serializable: a.rng.random_ratio(2, 3),
        count_only: a.rng.random_ratio(1, 8),
        keys_only: a.rng.random_ratio(1, 8),
    };
    a.call(Load::History, Request::Range(range)).await;
}
