//! Random transactions.

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::generate::{Draw, View};
use super::known_stops;

/// Transactions within transactions within a transaction.
const DEEPEST: u32 = 3;
/// etcd's default limit of operations in one list.
const MOST_OPS: usize = 128;

impl Draw<'_> {
    /// A transaction that no etcd is known to stop at.
    pub(super) fn txn(&mut self) -> TxnRequest {
        let mut txn = match self.rng.random_range(0..100u32) {
            0..4 => self.long_txn(),
            // Puts and deletes may collide, so many of these are refused.
            4..24 => self.nested_txn(0, &mut None),
            _ => {
                let mut unused = self.values.keys().to_vec();
                unused.shuffle(self.rng);
                self.nested_txn(0, &mut Some(unused))
            }
        };
        known_stops::defuse(&mut txn);
        txn
    }

    /// A transaction that stops an etcd whatever keys are stored, and that has
    /// to be answered with `key not found` without any effect: the put needs a
    /// key that the open delete before it removed.
    pub(super) fn stopping_txn(&mut self) -> TxnRequest {
        let mut keys = self.values.keys().to_vec();
        keys.sort();
        let put_at = self.rng.random_range(0..keys.len());
        let delete_at = self.rng.random_range(0..=put_at);
        let delete = self.delete_of(keys[delete_at].clone(), Bytes::from_static(b"\0"));
        let flags = self.rng.random_range(1..4u32);
        let put = Request::RequestPut(PutRequest {
            key: keys[put_at].clone(),
            prev_kv: self.rng.random(),
            ignore_value: flags & 1 != 0,
            ignore_lease: flags & 2 != 0,
            ..PutRequest::default()
        });
        let mut ops = vec![self.wrapped(Request::RequestDeleteRange(delete))];
        if self.rng.random() {
            ops.push(op(Request::RequestRange(RangeRequest {
                key: keys[delete_at].clone(),
                ..RangeRequest::default()
            })));
        }
        ops.push(self.wrapped(put));
        TxnRequest {
            success: ops,
            ..TxnRequest::default()
        }
    }

    /// The operation itself or the only one of a nested transaction.
    fn wrapped(&mut self, request: Request) -> RequestOp {
        if self.rng.random_bool(0.7) {
            return op(request);
        }
        op(Request::RequestTxn(TxnRequest {
            success: vec![op(request)],
            ..TxnRequest::default()
        }))
    }

    /// `unused` holds the keys not yet put or deleted, if that must not happen
    /// twice.
    fn nested_txn(&mut self, depth: u32, unused: &mut Option<Vec<Bytes>>) -> TxnRequest {
        let compares = self.rng.random_range(0..4usize).saturating_sub(1);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.ops(depth, unused),
            failure: self.ops(depth, unused),
        }
    }

    fn ops(&mut self, depth: u32, unused: &mut Option<Vec<Bytes>>) -> Vec<RequestOp> {
        let count = self.rng.random_range(0..5u32);
        (0..count).map(|_| self.op(depth, unused)).collect()
    }

    fn op(&mut self, depth: u32, unused: &mut Option<Vec<Bytes>>) -> RequestOp {
        let draw = self.rng.random_range(0..1000u32);
        if draw < 4 {
            return RequestOp { request: None };
        }
        if draw < 140 && depth < DEEPEST {
            return op(Request::RequestTxn(self.nested_txn(depth + 1, unused)));
        }
        let key = match unused {
            None => Some(self.values.key(self.rng)),
            Some(unused) => unused.pop(),
        };
        match key {
            Some(key) if draw < 480 => op(Request::RequestPut(self.put_of(key))),
            Some(key) if draw < 640 => {
                let range_end = match unused {
                    None => self.values.range_end(self.rng, &key),
                    // Open ranges pass etcd's check whatever they meet.
                    Some(_) if self.rng.random_bool(0.3) => Bytes::from_static(b"\0"),
                    Some(_) => Bytes::new(),
                };
                op(Request::RequestDeleteRange(self.delete_of(key, range_end)))
            }
            _ => {
                let range = if self.rng.random_bool(0.7) {
                    self.current_range()
                } else {
                    self.range()
                };
                op(Request::RequestRange(range))
            }
        }
    }

    /// Lists at and around the limit, whose budget nested lists share.
    fn long_txn(&mut self) -> TxnRequest {
        let length = match self.rng.random_range(0..4u32) {
            0 => MOST_OPS,
            1 => MOST_OPS + 1,
            _ => self.rng.random_range(40..MOST_OPS),
        };
        let mut unused = self.values.keys().to_vec();
        unused.shuffle(self.rng);
        let small_values = self.rng.random_bool(0.9);
        let mut success: Vec<_> = (0..length)
            .map(|_| match unused.pop() {
                Some(key) => {
                    let mut put = self.put_of(key);
                    put.ignore_value = false;
                    put.ignore_lease = false;
                    put.lease = 0;
                    if small_values {
                        put.value.truncate(10);
                    }
                    op(Request::RequestPut(put))
                }
                None => op(Request::RequestRange(self.current_range())),
            })
            .collect();
        if self.rng.random_bool(0.5) {
            let room = MOST_OPS.saturating_sub(length);
            let nested = room + self.rng.random_range(0..3usize);
            let nested = (0..nested.saturating_sub(1))
                .map(|_| op(Request::RequestRange(self.current_range())))
                .collect();
            if let Some(last) = success.last_mut() {
                *last = op(Request::RequestTxn(TxnRequest {
                    success: nested,
                    ..TxnRequest::default()
                }));
            }
        }
        let compare = if self.rng.random_bool(0.1) {
            (0..length).map(|_| self.compare()).collect()
        } else {
            Vec::new()
        };
        TxnRequest {
            compare,
            success,
            failure: Vec::new(),
        }
    }

    fn compare(&mut self) -> Compare {
        const TARGETS: [CompareTarget; 5] = [
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Value,
            CompareTarget::Lease,
        ];
        let kind = self.rng.random_range(0..TARGETS.len());
        let target = match self.rng.random_range(0..100u32) {
            0..3 => self.rng.random_range(-1..7),
            _ => TARGETS[kind] as i32,
        };
        let result = match self.rng.random_range(0..100u32) {
            0..3 => self.rng.random_range(-1..6),
            3..30 => CompareResult::Equal as i32,
            30..50 => CompareResult::NotEqual as i32,
            50..80 => CompareResult::Greater as i32,
            _ => CompareResult::Less as i32,
        };
        let target_union = match self.rng.random_range(0..100u32) {
            0..5 => None,
            5..9 => {
                let other = self.rng.random_range(0..TARGETS.len());
                Some(self.target_union(TARGETS[other]))
            }
            _ => Some(self.target_union(TARGETS[kind])),
        };
        let key = self.values.key(self.rng);
        let range_end = if self.rng.random_bool(0.3) {
            self.values.range_end(self.rng, &key)
        } else {
            Bytes::new()
        };
        Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        }
    }

    fn target_union(&mut self, target: CompareTarget) -> TargetUnion {
        match target {
            CompareTarget::Version => TargetUnion::Version(self.rng.random_range(-1..4)),
            CompareTarget::Create => TargetUnion::CreateRevision(self.compared_revision()),
            CompareTarget::Mod => TargetUnion::ModRevision(self.compared_revision()),
            CompareTarget::Value => TargetUnion::Value(self.values.value(self.rng)),
            CompareTarget::Lease => TargetUnion::Lease(self.values.lease(self.rng)),
        }
    }

    fn compared_revision(&mut self) -> i64 {
        if self.rng.random_bool(0.4) {
            return 0;
        }
        recent(self.rng, self.view)
    }
}

/// A revision of this sequence.
pub(super) fn recent(rng: &mut StdRng, view: &View) -> i64 {
    rng.random_range(view.start..=view.current)
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
