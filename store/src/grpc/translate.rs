//! Wire requests as the state machine's commands, and its replies as wire
//! bytes. Key-values pass through as they stand in the rows.

use bytes::{BufMut, Bytes, BytesMut};
use mizzen_core::{
    Alarm, AlarmKind, Compare, CompareOp, CompareTarget, DeleteRange, Operation, Put, Range,
    RangeChunk, RangeReply, Reply, SortOrder, SortTarget, Txn,
};
use mizzen_proto::etcdserverpb::{
    self as wire, compare::CompareResult, compare::CompareTarget as WireTarget,
    compare::TargetUnion, request_op::Request,
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::framed::{Framed, Pieces};
use crate::limits;

pub fn range(request: wire::RangeRequest) -> Range {
    Range {
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        sort_order: sort_order(request.sort_order),
        sort_target: sort_target(request.sort_target),
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

fn sort_order(order: i32) -> SortOrder {
    use wire::range_request::SortOrder as Wire;
    match Wire::try_from(order) {
        Ok(Wire::None) => SortOrder::None,
        Ok(Wire::Ascend) => SortOrder::Ascend,
        Ok(Wire::Descend) => SortOrder::Descend,
        Err(_) => SortOrder::Undefined(order),
    }
}

fn sort_target(target: i32) -> SortTarget {
    use wire::range_request::SortTarget as Wire;
    match Wire::try_from(target) {
        Ok(Wire::Key) => SortTarget::Key,
        Ok(Wire::Version) => SortTarget::Version,
        Ok(Wire::Create) => SortTarget::Create,
        Ok(Wire::Mod) => SortTarget::Mod,
        Ok(Wire::Value) => SortTarget::Value,
        Err(_) => SortTarget::Undefined(target),
    }
}

pub fn put(request: wire::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub fn delete_range(request: wire::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        key: request.key,
        range_end: request.range_end,
        prev_kv: request.prev_kv,
    }
}

pub fn txn(request: wire::TxnRequest) -> Txn {
    Txn {
        compare: request.compare.into_iter().map(compare).collect(),
        success: request.success.into_iter().map(operation).collect(),
        failure: request.failure.into_iter().map(operation).collect(),
    }
}

fn operation(op: wire::RequestOp) -> Operation {
    match op.request {
        Some(Request::RequestRange(request)) => Operation::Range(range(request)),
        Some(Request::RequestPut(request)) => Operation::Put(put(request)),
        Some(Request::RequestDeleteRange(request)) => Operation::DeleteRange(delete_range(request)),
        Some(Request::RequestTxn(request)) => Operation::Txn(txn(request)),
        None => Operation::Empty,
    }
}

fn compare(compare: wire::Compare) -> Compare {
    let op = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => CompareOp::Equal,
        Ok(CompareResult::Greater) => CompareOp::Greater,
        Ok(CompareResult::Less) => CompareOp::Less,
        Ok(CompareResult::NotEqual) => CompareOp::NotEqual,
        Err(_) => CompareOp::Undefined(compare.result),
    };
    // The target decides; an operand of another kind counts as none, and none
    // as zero or empty (etcd's txn.applyCompare).
    let target = match (WireTarget::try_from(compare.target), compare.target_union) {
        (Ok(WireTarget::Version), Some(TargetUnion::Version(operand))) => {
            CompareTarget::Version(operand)
        }
        (Ok(WireTarget::Version), _) => CompareTarget::Version(0),
        (Ok(WireTarget::Create), Some(TargetUnion::CreateRevision(operand))) => {
            CompareTarget::Create(operand)
        }
        (Ok(WireTarget::Create), _) => CompareTarget::Create(0),
        (Ok(WireTarget::Mod), Some(TargetUnion::ModRevision(operand))) => {
            CompareTarget::Mod(operand)
        }
        (Ok(WireTarget::Mod), _) => CompareTarget::Mod(0),
        (Ok(WireTarget::Value), Some(TargetUnion::Value(operand))) => CompareTarget::Value(operand),
        (Ok(WireTarget::Value), _) => CompareTarget::Value(Bytes::new()),
        (Ok(WireTarget::Lease), Some(TargetUnion::Lease(operand))) => CompareTarget::Lease(operand),
        (Ok(WireTarget::Lease), _) => CompareTarget::Lease(0),
        (Err(_), _) => CompareTarget::Undefined(compare.target),
    };
    Compare {
        key: compare.key,
        range_end: compare.range_end,
        op,
        target,
    }
}

/// Protobuf's tag for a length-delimited field below 16.
const fn delimited(field: u8) -> u8 {
    field << 3 | WireType::LengthDelimited as u8
}

fn put_length(buffer: &mut BytesMut, field: u8, length: usize) {
    buffer.put_u8(delimited(field));
    encode_varint(length as u64, buffer);
}

fn put_field(pieces: &mut Pieces, field: u8, content: &Bytes) {
    put_length(pieces.end(), field, content.len());
    pieces.put(content);
}

fn put_varint_field(buffer: &mut BytesMut, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::Varint, buffer);
        encode_varint(value, buffer);
    }
}

fn put_header(buffer: &mut BytesMut, header: &wire::ResponseHeader) {
    put_length(buffer, 1, header.encoded_len());
    header.encode_raw(buffer);
}

/// A reply in the wire form of the response its request has. `header` is the
/// whole header but the revision, which is the reply's.
pub fn reply(reply: &Reply, header: wire::ResponseHeader) -> Framed {
    let mut pieces = Pieces::framed(reply_size(reply));
    put_reply(&mut pieces, reply, header);
    pieces.finish()
}

/// What is copied of a reply, close enough that it is not moved while it is
/// written.
fn reply_size(reply: &Reply) -> usize {
    const HEADS: usize = 64;
    let copied = |bytes: &Bytes| match bytes.len() {
        length if length < limits::REPLY_PIECE_BYTES => length + 8,
        _ => 8,
    };
    HEADS
        + match reply {
            Reply::Range(range) => copied(&range.kvs.bytes),
            Reply::Put { prev_kv, .. } => prev_kv.as_ref().map_or(0, copied),
            Reply::DeleteRange { prev_kvs, .. } => prev_kvs.iter().map(copied).sum(),
            Reply::Txn { responses, .. } => responses
                .iter()
                .map(|response| reply_size(response) + 16)
                .sum(),
            Reply::Compact { .. }
            | Reply::LeaseGrant { .. }
            | Reply::LeaseRevoke { .. }
            | Reply::LeaseCheckpoint { .. }
            | Reply::Alarm { .. } => 0,
        }
}

/// Numbers of `etcdserverpb` fields: `RangeResponse`, `PutResponse`,
/// `DeleteRangeResponse`, `TxnResponse`, `LeaseGrantResponse` all begin with
/// the header.
fn put_reply(pieces: &mut Pieces, reply: &Reply, mut header: wire::ResponseHeader) {
    header.revision = reply.revision();
    put_header(pieces.end(), &header);
    match reply {
        Reply::Range(range) => put_range(pieces, range),
        Reply::Put { prev_kv, .. } => {
            if let Some(kv) = prev_kv {
                put_field(pieces, 2, kv);
            }
        }
        Reply::DeleteRange {
            deleted, prev_kvs, ..
        } => {
            put_varint_field(pieces.end(), 2, *deleted as u64);
            for kv in prev_kvs {
                put_field(pieces, 3, kv);
            }
        }
        Reply::Txn {
            succeeded,
            responses,
            ..
        } => {
            put_varint_field(pieces.end(), 2, u64::from(*succeeded));
            for response in responses {
                put_response_op(pieces, response);
            }
        }
        Reply::LeaseGrant { id, ttl, .. } => {
            put_varint_field(pieces.end(), 2, *id as u64);
            put_varint_field(pieces.end(), 3, *ttl as u64);
        }
        Reply::Compact { .. }
        | Reply::LeaseRevoke { .. }
        | Reply::LeaseCheckpoint { .. }
        | Reply::Alarm { .. } => {}
    }
}

fn put_range(pieces: &mut Pieces, range: &RangeReply) {
    pieces.put(&range.kvs.bytes);
    put_varint_field(pieces.end(), 3, u64::from(range.more));
    put_varint_field(pieces.end(), 4, range.count as u64);
}

/// One element of `TxnResponse.responses`. Headers inside a transaction carry
/// the revision alone.
fn put_response_op(pieces: &mut Pieces, response: &Reply) {
    let field = match response {
        Reply::Range(_) => 1,
        Reply::Put { .. } => 2,
        Reply::DeleteRange { .. } => 3,
        Reply::Txn { .. } => 4,
        // No operation of a transaction answers with these.
        Reply::Compact { .. }
        | Reply::LeaseGrant { .. }
        | Reply::LeaseRevoke { .. }
        | Reply::LeaseCheckpoint { .. }
        | Reply::Alarm { .. } => return,
    };
    let mut inner = Pieces::new(reply_size(response));
    put_reply(&mut inner, response, wire::ResponseHeader::default());
    let length = inner.len();
    put_length(
        pieces.end(),
        3,
        1 + encoded_len_varint(length as u64) + length,
    );
    put_length(pieces.end(), field, length);
    pieces.append(inner);
}

/// `RangeStreamResponse` holds a `RangeResponse` in its first field. Header,
/// count and more stand in the last chunk only.
pub fn range_chunk(chunk: &RangeChunk, mut header: wire::ResponseHeader) -> Bytes {
    let mut inner = BytesMut::with_capacity(chunk.kvs.bytes.len() + 64);
    if let Some(end) = &chunk.end {
        header.revision = end.revision;
        put_header(&mut inner, &header);
    }
    inner.put_slice(&chunk.kvs.bytes);
    if let Some(end) = &chunk.end {
        put_varint_field(&mut inner, 3, u64::from(end.more));
        put_varint_field(&mut inner, 4, end.count as u64);
    }
    let mut buffer = BytesMut::with_capacity(inner.len() + 8);
    put_length(&mut buffer, 1, inner.len());
    buffer.put_slice(&inner);
    buffer.freeze()
}

/// As etcd prints an alarm among the errors of a status.
pub fn alarm_text(alarm: Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    format!("memberID:{} alarm:{kind}", alarm.member)
}
