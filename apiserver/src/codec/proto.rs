//! Kubernetes' protobuf: objects to bytes, bytes to JSON, the envelope around
//! stored objects.
//!
//! Encoding writes what Go's generated code writes, byte for byte: fields by
//! ascending number, values that cannot be absent even when they are empty.

use std::{borrow::Cow, io::Write as _, ops::Range};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{
    json::UNKNOWN,
    quantity,
    time::{self, Precision},
};
use crate::schema::{Field, MessageId, Type, schema};

/// What every encoded object begins with.
pub const MAGIC: &[u8] = b"k8s\0";
/// Messages lie no deeper in one another; the deepest of the schema, a JSON
/// schema's aside, is a fifth of it.
const DEPTH_MAX: usize = 96;

/// Bytes that are not the message they should be.
#[derive(Debug, thiserror::Error)]
pub enum ProtoError {
    #[error("the bytes end inside a field")]
    Short,
    #[error("field {number} has wire type {wire}")]
    Wire { number: u32, wire: u8 },
    #[error("messages lie too deep in one another")]
    Deep,
    #[error("not an object in protobuf")]
    Magic,
}

/// The envelope around an encoded object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: Cow<'a, str>,
    pub kind: Cow<'a, str>,
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens the envelope of `bytes`.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ProtoError> {
        let mut envelope = Self::default();
        let body = bytes.strip_prefix(MAGIC).ok_or(ProtoError::Magic)?;
        for field in Fields(body) {
            match field? {
                (1, Wire::Len(type_meta)) => {
                    for field in Fields(type_meta) {
                        match field? {
                            (1, Wire::Len(text)) => {
                                envelope.api_version = String::from_utf8_lossy(text)
                            }
                            (2, Wire::Len(text)) => envelope.kind = String::from_utf8_lossy(text),
                            _ => {}
                        }
                    }
                }
                (2, Wire::Len(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// Encodes an object in its envelope.
pub fn seal(api_version: &str, kind: &str, id: MessageId, value: &Map<String, Value>) -> Vec<u8> {
    enclose(api_version, kind, |out| encode(id, value, out))
}

/// Puts an encoded message into an envelope.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    enclose(api_version, kind, |out| out.extend_from_slice(raw))
}

fn enclose(api_version: &str, kind: &str, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    out.extend_from_slice(MAGIC);
    nested(1, &mut out, |out| {
        put_len(1, api_version.as_bytes(), out);
        put_len(2, kind.as_bytes(), out);
    });
    nested(2, &mut out, body);
    // Content encoding and type, empty as Go leaves them.
    put_len(3, b"", &mut out);
    put_len(4, b"", &mut out);
    out
}

/// Encodes the fields of a message.
pub fn encode(id: MessageId, value: &Map<String, Value>, out: &mut Vec<u8>) {
    let message = schema().message(id);
    for &index in &message.by_number {
        let field = &message.fields[index];
        if field.inline {
            if let Type::Message(inner) = field.ty {
                nested(field.number, out, |out| encode(inner, value, out));
            }
            continue;
        }
        match value.get(field.name) {
            Some(value) if !value.is_null() => put(field.number, &field.ty, value, out),
            _ if !field.presence => put_empty(field.number, &field.ty, out),
            _ => {}
        }
    }
    if let Some(Value::String(unknown)) = value.get(UNKNOWN)
        && let Ok(bytes) = BASE64.decode(unknown)
    {
        out.extend_from_slice(&bytes);
    }
}

fn put(number: u32, ty: &Type, value: &Value, out: &mut Vec<u8>) {
    match (ty, value) {
        (Type::String, Value::String(text)) => put_len(number, text.as_bytes(), out),
        (Type::Bool, Value::Bool(flag)) => put_varint_field(number, u64::from(*flag), out),
        (Type::Int32 | Type::Int64, Value::Number(value)) => {
            put_varint_field(number, value.as_i64().unwrap_or(0).cast_unsigned(), out);
        }
        (Type::Double, Value::Number(value)) => {
            put_tag(number, 1, out);
            out.extend_from_slice(&value.as_f64().unwrap_or(0.0).to_le_bytes());
        }
        (Type::Bytes, Value::String(text)) => {
            put_len(number, &BASE64.decode(text).unwrap_or_default(), out);
        }
        (Type::Time | Type::MicroTime, Value::String(text)) => nested(number, out, |out| {
            if let Some((seconds, nanos)) = time::parse(text) {
                let nanos = if *ty == Type::Time { 0 } else { nanos };
                put_varint_field(1, seconds.cast_unsigned(), out);
                put_varint_field(2, u64::from(nanos), out);
            }
        }),
        (Type::Quantity, Value::String(text)) => {
            nested(number, out, |out| put_len(1, text.as_bytes(), out))
        }
        (Type::IntOrString, value) => nested(number, out, |out| {
            let text = value.as_str();
            put_varint_field(1, u64::from(text.is_some()), out);
            put_varint_field(2, value.as_i64().unwrap_or(0).cast_unsigned(), out);
            put_len(3, text.unwrap_or("").as_bytes(), out);
        }),
        (Type::Raw | Type::FieldsV1, value) => nested(number, out, |out| {
            let text = value.to_string();
            put_len(1, text.as_bytes(), out);
        }),
        (Type::Message(id), Value::Object(map)) => nested(number, out, |out| encode(*id, map, out)),
        (Type::List(inner), Value::Array(list)) => {
            for value in list {
                put(number, inner, value, out);
            }
        }
        (Type::Wrapped(inner), Value::Array(list)) => nested(number, out, |out| {
            for value in list {
                put(1, inner, value, out);
            }
        }),
        (Type::Map(inner), Value::Object(map)) => {
            for (key, value) in map {
                nested(number, out, |out| {
                    put_len(1, key.as_bytes(), out);
                    put(2, inner, value, out);
                });
            }
        }
        // Canonical values have their type; a null element is empty.
        _ => put_empty(number, ty, out),
    }
}

/// What Go writes for a value that cannot be absent and is empty.
fn put_empty(number: u32, ty: &Type, out: &mut Vec<u8>) {
    match ty {
        Type::String => put_len(number, b"", out),
        Type::Bool | Type::Int32 | Type::Int64 => put_varint_field(number, 0, out),
        Type::Double => {
            put_tag(number, 1, out);
            out.extend_from_slice(&[0; 8]);
        }
        Type::Time | Type::MicroTime | Type::Raw | Type::FieldsV1 => put_len(number, b"", out),
        Type::Quantity => nested(number, out, |out| put_len(1, b"0", out)),
        Type::IntOrString => put(number, ty, &Value::from(0), out),
        Type::Message(id) => nested(number, out, |out| encode(*id, &Map::new(), out)),
        Type::Bytes | Type::List(_) | Type::Map(_) | Type::Wrapped(_) => {}
    }
}

/// Writes a varint.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_tag(number: u32, wire: u8, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | u64::from(wire), out);
}

/// Adds a field of a number.
pub fn put_varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    put_tag(number, 0, out);
    put_varint(value, out);
}

/// Writes a field of bytes.
pub fn put_len(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_tag(number, 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a message field whose length is known when its body is written.
pub fn nested(number: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    put_tag(number, 2, out);
    let start = out.len();
    // Most lengths take one byte; a longer one moves the body.
    out.push(0);
    body(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut varint = Vec::with_capacity(5);
        put_varint(length as u64, &mut varint);
        out.splice(start..=start, varint);
    }
}

/// The value of one field on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Len(&'a [u8]),
}

/// Reads the fields of a message one after the other.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(ProtoError::Short)?;
            self.0 = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtoError::Short)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], ProtoError> {
        let length = usize::try_from(length).map_err(|_| ProtoError::Short)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtoError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), ProtoError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtoError::Short)?;
        let value = match (tag & 7) as u8 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(self.take(8)?.try_into().map_err(|_| ProtoError::Short)?),
            2 => {
                let length = self.varint()?;
                Wire::Len(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            wire => return Err(ProtoError::Wire { number, wire }),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtoError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// An encoded object as JSON.
#[derive(Debug)]
pub struct Transcoded {
    pub json: Vec<u8>,
    /// Where the digits of `metadata.resourceVersion` stand, without quotes.
    pub revision: Range<usize>,
}

/// Writes message `id` as a JSON object with its kind, its API version and,
/// as resource version, `revision`.
pub fn to_json(
    api_version: &str,
    kind: &str,
    id: MessageId,
    bytes: &[u8],
    revision: i64,
) -> Result<Transcoded, ProtoError> {
    let mut writer = Writer {
        out: Vec::with_capacity(bytes.len() * 3 / 2 + 256),
        stamp: Some(revision),
        revision: 0..0,
        keep_unknown: false,
    };
    writer.out.extend_from_slice(b"{\"kind\":");
    writer.string(kind);
    writer.out.extend_from_slice(b",\"apiVersion\":");
    writer.string(api_version);
    let mut first = false;
    writer.fields(id, bytes, 0, &mut first)?;
    writer.out.push(b'}');
    Ok(Transcoded {
        json: writer.out,
        revision: writer.revision,
    })
}

/// Writes message `id` as a JSON object without kind and API version.
pub fn to_plain_json(id: MessageId, bytes: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let mut writer = Writer {
        out: Vec::with_capacity(bytes.len() * 3 / 2 + 256),
        stamp: None,
        revision: 0..0,
        keep_unknown: false,
    };
    writer.message(id, bytes, 0)?;
    Ok(writer.out)
}

/// Writes message `id` as a JSON object that carries what the schema does not
/// know, to be read back by this program.
pub fn to_internal_json(id: MessageId, bytes: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let mut writer = Writer {
        out: Vec::with_capacity(bytes.len() * 3 / 2 + 256),
        stamp: None,
        revision: 0..0,
        keep_unknown: true,
    };
    writer.message(id, bytes, 0)?;
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    /// The resource version to write into the outermost metadata.
    stamp: Option<i64>,
    revision: Range<usize>,
    keep_unknown: bool,
}

/// The occurrences of a message's fields, by the place of the field in the
/// schema.
type Found<'a> = Vec<(usize, Wire<'a>)>;

impl Writer {
    fn message(&mut self, id: MessageId, bytes: &[u8], depth: usize) -> Result<(), ProtoError> {
        self.out.push(b'{');
        let mut first = true;
        self.fields(id, bytes, depth, &mut first)?;
        self.out.push(b'}');
        Ok(())
    }

    fn fields(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        depth: usize,
        first: &mut bool,
    ) -> Result<(), ProtoError> {
        if depth > DEPTH_MAX {
            return Err(ProtoError::Deep);
        }
        let message = schema().message(id);
        let mut unknown = Vec::new();
        let found = self.collect(id, bytes, &mut unknown)?;
        let mut at = 0;
        for (index, field) in message.fields.iter().enumerate() {
            let start = at;
            while found.get(at).is_some_and(|(of, _)| *of == index) {
                at += 1;
            }
            let values = &found[start..at];
            if field.inline {
                if let Type::Message(inner) = field.ty {
                    let body = match values.last() {
                        Some((_, Wire::Len(body))) => body,
                        _ => &[][..],
                    };
                    self.fields(inner, body, depth + 1, first)?;
                }
                continue;
            }
            let stamped = depth == 1
                && field.name == "resourceVersion"
                && id == schema().object_meta()
                && self.stamp.is_some();
            if stamped {
                self.key(field.name, first);
                self.revision();
            } else {
                self.field(field, values, depth, first)?;
            }
        }
        if !unknown.is_empty() {
            self.key(UNKNOWN, first);
            self.string(&BASE64.encode(unknown));
        }
        Ok(())
    }

    fn collect<'a>(
        &self,
        id: MessageId,
        bytes: &'a [u8],
        unknown: &mut Vec<u8>,
    ) -> Result<Found<'a>, ProtoError> {
        let message = schema().message(id);
        let mut found = Found::new();
        let mut fields = Fields(bytes);
        loop {
            let before = fields.0;
            match fields.next() {
                None => break,
                Some(field) => {
                    let (number, wire) = field?;
                    if let Some(index) = message.index_of(number) {
                        found.push((index, wire));
                    } else if self.keep_unknown {
                        unknown.extend_from_slice(&before[..before.len() - fields.0.len()]);
                    }
                }
            }
        }
        found.sort_by_key(|(index, _)| *index);
        Ok(found)
    }

    fn field(
        &mut self,
        field: &Field,
        values: &[(usize, Wire<'_>)],
        depth: usize,
        first: &mut bool,
    ) -> Result<(), ProtoError> {
        let Some((_, last)) = values.last() else {
            if field.always {
                self.key(field.name, first);
                if field.presence {
                    self.out.extend_from_slice(b"null");
                } else {
                    self.empty(&field.ty)?;
                }
            }
            return Ok(());
        };
        match &field.ty {
            Type::List(inner) => {
                self.key(field.name, first);
                self.list(
                    field.number,
                    inner,
                    values.iter().map(|(_, wire)| *wire),
                    depth,
                )
            }
            Type::Map(inner) => {
                self.key(field.name, first);
                self.map(field.number, inner, values, depth)
            }
            ty => {
                if !field.always && !field.presence && is_empty(ty, *last) {
                    return Ok(());
                }
                self.key(field.name, first);
                self.value(field.number, ty, *last, depth)
            }
        }
    }

    fn list<'a>(
        &mut self,
        number: u32,
        inner: &Type,
        values: impl Iterator<Item = Wire<'a>>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        self.out.push(b'[');
        let mut first = true;
        for wire in values {
            if let (Type::Int32 | Type::Int64 | Type::Bool, Wire::Len(packed)) = (inner, wire) {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    let value = packed.varint()?;
                    self.comma(&mut first);
                    self.value(number, inner, Wire::Varint(value), depth)?;
                }
                continue;
            }
            self.comma(&mut first);
            self.value(number, inner, wire, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(
        &mut self,
        number: u32,
        inner: &Type,
        values: &[(usize, Wire<'_>)],
        depth: usize,
    ) -> Result<(), ProtoError> {
        self.out.push(b'{');
        let mut first = true;
        for (_, wire) in values {
            let Wire::Len(entry) = wire else {
                return Err(ProtoError::Wire { number, wire: 0 });
            };
            let (mut key, mut value): (&[u8], _) = (b"", None);
            for field in Fields(entry) {
                match field? {
                    (1, Wire::Len(text)) => key = text,
                    (2, wire) => value = Some(wire),
                    _ => {}
                }
            }
            self.comma(&mut first);
            self.text(key);
            self.out.push(b':');
            match value {
                Some(wire) => self.value(number, inner, wire, depth)?,
                None => self.empty(inner)?,
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn value(
        &mut self,
        number: u32,
        ty: &Type,
        wire: Wire<'_>,
        depth: usize,
    ) -> Result<(), ProtoError> {
        match (ty, wire) {
            (Type::String, Wire::Len(text)) => self.text(text),
            (Type::Bool, Wire::Varint(value)) => {
                self.out
                    .extend_from_slice(if value == 0 { b"false" } else { b"true" });
            }
            (Type::Int32, Wire::Varint(value)) => self.number(i64::from(value as i32)),
            (Type::Int64, Wire::Varint(value)) => self.number(value.cast_signed()),
            (Type::Double, Wire::Fixed64(bytes)) => {
                let number = f64::from_le_bytes(bytes);
                if number.fract() == 0.0 && number.abs() < 1e15 {
                    self.number(number as i64);
                } else {
                    self.json(&Value::from(number));
                }
            }
            (Type::Bytes, Wire::Len(bytes)) => self.string(&BASE64.encode(bytes)),
            (Type::Time, Wire::Len(bytes)) => self.time(bytes, Precision::Seconds)?,
            (Type::MicroTime, Wire::Len(bytes)) => self.time(bytes, Precision::Micros)?,
            (Type::Quantity, Wire::Len(bytes)) => {
                let text = String::from_utf8_lossy(last_len(bytes, 1)?.unwrap_or(b"0"));
                let canonical = quantity::canonical(&text);
                self.string(canonical.as_deref().unwrap_or(&text));
            }
            (Type::IntOrString, Wire::Len(bytes)) => {
                if last_varint(bytes, 1)? == 0 {
                    self.number(i64::from(last_varint(bytes, 2)? as i32));
                } else {
                    self.text(last_len(bytes, 3)?.unwrap_or(b""));
                }
            }
            (Type::Raw | Type::FieldsV1, Wire::Len(bytes)) => {
                let text = last_len(bytes, 1)?.unwrap_or(b"");
                // What is not JSON cannot stand in JSON.
                if serde_json::from_slice::<IgnoredAny>(text).is_ok() {
                    self.out.extend_from_slice(text);
                } else {
                    self.out.extend_from_slice(b"null");
                }
            }
            (Type::Message(id), Wire::Len(bytes)) => self.message(*id, bytes, depth + 1)?,
            (Type::Wrapped(inner), Wire::Len(bytes)) => {
                let mut items = Vec::new();
                for field in Fields(bytes) {
                    if let (1, wire) = field? {
                        items.push(wire);
                    }
                }
                self.list(number, inner, items.into_iter(), depth)?;
            }
            (_, wire) => {
                let wire = match wire {
                    Wire::Varint(_) => 0,
                    Wire::Fixed64(_) => 1,
                    Wire::Len(_) => 2,
                    Wire::Fixed32 => 5,
                };
                return Err(ProtoError::Wire { number, wire });
            }
        }
        Ok(())
    }

    /// What Go prints for an absent value that it prints always.
    fn empty(&mut self, ty: &Type) -> Result<(), ProtoError> {
        match ty {
            Type::Message(id) => return self.message(*id, &[], 2),
            ty => self.json(&super::json::zero_of(ty)),
        }
        Ok(())
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::replace(first, false) {
            self.out.push(b',');
        }
    }

    fn key(&mut self, name: &str, first: &mut bool) {
        self.comma(first);
        self.string(name);
        self.out.push(b':');
    }

    /// A text, which is checked quickly when it is UTF-8, as nearly all are.
    fn text(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.string(text),
            Err(_) => self.string(&String::from_utf8_lossy(bytes)),
        }
    }

    fn string(&mut self, text: &str) {
        // Writing into a Vec cannot fail.
        let _ = serde_json::to_writer(&mut self.out, text);
    }

    fn json(&mut self, value: &Value) {
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn number(&mut self, number: i64) {
        let _ = write!(self.out, "{number}");
    }

    fn revision(&mut self) {
        self.out.push(b'"');
        let start = self.out.len();
        self.number(self.stamp.unwrap_or(0));
        self.revision = start..self.out.len();
        self.out.push(b'"');
    }

    fn time(&mut self, bytes: &[u8], precision: Precision) -> Result<(), ProtoError> {
        if bytes.is_empty() {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        let seconds = last_varint(bytes, 1)?.cast_signed();
        // The years that RFC 3339 can write.
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let nanos = u32::try_from(last_varint(bytes, 2)?)
            .unwrap_or(0)
            .min(999_999_999);
        self.string(&time::format(seconds, nanos, precision));
        Ok(())
    }
}

fn is_empty(ty: &Type, wire: Wire<'_>) -> bool {
    match wire {
        Wire::Varint(value) => value == 0,
        Wire::Fixed64(bytes) => f64::from_le_bytes(bytes) == 0.0,
        Wire::Len(bytes) => match ty {
            // The zero time is no bytes.
            Type::String | Type::Bytes | Type::Time | Type::MicroTime => bytes.is_empty(),
            // Go leaves out a message whose fields are all empty.
            Type::Message(id) => message_is_empty(*id, bytes, 0),
            _ => false,
        },
        Wire::Fixed32 => false,
    }
}

fn message_is_empty(id: MessageId, bytes: &[u8], depth: usize) -> bool {
    let message = schema().message(id);
    depth < DEPTH_MAX
        && Fields(bytes).all(|field| match field {
            Ok((number, wire)) => message.index_of(number).is_none_or(|index| {
                let field = &message.fields[index];
                match (&field.ty, wire) {
                    (Type::Message(inner), Wire::Len(body)) if !field.presence => {
                        message_is_empty(*inner, body, depth + 1)
                    }
                    (ty, wire) => !field.presence && is_empty(ty, wire),
                }
            }),
            Err(_) => false,
        })
}

/// The last value of a varint field, 0 when absent.
fn last_varint(bytes: &[u8], number: u32) -> Result<u64, ProtoError> {
    let mut value = 0;
    for field in Fields(bytes) {
        if let (found, Wire::Varint(varint)) = field?
            && found == number
        {
            value = varint;
        }
    }
    Ok(value)
}

/// The last value of a field of bytes.
pub fn last_len(bytes: &[u8], number: u32) -> Result<Option<&[u8]>, ProtoError> {
    let mut value = None;
    for field in Fields(bytes) {
        if let (found, Wire::Len(body)) = field?
            && found == number
        {
            value = Some(body);
        }
    }
    Ok(value)
}
