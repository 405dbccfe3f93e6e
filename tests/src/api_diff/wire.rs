//! Protobuf without a schema, as a tree of field numbers: enough to compare two
//! answers, and independent of either server's notion of the types.

use serde_json::{Map, Value};

/// Deeper than any object nests.
const DEPTH: usize = 40;
/// Nanoseconds have no part here: a second of this millennium's times.
const TIMES: std::ops::Range<u64> = 1_750_000_000..2_500_000_000;

/// An object as upstream's media type carries it.
pub fn object(bytes: &[u8], managed: bool) -> Value {
    match bytes.strip_prefix(b"k8s\0") {
        Some(bytes) => {
            let mut tree = message(bytes, 0).unwrap_or_else(|| "no protobuf".into());
            tidy(&mut tree, "", managed);
            tree
        }
        None => "no protobuf of Kubernetes".into(),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// The fields by number, each a list; nothing when the bytes are no message.
fn message(mut bytes: &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH {
        return None;
    }
    let mut fields = Map::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = tag >> 3;
        if !(1..20_000).contains(&number) {
            return None;
        }
        let value = match tag & 7 {
            0 => varint(&mut bytes)?.into(),
            1 => take(&mut bytes, 8)?.to_vec().into(),
            2 => {
                let length = varint(&mut bytes)?;
                bytes_or_message(take(&mut bytes, length)?, depth)
            }
            5 => take(&mut bytes, 4)?.to_vec().into(),
            _ => return None,
        };
        if let Value::Array(values) = fields
            .entry(number.to_string())
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            values.push(value);
        }
    }
    Some(Value::Object(fields))
}

fn bytes_or_message(bytes: &[u8], depth: usize) -> Value {
    let text = std::str::from_utf8(bytes).ok();
    match text {
        Some(text) if text.chars().all(|letter| !letter.is_control()) => return text.into(),
        _ => {}
    }
    message(bytes, depth + 1)
        .or_else(|| text.map(Value::from))
        .unwrap_or_else(|| bytes.to_vec().into())
}

/// Times, revisions and, unless asked for, field 17 of the metadata go.
fn tidy(value: &mut Value, path: &str, managed: bool) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields.iter_mut() {
                let path = format!("{path}.{key}");
                if !managed && path.ends_with(".1.17") {
                    *inner = Value::Null;
                } else {
                    tidy(inner, &path, managed);
                }
            }
            fields.retain(|_, inner| !inner.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(|one| tidy(one, path, managed)),
        Value::Number(number) if number.as_u64().is_some_and(|one| TIMES.contains(&one)) => {
            *value = "<time>".into();
        }
        Value::String(text)
            if (path.ends_with(".1.6") || path.ends_with(".1.2"))
                && !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            *value = "<resourceVersion>".into();
        }
        _ => {}
    }
}
