//! Messages out of JSON, by protobuf's mapping, with errors in the words of
//! protobuf-go.
//!
//! Knows descriptors. What it is given is one JSON value (`scan.rs`).

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{go, number};
use crate::limits;

/// The message that `value` describes, encoded.
pub fn message(of: &MessageDescriptor, value: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoded = Vec::new();
    let mut reader = Reader { text: value, at: 0 };
    reader.message(of, limits::GATEWAY_DEPTH, &mut encoded)?;
    Ok(encoded)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// A piece of the text that stands for itself: a bracket, a word, a number, or a
/// text with what it says.
struct Token<'a> {
    at: usize,
    raw: &'a [u8],
    text: Option<Cow<'a, str>>,
}

impl Token<'_> {
    fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.raw)
    }
}

impl<'a> Reader<'a> {
    /// The next byte that is not white space.
    fn next(&mut self) -> u8 {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied().unwrap_or_default()
    }

    /// The next byte is taken if it is this one.
    fn takes(&mut self, byte: u8) -> bool {
        let there = self.next() == byte;
        self.at += usize::from(there);
        there
    }

    fn token(&mut self) -> Result<Token<'a>, String> {
        let first = self.next();
        let at = self.at;
        let text = match first {
            b'"' => Some(self.string()?),
            b'{' | b'}' | b'[' | b']' => {
                self.at += 1;
                None
            }
            _ => {
                let rest = &self.text[at..];
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b",]}:".contains(byte);
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                None
            }
        };
        let raw = &self.text[at..self.at];
        Ok(Token { at, raw, text })
    }

    /// Line and column, from 1, in characters.
    fn position(&self, at: usize) -> String {
        let before = &self.text[..at];
        let lines = before.split(|byte| *byte == b'\n');
        let (line, last) = lines.enumerate().last().unwrap_or_default();
        let column = last
            .utf8_chunks()
            .map(|chunk| chunk.valid().chars().count() + chunk.invalid().len())
            .sum::<usize>();
        format!("line {}:{}", line + 1, column + 1)
    }

    fn wrong(&self, token: &Token<'_>, text: &str) -> String {
        format!("proto: ({}): {text}", self.position(token.at))
    }

    fn syntax(&self, at: usize, text: &str) -> String {
        format!("proto: syntax error ({}): {text}", self.position(at))
    }

    fn unexpected(&self, token: &Token<'_>) -> String {
        self.syntax(token.at, &format!("unexpected token {}", token.shown()))
    }

    /// A text, the quotes of which are known to be there.
    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        let begin = self.at;
        let (mut said, mut plain) = (String::new(), begin + 1);
        self.at = plain;
        let valid = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| self.syntax(begin, "invalid UTF-8 in string"))
        };
        let mut at = self.at;
        loop {
            match self.text.get(at) {
                None => return Err("proto: unexpected EOF".to_owned()),
                Some(b'"') => {
                    let rest = valid(&self.text[plain..at])?;
                    self.at = at + 1;
                    return Ok(match said.is_empty() {
                        true => Cow::Borrowed(rest),
                        false => Cow::Owned(said + rest),
                    });
                }
                Some(b'\\') => {
                    said += valid(&self.text[plain..at])?;
                    let (character, length) = self.escaped(begin, &self.text[at..])?;
                    said.push(character);
                    at += length;
                    plain = at;
                }
                Some(_) => at += 1,
            }
        }
    }

    /// The character an escape stands for, and the bytes it takes.
    fn escaped(&self, begin: usize, rest: &[u8]) -> Result<(char, usize), String> {
        let plain = match rest.get(1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(begin, rest),
            other => char::from(other.copied().unwrap_or_default()),
        };
        Ok((plain, 2))
    }

    fn code_point(&self, begin: usize, rest: &[u8]) -> Result<(char, usize), String> {
        let unit = |bytes: &[u8]| {
            let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
            u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let first = unit(rest).unwrap_or_default();
        if let Some(character) = char::from_u32(first.into()) {
            return Ok((character, 6));
        }
        let second = rest.get(6..12).ok_or("proto: unexpected EOF")?;
        let units = [first, unit(second).unwrap_or_default()];
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok((character, 12)),
            _ => {
                let text = format!("invalid escape code {} in string", go::quoted(second));
                Err(self.syntax(begin, &text))
            }
        }
    }

    /// `depth`: so many messages may yet be inside of each other.
    fn message(
        &mut self,
        of: &MessageDescriptor,
        depth: usize,
        encoded: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err("proto: exceeded max recursion depth".to_owned());
        };
        let open = self.token()?;
        if open.raw != b"{" {
            return Err(self.unexpected(&open));
        }
        let (mut seen, mut chosen) = (Vec::new(), Vec::new());
        while !self.takes(b'}') {
            self.takes(b',');
            let name = self.token()?;
            self.takes(b':');
            let said = name.text.as_deref().unwrap_or_default();
            let named = of.get_field_by_json_name(said);
            let Some(field) = named.or_else(|| of.get_field_by_name(said)) else {
                self.skip()?;
                continue;
            };
            if seen.contains(&field.number()) {
                return Err(self.wrong(&name, &format!("duplicate field {}", name.shown())));
            }
            seen.push(field.number());
            if self.next() == b'n' {
                self.token()?;
            } else if field.is_list() {
                self.list(&field, depth, encoded)?;
            } else {
                if let Some(oneof) = field.containing_oneof() {
                    if chosen.contains(&oneof) {
                        let text = format!(
                            "error parsing {}, oneof {} is already set",
                            name.shown(),
                            oneof.full_name()
                        );
                        return Err(self.wrong(&name, &text));
                    }
                    chosen.push(oneof);
                }
                self.value(&field, depth, encoded)?;
            }
        }
        Ok(())
    }

    fn list(
        &mut self,
        field: &FieldDescriptor,
        depth: usize,
        encoded: &mut Vec<u8>,
    ) -> Result<(), String> {
        let open = self.token()?;
        if open.raw != b"[" {
            return Err(self.unexpected(&open));
        }
        while !self.takes(b']') {
            self.takes(b',');
            self.value(field, depth, encoded)?;
        }
        Ok(())
    }

    /// A value that nobody knows, with whatever is inside of it.
    fn skip(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        loop {
            let token = self.token()?;
            match token.raw {
                b"{" | b"[" => open += 1,
                b"}" | b"]" => open = open.saturating_sub(1),
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
            while self.takes(b',') || self.takes(b':') {}
        }
    }

    fn value(
        &mut self,
        field: &FieldDescriptor,
        depth: usize,
        encoded: &mut Vec<u8>,
    ) -> Result<(), String> {
        let kind = field.kind();
        if let Kind::Message(of) = &kind {
            let mut inner = Vec::new();
            self.message(of, depth, &mut inner)?;
            put_bytes(field, &inner, encoded);
            return Ok(());
        }
        let token = self.token()?;
        match scalar(&kind, &token) {
            Some(Scalar::Bits(value)) => {
                encode_key(field.number(), WireType::Varint, encoded);
                encode_varint(value, encoded);
            }
            Some(Scalar::Bytes(bytes)) => put_bytes(field, &bytes, encoded),
            Some(Scalar::Unknown) => {}
            None => {
                let text = format!(
                    "invalid value for {} field {}: {}",
                    shown(&kind),
                    field.json_name(),
                    token.shown()
                );
                return Err(self.wrong(&token, &text));
            }
        }
        Ok(())
    }
}

/// As it is encoded.
enum Scalar<'t> {
    Bits(u64),
    Bytes(Cow<'t, [u8]>),
    /// A name that nobody knows is as if it were not there.
    Unknown,
}

fn scalar<'t>(kind: &Kind, token: &'t Token<'_>) -> Option<Scalar<'t>> {
    let text = token.text.as_deref();
    let signed = |number: i64| Scalar::Bits(number.cast_unsigned());
    Some(match kind {
        Kind::Bool => match token.raw {
            b"true" => Scalar::Bits(1),
            b"false" => Scalar::Bits(0),
            _ => return None,
        },
        Kind::Int32 => signed(digits(token)?.parse::<i32>().ok()?.into()),
        Kind::Int64 => signed(digits(token)?.parse().ok()?),
        Kind::Uint32 => Scalar::Bits(digits(token)?.parse::<u32>().ok()?.into()),
        Kind::Uint64 => Scalar::Bits(digits(token)?.parse().ok()?),
        Kind::String => Scalar::Bytes(text?.as_bytes().into()),
        Kind::Bytes => Scalar::Bytes(bytes(text?)?.into()),
        Kind::Enum(of) => match text.map(|name| of.get_value_by_name(name)) {
            Some(Some(value)) => signed(value.number().into()),
            Some(None) => Scalar::Unknown,
            None => signed(digits(token)?.parse::<i32>().ok()?.into()),
        },
        _ => return None,
    })
}

fn put_bytes(field: &FieldDescriptor, bytes: &[u8], encoded: &mut Vec<u8>) {
    encode_key(field.number(), WireType::LengthDelimited, encoded);
    encode_varint(bytes.len() as u64, encoded);
    encoded.extend_from_slice(bytes);
}

/// Of a number, or of a text that is one.
fn digits(token: &Token<'_>) -> Option<String> {
    let number = match &token.text {
        Some(text) => number::leading(text.as_bytes())?,
        None => number::leading(token.raw)?,
    };
    number::whole(number)
}

fn shown(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        _ => "message",
    }
}

/// Base64 in either alphabet, with padding or without, which may be broken into
/// lines.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let alphabet = match text.contains(['-', '_']) {
        true => &alphabet::URL_SAFE,
        false => &alphabet::STANDARD,
    };
    let padding = match text.len() % 4 {
        0 => DecodePaddingMode::RequireCanonical,
        _ => DecodePaddingMode::RequireNone,
    };
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding);
    let engine = GeneralPurpose::new(alphabet, config);
    match text.contains(['\r', '\n']) {
        true => engine.decode(text.replace(['\r', '\n'], "")).ok(),
        false => engine.decode(text).ok(),
    }
}
