//! Family `Head`: user key -> its newest version.
//!
//! A deleted key keeps its row until compaction has passed the deletion. Then
//! the row counts as absent wherever it is met, whether or not this replica
//! has removed it yet.

use bytes::{Bytes, BytesMut};

use super::{FORMAT, Revision, chain::Chain, flags};
use crate::{
    kv,
    limits::INLINE_VALUE_MAX,
    wire::{Reader, put_varint},
};
use bytes::BufMut;

const TOMBSTONE: u8 = 0x1;
const SPILLED: u8 = 0x2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRow<'a> {
    /// Place of the newest version among the changes of its revision.
    pub sub: u32,
    pub chain: Chain,
    pub body: Body<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Deleted at this revision.
    Tombstone(i64),
    /// Alive, with its value here.
    Inline { rest: &'a [u8] },
    /// Alive, with a value longer than [`INLINE_VALUE_MAX`], which stands in the
    /// log row. `rest` lacks the value.
    Spilled { value_len: usize, rest: &'a [u8] },
}

impl<'a> HeadRow<'a> {
    pub fn decode(row: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(row);
        let flags = flags(reader.byte()?, TOMBSTONE | SPILLED)?;
        let sub = reader.varint()?.try_into().ok()?;
        let chain = Chain::decode(&mut reader)?;
        let body = match flags {
            TOMBSTONE => {
                let main = reader.varint()?.try_into().ok()?;
                if !reader.is_empty() {
                    return None;
                }
                Body::Tombstone(main)
            }
            SPILLED => Body::Spilled { value_len: reader.varint()?.try_into().ok()?, rest: reader.rest() },
            0 => Body::Inline { rest: reader.rest() },
            _ => return None,
        };
        Some(Self { sub, chain, body })
    }

    /// Whether the row is a tombstone, without a look at anything else.
    pub fn is_tombstone(row: &[u8]) -> bool {
        row.first().is_some_and(|first| first & TOMBSTONE != 0)
    }

    /// Revision of the newest version.
    pub fn revision(&self) -> Option<Revision> {
        let main = match self.body {
            Body::Tombstone(main) => main,
            Body::Inline { rest } | Body::Spilled { rest, .. } => kv::mod_revision(rest)?,
        };
        Some(Revision::new(main, self.sub))
    }
}

/// The row of a key that was put at `sub` of its revision.
pub fn encode_put(sub: u32, chain: &Chain, fields: &kv::Fields<'_>) -> Bytes {
    let spilled = fields.value.len() > INLINE_VALUE_MAX;
    let value_len = if spilled { 0 } else { fields.value.len() };
    let mut out = BytesMut::with_capacity(48 + value_len);
    out.put_u8(FORMAT | if spilled { SPILLED } else { 0 });
    put_varint(&mut out, sub.into());
    chain.encode(&mut out);
    if spilled {
        put_varint(&mut out, fields.value.len() as u64);
        kv::Fields { value: &[], ..*fields }.encode(&mut out);
    } else {
        fields.encode(&mut out);
    }
    out.freeze()
}

/// The row of a key that was deleted at `revision`.
pub fn encode_tombstone(revision: Revision, chain: &Chain) -> Bytes {
    let mut out = BytesMut::with_capacity(24);
    out.put_u8(FORMAT | TOMBSTONE);
    put_varint(&mut out, revision.sub.into());
    chain.encode(&mut out);
    put_varint(&mut out, revision.main as u64);
    out.freeze()
}
