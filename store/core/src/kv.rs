//! The encoding of a key-value: protobuf `mvccpb.KeyValue` with its fields in
//! the order of their numbers and zero or empty ones omitted.
//!
//! Rows keep it without its first field, the key, which they already have:
//! this part is called `rest`. A reply is made by copying `key` and `rest`,
//! without decoding. Because the values of a key-value come after its
//! revisions, what a keys-only range answers is a prefix of `rest`.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::{Reader, put_bytes, put_varint, varint_len};

const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;
/// Field 2 of `RangeResponse`.
const ELEMENT: u8 = 0x12;

/// The fields of `rest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

/// What a reply holds of a key-value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Whole,
    WithoutValue,
    /// Neither value nor lease.
    RevisionsOnly,
}

impl<'a> Fields<'a> {
    /// `None` if `rest` is not in the form that [`Fields::encode`] gives.
    pub fn decode(rest: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(rest);
        let mut fields = Self::default();
        let mut last = 0;
        while !reader.is_empty() {
            let tag = reader.byte()?;
            if tag <= last {
                return None;
            }
            last = tag;
            match tag {
                CREATE_REVISION => fields.create_revision = reader.varint()? as i64,
                MOD_REVISION => fields.mod_revision = reader.varint()? as i64,
                VERSION => fields.version = reader.varint()? as i64,
                VALUE => fields.value = reader.bytes()?,
                LEASE => fields.lease = reader.varint()? as i64,
                _ => return None,
            }
        }
        Some(fields)
    }

    pub fn encode(&self, out: &mut BytesMut) {
        put_number(out, CREATE_REVISION, self.create_revision);
        put_number(out, MOD_REVISION, self.mod_revision);
        put_number(out, VERSION, self.version);
        if !self.value.is_empty() {
            out.put_u8(VALUE);
            put_bytes(out, self.value);
        }
        put_number(out, LEASE, self.lease);
    }
}

/// Negative numbers take ten bytes, as protobuf's `int64`.
fn put_number(out: &mut BytesMut, tag: u8, number: i64) {
    if number != 0 {
        out.put_u8(tag);
        put_varint(out, number as u64);
    }
}

/// The `rest` of a deletion's event: nothing but its revision.
pub(crate) fn deletion(mod_revision: i64) -> Bytes {
    let mut rest = BytesMut::with_capacity(11);
    put_number(&mut rest, MOD_REVISION, mod_revision);
    rest.freeze()
}

/// The modification revision alone, without a look at the value.
pub(crate) fn mod_revision(rest: &[u8]) -> Option<i64> {
    let mut reader = Reader::new(rest);
    if reader.byte()? != CREATE_REVISION {
        return None;
    }
    reader.varint()?;
    if reader.byte()? != MOD_REVISION {
        return None;
    }
    Some(reader.varint()? as i64)
}

/// The span of `rest` that [`Form::RevisionsOnly`] keeps.
fn revisions(rest: &[u8]) -> Option<Range<usize>> {
    let mut reader = Reader::new(rest);
    loop {
        let end = rest.len() - reader.rest().len();
        match reader.byte() {
            Some(CREATE_REVISION | MOD_REVISION | VERSION) => reader.varint()?,
            Some(VALUE | LEASE) | None => return Some(0..end),
            Some(_) => return None,
        };
    }
}

/// Bytes of the key-value that `key` and `rest` make.
pub fn key_value_len(key: &[u8], rest: &[u8]) -> usize {
    let key_field = if key.is_empty() {
        0
    } else {
        1 + varint_len(key.len() as u64) + key.len()
    };
    key_field + rest.len()
}

/// Appends the key-value that `key` and `rest` make.
pub fn append_key_value(out: &mut BytesMut, key: &[u8], rest: &[u8]) {
    if !key.is_empty() {
        out.put_u8(KEY);
        put_bytes(out, key);
    }
    out.put_slice(rest);
}

/// The key-value that `key` and `rest` make.
pub fn key_value(key: &[u8], rest: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(key_value_len(key, rest));
    append_key_value(&mut out, key, rest);
    out.freeze()
}

/// Bytes that [`append_element`] will append for a whole key-value.
pub(crate) fn element_len(key: &[u8], rest: &[u8]) -> usize {
    let len = key_value_len(key, rest);
    1 + varint_len(len as u64) + len
}

/// Appends one element of `RangeResponse.kvs` with its tag and length. `None`,
/// and nothing appended, if `rest` is damaged and `form` had to look into it.
pub(crate) fn append_element(
    out: &mut BytesMut,
    key: &[u8],
    rest: &[u8],
    form: Form,
) -> Option<()> {
    match form {
        Form::Whole => append_whole(out, key, rest),
        Form::RevisionsOnly => append_whole(out, key, rest.get(revisions(rest)?)?),
        Form::WithoutValue => {
            let mut shorter = BytesMut::new();
            Fields {
                value: &[],
                ..Fields::decode(rest)?
            }
            .encode(&mut shorter);
            append_whole(out, key, &shorter);
        }
    }
    Some(())
}

fn append_whole(out: &mut BytesMut, key: &[u8], rest: &[u8]) {
    out.reserve(element_len(key, rest));
    out.put_u8(ELEMENT);
    put_varint(out, key_value_len(key, rest) as u64);
    append_key_value(out, key, rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(fields: &Fields<'_>) -> Bytes {
        let mut out = BytesMut::new();
        fields.encode(&mut out);
        out.freeze()
    }

    fn element(key: &[u8], rest: &[u8], form: Form) -> Bytes {
        let mut out = BytesMut::new();
        append_element(&mut out, key, rest, form).expect("the rest is not damaged");
        out.freeze()
    }

    proptest! {
        #[test]
        fn fields_round_trip(create_revision: i64, mod_revision: i64, version: i64, value: Vec<u8>, lease: i64) {
            let fields = Fields { create_revision, mod_revision, version, value: &value, lease };
            let rest = encoded(&fields);
            prop_assert_eq!(Fields::decode(&rest), Some(fields));
            if create_revision != 0 && mod_revision != 0 {
                prop_assert_eq!(super::mod_revision(&rest), Some(mod_revision));
            }
            let key = b"key";
            let without_value = encoded(&Fields { value: &[], ..fields });
            prop_assert_eq!(element(key, &rest, Form::WithoutValue), element(key, &without_value, Form::Whole));
            let revisions_only = encoded(&Fields { value: &[], lease: 0, ..fields });
            prop_assert_eq!(element(key, &rest, Form::RevisionsOnly), element(key, &revisions_only, Form::Whole));
            prop_assert_eq!(element(key, &rest, Form::Whole).len(), element_len(key, &rest));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(rest: Vec<u8>) {
            let _ = Fields::decode(&rest);
            let _ = mod_revision(&rest);
            let _ = append_element(&mut BytesMut::new(), b"key", &rest, Form::RevisionsOnly);
            let _ = append_element(&mut BytesMut::new(), b"key", &rest, Form::WithoutValue);
        }
    }

    #[test]
    fn golden_bytes() {
        let fields = Fields {
            create_revision: 2,
            mod_revision: 300,
            version: 1,
            value: b"v",
            lease: 5,
        };
        assert_eq!(
            encoded(&fields).as_ref(),
            b"\x10\x02\x18\xac\x02\x20\x01\x2a\x01v\x30\x05"
        );
        assert_eq!(
            key_value(b"k", &encoded(&fields)).as_ref(),
            b"\x0a\x01k\x10\x02\x18\xac\x02\x20\x01\x2a\x01v\x30\x05"
        );
        assert_eq!(
            element(b"k", b"\x10\x02", Form::Whole).as_ref(),
            b"\x12\x05\x0a\x01k\x10\x02"
        );
        assert_eq!(deletion(300).as_ref(), b"\x18\xac\x02");
    }
}
