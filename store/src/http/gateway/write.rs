//! JSON out of encoded messages, by protobuf's mapping: names of the proto files,
//! numbers of 64 bits as texts, bytes in base64, nothing for what is zero.
//!
//! The text is made piece by piece, so that a reply of any size takes no memory
//! but its own. Expects what encoders give: the values of a list are side by side.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// A message of which the rest is still to be written.
struct Open {
    of: MessageDescriptor,
    rest: Bytes,
    /// Whether nothing has been written of it.
    empty: bool,
    /// The list whose values are being written.
    list: Option<u32>,
}

/// Writes one message.
pub struct Writer {
    open: Vec<Open>,
}

fn broken() -> String {
    "proto: cannot parse reserved wire type".to_owned()
}

impl Writer {
    pub fn new(of: MessageDescriptor, encoded: Bytes) -> Self {
        let first = Open {
            of,
            rest: encoded,
            empty: true,
            list: None,
        };
        Self { open: vec![first] }
    }

    /// Appends to `text` until it has so many bytes, or a value more; whether
    /// that was all. `text` begins with the opening brace.
    pub fn write(&mut self, text: &mut String, bytes: usize) -> Result<bool, String> {
        while text.len() < bytes {
            let Some(message) = self.open.last_mut() else {
                return Ok(true);
            };
            if !message.rest.has_remaining() {
                if message.list.is_some() {
                    text.push(']');
                }
                text.push('}');
                self.open.pop();
                continue;
            }
            if let Some(inner) = message.next(text)? {
                text.push('{');
                self.open.push(inner);
            }
        }
        Ok(self.open.is_empty())
    }
}

impl Open {
    /// Writes the next value; of a message only its name.
    fn next(&mut self, text: &mut String) -> Result<Option<Open>, String> {
        let (number, wire) = decode_key(&mut self.rest).map_err(|_| broken())?;
        let (value, content) = match wire {
            WireType::Varint => {
                let value = decode_varint(&mut self.rest).map_err(|_| broken())?;
                (value, Bytes::new())
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.rest).map_err(|_| broken())?;
                let length = usize::try_from(length).map_err(|_| broken())?;
                if length > self.rest.len() {
                    return Err(broken());
                }
                (1, self.rest.split_to(length))
            }
            _ => return Err(broken()),
        };
        let Some(field) = self.of.get_field(number) else {
            return Ok(None);
        };
        let zero = value == 0 || wire == WireType::LengthDelimited && content.is_empty();
        let shows_zero = field.is_list()
            || field.supports_presence()
            || matches!(field.kind(), Kind::Message(_));
        if zero && !shows_zero {
            return Ok(None);
        }
        self.name(&field, text);
        match field.kind() {
            Kind::Message(of) => Ok(Some(Open {
                of,
                rest: content,
                empty: true,
                list: None,
            })),
            kind => {
                scalar(&kind, value, &content, text)?;
                Ok(None)
            }
        }
    }

    /// What stands before a value.
    fn name(&mut self, field: &FieldDescriptor, text: &mut String) {
        let list = field.is_list().then_some(field.number());
        if list.is_some() && self.list == list {
            text.push(',');
            return;
        }
        if self.list.is_some() {
            text.push(']');
        }
        if !self.empty {
            text.push(',');
        }
        self.empty = false;
        self.list = list;
        text.push('"');
        text.push_str(field.name());
        text.push_str("\":");
        if list.is_some() {
            text.push('[');
        }
    }
}

fn scalar(kind: &Kind, value: u64, content: &[u8], text: &mut String) -> Result<(), String> {
    // What is narrower has been widened with its sign.
    #[expect(clippy::cast_possible_truncation)]
    let narrow = value.cast_signed() as i32;
    match kind {
        Kind::Bool => text.push_str(if value == 0 { "false" } else { "true" }),
        Kind::Int32 => *text += &narrow.to_string(),
        Kind::Uint32 => *text += &value.to_string(),
        Kind::Int64 => *text += &format!("\"{}\"", value.cast_signed()),
        Kind::Uint64 => *text += &format!("\"{value}\""),
        Kind::Enum(of) => match of.get_value(narrow) {
            Some(value) => *text += &format!("\"{}\"", value.name()),
            None => *text += &narrow.to_string(),
        },
        Kind::Bytes => {
            text.push('"');
            BASE64_STANDARD.encode_string(content, text);
            text.push('"');
        }
        Kind::String => {
            let content = std::str::from_utf8(content)
                .map_err(|_| "proto: string field contains invalid UTF-8".to_owned())?;
            *text += &serde_json::Value::from(content).to_string();
        }
        _ => return Err(broken()),
    }
    Ok(())
}
