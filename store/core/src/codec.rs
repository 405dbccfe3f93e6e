//! Commands as bytes in the log. `FORMATS.md` describes the form.
//!
//! Decoding trusts nothing: depth and count are bounded as the checks before
//! proposing bound them, memory grows with the bytes given, and whatever is not
//! exactly a command is an error. Keys and values of a decoded command are
//! slices of the bytes it was decoded from.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    command::{
        Alarm, AlarmKind, Command, Compaction, Compare, CompareTarget, DeleteRange,
        LeaseCheckpoint, LeaseGrant, LeaseRevoke, Operation, Put, Range, SetAlarm, Txn,
    },
    limits::{TXN_DEPTH_MAX, TXN_NODES_MAX},
    wire::{Reader, put_bytes, put_varint, put_zigzag},
};

/// The version of the form, first of all bytes. A new one may be proposed only
/// once the cluster version says that every member knows it.
const VERSION: u8 = 1;

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const LEASE_GRANT: u8 = 5;
const LEASE_REVOKE: u8 = 6;
const LEASE_CHECKPOINT: u8 = 8;
const ALARM: u8 = 9;
/// Operations are numbered as commands, and:
const EMPTY: u8 = 0;
const RANGE: u8 = 7;

/// Why bytes are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("command of unknown version {0}")]
    UnknownVersion(u8),
    #[error("command is malformed")]
    Malformed,
}

impl Command {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        match self {
            Command::Put(put) => encode_put(&mut out, put),
            Command::DeleteRange(delete) => encode_delete(&mut out, delete),
            Command::Txn(txn) => encode_txn(&mut out, txn),
            Command::Compact(compaction) => {
                out.put_u8(COMPACT);
                put_zigzag(&mut out, compaction.revision);
            }
            Command::LeaseGrant(grant) => {
                out.put_u8(LEASE_GRANT);
                put_zigzag(&mut out, grant.id);
                put_zigzag(&mut out, grant.ttl);
            }
            Command::LeaseRevoke(revoke) => {
                out.put_u8(LEASE_REVOKE);
                put_zigzag(&mut out, revoke.id);
            }
            Command::Alarm(set) => {
                out.put_u8(ALARM);
                put_flags(&mut out, [set.active, false, false]);
                out.put_u8(set.alarm.kind as u8);
                put_varint(&mut out, set.alarm.member);
            }
            Command::LeaseCheckpoint(checkpoints) => {
                out.put_u8(LEASE_CHECKPOINT);
                put_varint(&mut out, checkpoints.len() as u64);
                for checkpoint in checkpoints {
                    put_zigzag(&mut out, checkpoint.id);
                    put_zigzag(&mut out, checkpoint.remaining);
                }
            }
        }
        out.freeze()
    }

    pub fn decode(bytes: &Bytes) -> Result<Command, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte() {
            Some(VERSION) => {}
            Some(version) => return Err(DecodeError::UnknownVersion(version)),
            None => return Err(DecodeError::Malformed),
        }
        let mut decoder = Decoder {
            bytes,
            reader,
            nodes_left: TXN_NODES_MAX,
        };
        let command = decoder.command().ok_or(DecodeError::Malformed)?;
        if decoder.reader.is_empty() {
            Ok(command)
        } else {
            Err(DecodeError::Malformed)
        }
    }
}

/// The first flag is the lowest bit.
fn put_flags(out: &mut BytesMut, flags: [bool; 3]) {
    out.put_u8(
        flags
            .into_iter()
            .enumerate()
            .map(|(bit, flag)| u8::from(flag) << bit)
            .sum(),
    );
}

fn encode_put(out: &mut BytesMut, put: &Put) {
    out.reserve(put.key.len() + put.value.len() + 24);
    out.put_u8(PUT);
    put_flags(out, [put.prev_kv, put.ignore_value, put.ignore_lease]);
    put_bytes(out, &put.key);
    put_bytes(out, &put.value);
    put_zigzag(out, put.lease);
}

fn encode_delete(out: &mut BytesMut, delete: &DeleteRange) {
    out.put_u8(DELETE_RANGE);
    put_flags(out, [delete.prev_kv, false, false]);
    put_bytes(out, &delete.key);
    put_bytes(out, &delete.range_end);
}

fn encode_txn(out: &mut BytesMut, txn: &Txn) {
    out.put_u8(TXN);
    put_varint(out, txn.compare.len() as u64);
    for compare in &txn.compare {
        encode_compare(out, compare);
    }
    for operations in [&txn.success, &txn.failure] {
        put_varint(out, operations.len() as u64);
        for operation in operations {
            match operation {
                Operation::Range(range) => encode_range(out, range),
                Operation::Put(put) => encode_put(out, put),
                Operation::DeleteRange(delete) => encode_delete(out, delete),
                Operation::Txn(nested) => encode_txn(out, nested),
                Operation::Empty => out.put_u8(EMPTY),
            }
        }
    }
}

fn encode_compare(out: &mut BytesMut, compare: &Compare) {
    put_bytes(out, &compare.key);
    put_bytes(out, &compare.range_end);
    put_zigzag(out, i32::from(compare.op).into());
    match &compare.target {
        CompareTarget::Version(operand) => put_target(out, 0, *operand),
        CompareTarget::Create(operand) => put_target(out, 1, *operand),
        CompareTarget::Mod(operand) => put_target(out, 2, *operand),
        CompareTarget::Value(operand) => {
            out.put_u8(3);
            put_bytes(out, operand);
        }
        CompareTarget::Lease(operand) => put_target(out, 4, *operand),
        CompareTarget::Undefined(number) => put_target(out, 5, (*number).into()),
    }
}

fn put_target(out: &mut BytesMut, target: u8, operand: i64) {
    out.put_u8(target);
    put_zigzag(out, operand);
}

fn encode_range(out: &mut BytesMut, range: &Range) {
    out.put_u8(RANGE);
    put_flags(out, [range.serializable, range.keys_only, range.count_only]);
    put_bytes(out, &range.key);
    put_bytes(out, &range.range_end);
    put_zigzag(out, i32::from(range.sort_order).into());
    put_zigzag(out, i32::from(range.sort_target).into());
    for number in [
        range.limit,
        range.revision,
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ] {
        put_zigzag(out, number);
    }
}

struct Decoder<'a> {
    bytes: &'a Bytes,
    reader: Reader<'a>,
    /// Compares, operations and checkpoints that may still come.
    nodes_left: usize,
}

impl Decoder<'_> {
    fn command(&mut self) -> Option<Command> {
        Some(match self.reader.byte()? {
            PUT => Command::Put(self.put()?),
            DELETE_RANGE => Command::DeleteRange(self.delete()?),
            TXN => Command::Txn(self.txn(1)?),
            COMPACT => Command::Compact(Compaction {
                revision: self.reader.zigzag()?,
            }),
            LEASE_GRANT => Command::LeaseGrant(LeaseGrant {
                id: self.reader.zigzag()?,
                ttl: self.reader.zigzag()?,
            }),
            LEASE_REVOKE => Command::LeaseRevoke(LeaseRevoke {
                id: self.reader.zigzag()?,
            }),
            ALARM => {
                let [active] = self.flags()?;
                let kind = AlarmKind::from_number(self.reader.byte()?)?;
                let member = self.reader.varint()?;
                Command::Alarm(SetAlarm {
                    alarm: Alarm { kind, member },
                    active,
                })
            }
            LEASE_CHECKPOINT => Command::LeaseCheckpoint(self.list(|decoder| {
                Some(LeaseCheckpoint {
                    id: decoder.reader.zigzag()?,
                    remaining: decoder.reader.zigzag()?,
                })
            })?),
            _ => return None,
        })
    }

    fn flags<const COUNT: usize>(&mut self) -> Option<[bool; COUNT]> {
        let bits = self.reader.byte()?;
        (bits >> COUNT == 0).then(|| std::array::from_fn(|bit| bits & (1 << bit) != 0))
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let bytes = self.reader.bytes()?;
        Some(if bytes.is_empty() {
            Bytes::new()
        } else {
            self.bytes.slice_ref(bytes)
        })
    }

    fn number(&mut self) -> Option<i32> {
        self.reader.zigzag()?.try_into().ok()
    }

    fn put(&mut self) -> Option<Put> {
        let [prev_kv, ignore_value, ignore_lease] = self.flags()?;
        let (key, value, lease) = (self.bytes()?, self.bytes()?, self.reader.zigzag()?);
        Some(Put {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        })
    }

    fn delete(&mut self) -> Option<DeleteRange> {
        let [prev_kv] = self.flags()?;
        Some(DeleteRange {
            key: self.bytes()?,
            range_end: self.bytes()?,
            prev_kv,
        })
    }

    fn range(&mut self) -> Option<Range> {
        let [serializable, keys_only, count_only] = self.flags()?;
        Some(Range {
            serializable,
            keys_only,
            count_only,
            key: self.bytes()?,
            range_end: self.bytes()?,
            sort_order: self.number()?.into(),
            sort_target: self.number()?.into(),
            limit: self.reader.zigzag()?,
            revision: self.reader.zigzag()?,
            min_mod_revision: self.reader.zigzag()?,
            max_mod_revision: self.reader.zigzag()?,
            min_create_revision: self.reader.zigzag()?,
            max_create_revision: self.reader.zigzag()?,
        })
    }

    fn txn(&mut self, depth: usize) -> Option<Txn> {
        if depth > TXN_DEPTH_MAX {
            return None;
        }
        let compare = self.list(Self::compare)?;
        let success = self.list(|decoder| decoder.operation(depth))?;
        let failure = self.list(|decoder| decoder.operation(depth))?;
        Some(Txn {
            compare,
            success,
            failure,
        })
    }

    /// Each item takes one byte at least, so a list cannot outgrow the bytes.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.reader.varint()?).ok()?;
        if count > self.reader.rest().len() {
            return None;
        }
        self.nodes_left = self.nodes_left.checked_sub(count)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    fn compare(&mut self) -> Option<Compare> {
        let (key, range_end, op) = (self.bytes()?, self.bytes()?, self.number()?.into());
        let target = match self.reader.byte()? {
            0 => CompareTarget::Version(self.reader.zigzag()?),
            1 => CompareTarget::Create(self.reader.zigzag()?),
            2 => CompareTarget::Mod(self.reader.zigzag()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.reader.zigzag()?),
            5 => CompareTarget::Undefined(self.number()?),
            _ => return None,
        };
        Some(Compare {
            key,
            range_end,
            op,
            target,
        })
    }

    fn operation(&mut self, depth: usize) -> Option<Operation> {
        Some(match self.reader.byte()? {
            EMPTY => Operation::Empty,
            PUT => Operation::Put(self.put()?),
            DELETE_RANGE => Operation::DeleteRange(self.delete()?),
            TXN => Operation::Txn(self.txn(depth + 1)?),
            RANGE => Operation::Range(self.range()?),
            _ => return None,
        })
    }
}
