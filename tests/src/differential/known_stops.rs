//! The requests that end an etcd process.
//!
//! The check for duplicate keys in a transaction takes a delete whose
//! `range_end` is `"\0"` for one of an empty interval, so a later put of a key
//! that it deleted is let through. Two things follow, up to 3.7.3, on every
//! member and again at every restart:
//!
//! - The put has `ignore_value` or `ignore_lease`, and the key existed when the
//!   transaction was checked: applying the put indexes an empty list.
//! - A compaction at exactly the revision of such a transaction keeps the
//!   tombstone and removes the pair put after it, which the index still lists:
//!   the next read of the key finds no pair and ends the process.

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

/// Whether the transaction may stop an etcd, on any path through it and with
/// any stored keys. Never false for a transaction that does.
pub fn stops_etcd(txn: &TxnRequest) -> bool {
    walk_txn(txn, None, |put| put.ignore_value || put.ignore_lease).is_err()
}

/// Whether a compaction at the revision of this transaction may stop an etcd.
/// Never false where it does.
pub fn forbids_compaction(txn: &TxnRequest) -> bool {
    walk_txn(txn, None, |_| true).is_err()
}

/// Clears the flags that make [`stops_etcd`] true, if it is.
pub fn defuse(txn: &mut TxnRequest) {
    if stops_etcd(txn) {
        clear_flags(&mut txn.success);
        clear_flags(&mut txn.failure);
    }
}

fn clear_flags(ops: &mut [RequestOp]) {
    for op in ops {
        match &mut op.request {
            Some(Request::RequestPut(put)) => {
                put.ignore_value = false;
                put.ignore_lease = false;
            }
            Some(Request::RequestTxn(txn)) => {
                clear_flags(&mut txn.success);
                clear_flags(&mut txn.failure);
            }
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => {}
        }
    }
}

/// A put that counts may follow an open delete of its key.
struct PutAfterOpenDelete;

/// The least key from which an open delete may have run so far.
type DeletedFrom = Option<Bytes>;

/// Walks both branches, since which one runs depends on stored keys.
fn walk_txn(
    txn: &TxnRequest,
    before: DeletedFrom,
    counts: fn(&PutRequest) -> bool,
) -> Result<DeletedFrom, PutAfterOpenDelete> {
    let success = walk_ops(&txn.success, before.clone(), counts)?;
    let failure = walk_ops(&txn.failure, before, counts)?;
    Ok(least(success, failure))
}

fn walk_ops(
    ops: &[RequestOp],
    before: DeletedFrom,
    counts: fn(&PutRequest) -> bool,
) -> Result<DeletedFrom, PutAfterOpenDelete> {
    let mut deleted_from = before;
    for op in ops {
        match &op.request {
            Some(Request::RequestDeleteRange(delete)) if delete.range_end.as_ref() == b"\0" => {
                deleted_from = least(deleted_from, Some(delete.key.clone()));
            }
            Some(Request::RequestPut(put))
                if counts(put) && deleted_from.as_ref().is_some_and(|from| put.key >= *from) =>
            {
                return Err(PutAfterOpenDelete);
            }
            Some(Request::RequestTxn(txn)) => deleted_from = walk_txn(txn, deleted_from, counts)?,
            _ => {}
        }
    }
    Ok(deleted_from)
}

fn least(a: DeletedFrom, b: DeletedFrom) -> DeletedFrom {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use mizzen_proto::etcdserverpb::DeleteRangeRequest;

    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        }))
    }

    fn put(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest {
            key: key.into(),
            ignore_lease: true,
            ..PutRequest::default()
        }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }))
    }

    fn txn(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest {
            compare: Vec::new(),
            success,
            failure: Vec::new(),
        }
    }

    #[test]
    fn finds_a_needing_put_behind_an_open_delete() {
        assert!(stops_etcd(&txn(vec![delete("b", "\0"), put("b")])));
        assert!(stops_etcd(&txn(vec![delete("b", "\0"), put("c")])));
        assert!(stops_etcd(&txn(vec![
            nested(vec![], vec![delete("a", "\0")]),
            nested(vec![put("c")], vec![]),
        ])));
    }

    #[test]
    fn accepts_what_etcd_survives() {
        assert!(!stops_etcd(&txn(vec![put("c"), delete("b", "\0")])));
        assert!(!stops_etcd(&txn(vec![delete("b", "\0"), put("a")])));
        assert!(!stops_etcd(&txn(vec![delete("b", "z"), put("c")])));
        assert!(!stops_etcd(&txn(vec![nested(
            vec![delete("a", "\0")],
            vec![put("c")]
        )])));
    }

    #[test]
    fn finds_a_plain_put_behind_an_open_delete() {
        let plain = || {
            op(Request::RequestPut(PutRequest {
                key: "c".into(),
                ..PutRequest::default()
            }))
        };
        let request = txn(vec![delete("b", "\0"), plain()]);
        assert!(forbids_compaction(&request));
        assert!(!stops_etcd(&request));
        assert!(!forbids_compaction(&txn(vec![plain(), delete("b", "\0")])));
        assert!(!forbids_compaction(&txn(vec![delete("d", "\0"), plain()])));
    }

    #[test]
    fn defuse_leaves_nothing_that_stops() {
        let mut request = txn(vec![
            delete("a", "\0"),
            nested(vec![put("c")], vec![put("d")]),
        ]);
        defuse(&mut request);
        assert!(!stops_etcd(&request));
    }
}
