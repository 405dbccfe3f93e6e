//! Family `Log`: revision -> what happened. Rows are written once, in order.

use bytes::{BufMut, Bytes, BytesMut};

use super::{FORMAT, Revision, chain::Links, flags};
use crate::{
    kv,
    wire::{Reader, put_bytes},
};

const DELETE: u8 = 0x1;

/// Bytes of a row's key.
pub const KEY_LEN: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRow<'a> {
    pub links: Links,
    pub key: &'a [u8],
    pub change: Change<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    Put { rest: &'a [u8] },
    Delete,
}

/// The row's key: it sorts as the revision does.
pub fn encode_key(revision: Revision) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    let (main, sub) = key.split_at_mut(8);
    main.copy_from_slice(&revision.main.to_be_bytes());
    sub.copy_from_slice(&revision.sub.to_be_bytes());
    key
}

pub fn decode_key(key: &[u8]) -> Option<Revision> {
    let (main, sub) = key.split_at_checked(8)?;
    let main = i64::from_be_bytes(main.try_into().ok()?);
    (main >= 0).then_some(Revision::new(main, u32::from_be_bytes(sub.try_into().ok()?)))
}

impl<'a> LogRow<'a> {
    /// The row of `own`.
    pub fn decode(own: Revision, row: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(row);
        let flags = flags(reader.byte()?, DELETE)?;
        let links = Links::decode(own, &mut reader)?;
        let key = reader.bytes()?;
        let change = match flags {
            0 => Change::Put { rest: reader.rest() },
            _ if reader.is_empty() => Change::Delete,
            _ => return None,
        };
        Some(Self { links, key, change })
    }

    /// Whether this version made the key, which then did not live before: what
    /// it points to, if anything, is a deletion.
    pub fn is_creation(&self) -> Option<bool> {
        match self.change {
            Change::Put { rest } => Some(kv::Fields::decode(rest)?.version == 1),
            Change::Delete => Some(false),
        }
    }
}

/// The row of a put. The row ends with `key`, then `rest`, which begins at the
/// returned offset.
pub fn encode_put(own: Revision, links: &Links, key: &[u8], fields: &kv::Fields<'_>) -> (Bytes, usize) {
    let mut out = encode(0, own, links, key, fields.value.len() + 48);
    let offset = out.len();
    fields.encode(&mut out);
    (out.freeze(), offset)
}

/// The row of a deletion. It ends with `key`.
pub fn encode_delete(own: Revision, links: &Links, key: &[u8]) -> Bytes {
    encode(DELETE, own, links, key, 0).freeze()
}

fn encode(flags: u8, own: Revision, links: &Links, key: &[u8], more: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(24 + key.len() + more);
    out.put_u8(FORMAT | flags);
    links.encode(own, &mut out);
    put_bytes(&mut out, key);
    out
}
