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
            SPILLED => Body::Spilled {
                value_len: reader.varint()?.try_into().ok()?,
                rest: reader.rest(),
            },
            0 => Body::Inline {
                rest: reader.rest(),
            },
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
        kv::Fields {
            value: &[],
            ..*fields
        }
        .encode(&mut out);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rows::chain::tests::version;

    proptest! {
        #[test]
        fn puts_round_trip((revision, chain, _) in version(), create in 2..i64::MAX, version: i64, len in 0..2100_usize, lease: i64) {
            let value = vec![7; len];
            let fields = kv::Fields { create_revision: create, mod_revision: revision.main, version, value: &value, lease };
            let row = encode_put(revision.sub, &chain, &fields);
            let decoded = HeadRow::decode(&row).expect("a row");
            prop_assert_eq!((decoded.sub, decoded.chain, decoded.revision()), (revision.sub, chain, Some(revision)));
            match decoded.body {
                Body::Inline { rest } => {
                    prop_assert!(len <= INLINE_VALUE_MAX);
                    prop_assert_eq!(kv::Fields::decode(rest), Some(fields));
                }
                Body::Spilled { value_len, rest } => {
                    prop_assert!(len > INLINE_VALUE_MAX);
                    prop_assert_eq!(value_len, len);
                    prop_assert_eq!(kv::Fields::decode(rest), Some(kv::Fields { value: &[], ..fields }));
                }
                Body::Tombstone(_) => prop_assert!(false, "a put is no tombstone"),
            }
            prop_assert!(!HeadRow::is_tombstone(&row));
        }

        #[test]
        fn tombstones_round_trip((revision, chain, _) in version()) {
            let row = encode_tombstone(revision, &chain);
            let decoded = HeadRow { sub: revision.sub, chain, body: Body::Tombstone(revision.main) };
            prop_assert_eq!(HeadRow::decode(&row), Some(decoded));
            prop_assert_eq!(decoded.revision(), Some(revision));
            prop_assert!(HeadRow::is_tombstone(&row));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(flags in 0x0f..0x14_u8, bytes: Vec<u8>) {
            let row = [&[flags], &bytes[..]].concat();
            if let Some(row) = HeadRow::decode(&row) {
                let _ = row.revision();
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let fields = kv::Fields {
            create_revision: 2,
            mod_revision: 300,
            version: 3,
            value: b"v",
            lease: 5,
        };
        let root = Chain::default();
        assert_eq!(
            encode_put(1, &root, &fields).as_ref(),
            b"\x10\x01\x00\x10\x02\x18\xac\x02\x20\x03\x2a\x01v\x30\x05"
        );
        let long = kv::Fields {
            value: &[0; 1025],
            lease: 0,
            ..fields
        };
        assert_eq!(
            encode_put(0, &root, &long).as_ref(),
            b"\x12\x00\x00\x81\x08\x10\x02\x18\xac\x02\x20\x03"
        );
        let rungs = [
            Some(Revision::new(200, 1)),
            Some(Revision::new(100, 0)),
            None,
        ];
        let chain = Chain {
            depth: 4096 + 64,
            rungs,
        };
        assert_eq!(
            encode_put(0, &chain, &fields).as_ref(),
            b"\x10\x00\xc0\x20\xc8\x01\x01\x64\x00\x10\x02\x18\xac\x02\x20\x03\x2a\x01v\x30\x05"
        );
        assert_eq!(
            encode_tombstone(Revision::new(300, 2), &Chain { depth: 1, ..root }).as_ref(),
            b"\x11\x02\x01\xac\x02"
        );
    }
}
