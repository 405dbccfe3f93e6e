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
    (main >= 0).then_some(Revision::new(
        main,
        u32::from_be_bytes(sub.try_into().ok()?),
    ))
}

impl<'a> LogRow<'a> {
    /// The row of `own`.
    pub fn decode(own: Revision, row: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(row);
        let flags = flags(reader.byte()?, DELETE)?;
        let links = Links::decode(own, &mut reader)?;
        let key = reader.bytes()?;
        let change = match flags {
            0 => Change::Put {
                rest: reader.rest(),
            },
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
pub fn encode_put(
    own: Revision,
    links: &Links,
    key: &[u8],
    fields: &kv::Fields<'_>,
) -> (Bytes, usize) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rows::chain::tests::version;

    proptest! {
        #[test]
        fn rows_round_trip((own, _, links) in version(), key: Vec<u8>, create in 2..i64::MAX, version: i64, value: Vec<u8>, lease: i64) {
            let fields = kv::Fields { create_revision: create, mod_revision: own.main, version, value: &value, lease };
            let (row, rest_at) = encode_put(own, &links, &key, &fields);
            let change = Change::Put { rest: &row[rest_at..] };
            prop_assert_eq!(kv::Fields::decode(&row[rest_at..]), Some(fields));
            prop_assert_eq!(&row[rest_at - key.len()..rest_at], &key[..]);
            prop_assert_eq!(LogRow::decode(own, &row), Some(LogRow { links, key: &key, change }));

            let row = encode_delete(own, &links, &key);
            prop_assert!(row.ends_with(&key));
            prop_assert_eq!(LogRow::decode(own, &row), Some(LogRow { links, key: &key, change: Change::Delete }));
        }

        #[test]
        fn keys_sort_as_revisions(a in (0..i64::MAX, any::<u32>()), b in (0..i64::MAX, any::<u32>())) {
            let (a, b) = (Revision::new(a.0, a.1), Revision::new(b.0, b.1));
            prop_assert_eq!(encode_key(a).cmp(&encode_key(b)), a.cmp(&b));
            prop_assert_eq!(decode_key(&encode_key(a)), Some(a));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(flags in 0x0f..0x13_u8, bytes: Vec<u8>, main in 0..10_000_i64) {
            let row = [&[flags], &bytes[..]].concat();
            if let Some(row) = LogRow::decode(Revision::new(main, 0), &row) {
                let _ = row.is_creation();
            }
            let _ = decode_key(&bytes);
        }
    }

    #[test]
    fn golden_bytes() {
        let own = Revision::new(300, 1);
        assert_eq!(&encode_key(own), b"\0\0\0\0\0\0\x01\x2c\0\0\0\x01");
        let fields = kv::Fields {
            create_revision: 300,
            mod_revision: 300,
            version: 1,
            value: b"v",
            lease: 0,
        };
        let (row, _) = encode_put(own, &Links::default(), b"k", &fields);
        assert_eq!(
            row.as_ref(),
            b"\x10\x00\x01k\x10\xac\x02\x18\xac\x02\x20\x01\x2a\x01v"
        );
        let previous = Some(Revision::new(299, 7));
        let skips = [Some(Revision::new(100, 0)), None, None];
        let (row, _) = encode_put(
            own,
            &Links {
                depth: 128,
                previous,
                skips,
            },
            b"k",
            &fields,
        );
        assert_eq!(
            row.as_ref(),
            b"\x10\x80\x01\x01\x07\xc8\x01\x00\x01k\x10\xac\x02\x18\xac\x02\x20\x01\x2a\x01v"
        );
        let row = encode_delete(
            own,
            &Links {
                depth: 1,
                previous,
                skips: [None; 3],
            },
            b"k",
        );
        assert_eq!(row.as_ref(), b"\x11\x01\x01\x07\x01k");
    }
}
