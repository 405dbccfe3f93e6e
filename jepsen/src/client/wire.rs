//! Conversion between a history's requests and replies and the wire types.
//!
//! Nothing is corrected here: what does not fit (bytes that are no text, a
//! response of the wrong kind) becomes a value no checker will accept.

use crate::history::op::{
    Cmp, Compare, DeleteReply, DeleteReq, Kv, PutReply, PutReq, RangeReply, RangeReq, Reply,
    Target, TxnOp, TxnOpReply, TxnReply, TxnReq,
};
use crate::history::record::Event;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::mvccpb;

/// Text as it is; other bytes as hexadecimal behind a mark no writer uses.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(s) => s.to_string(),
        Err(_) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("\u{fffd}bytes:{hex}")
        }
    }
}

pub fn kv(kv: mvccpb::KeyValue) -> Kv {
    Kv {
        key: text(&kv.key),
        value: text(&kv.value),
        create: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub fn event(event: mvccpb::Event) -> Event {
    Event {
        delete: event.r#type == mvccpb::event::EventType::Delete as i32,
        kv: event.kv.map(kv).unwrap_or_default(),
        prev: event.prev_kv.map(kv),
    }
}

pub fn range_request(r: &RangeReq) -> pb::RangeRequest {
    pb::RangeRequest {
        key: r.key.clone().into_bytes().into(),
        range_end: r.end.clone().into_bytes().into(),
        revision: r.rev,
        limit: r.limit,
        serializable: r.serializable,
        count_only: r.count_only,
        keys_only: r.keys_only,
        ..pb::RangeRequest::default()
    }
}

pub fn put_request(r: &PutReq) -> pb::PutRequest {
    pb::PutRequest {
        key: r.key.clone().into_bytes().into(),
        value: r.value.clone().into_bytes().into(),
        prev_kv: r.prev,
        lease: r.lease,
        ..pb::PutRequest::default()
    }
}

pub fn delete_request(r: &DeleteReq) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: r.key.clone().into_bytes().into(),
        range_end: r.end.clone().into_bytes().into(),
        prev_kv: r.prev,
    }
}

fn compare(c: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let result = match c.cmp {
        Cmp::Equal => CompareResult::Equal,
        Cmp::Greater => CompareResult::Greater,
        Cmp::Less => CompareResult::Less,
        Cmp::NotEqual => CompareResult::NotEqual,
    };
    let (target, value) = match &c.target {
        Target::Version(n) => (CompareTarget::Version, TargetUnion::Version(*n)),
        Target::Create(n) => (CompareTarget::Create, TargetUnion::CreateRevision(*n)),
        Target::Mod(n) => (CompareTarget::Mod, TargetUnion::ModRevision(*n)),
        Target::Value(v) => (
            CompareTarget::Value,
            TargetUnion::Value(v.clone().into_bytes().into()),
        ),
    };
    pb::Compare {
        result: result as i32,
        target: target as i32,
        key: c.key.clone().into_bytes().into(),
        target_union: Some(value),
        ..pb::Compare::default()
    }
}

fn txn_op(op: &TxnOp) -> pb::RequestOp {
    use pb::request_op::Request;
    pb::RequestOp {
        request: Some(match op {
            TxnOp::Range(r) => Request::RequestRange(range_request(r)),
            TxnOp::Put(r) => Request::RequestPut(put_request(r)),
            TxnOp::Delete(r) => Request::RequestDeleteRange(delete_request(r)),
        }),
    }
}

pub fn txn_request(t: &TxnReq) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: t.compare.iter().map(compare).collect(),
        success: t.then.iter().map(txn_op).collect(),
        failure: t.or_else.iter().map(txn_op).collect(),
    }
}

pub fn range_reply(r: pb::RangeResponse) -> RangeReply {
    RangeReply {
        kvs: r.kvs.into_iter().map(kv).collect(),
        count: r.count,
        more: r.more,
    }
}

pub fn put_reply(r: pb::PutResponse) -> PutReply {
    PutReply {
        prev: r.prev_kv.map(kv),
    }
}

pub fn delete_reply(r: pb::DeleteRangeResponse) -> DeleteReply {
    DeleteReply {
        deleted: r.deleted,
        prev: r.prev_kvs.into_iter().map(kv).collect(),
    }
}

fn txn_op_reply(r: pb::ResponseOp) -> TxnOpReply {
    use pb::response_op::Response;
    match r.response {
        Some(Response::ResponseRange(r)) => TxnOpReply::Range(range_reply(r)),
        Some(Response::ResponsePut(r)) => TxnOpReply::Put(put_reply(r)),
        Some(Response::ResponseDeleteRange(r)) => TxnOpReply::Delete(delete_reply(r)),
        Some(Response::ResponseTxn(_)) => {
            TxnOpReply::Odd("a nested transaction nobody sent".into())
        }
        None => TxnOpReply::Odd("an empty response".into()),
    }
}

pub fn txn_reply(r: pb::TxnResponse) -> Reply {
    Reply::Txn(TxnReply {
        succeeded: r.succeeded,
        replies: r.responses.into_iter().map(txn_op_reply).collect(),
    })
}
