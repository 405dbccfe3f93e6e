//! Why a text is no object of its type, in Go's words: clients of upstream know
//! them.
//!
//! Knows the schema and Go's names of its types. Knows no request.

use std::fmt::Write as _;

use super::time::{LAYOUT, MICRO_LAYOUT};
use crate::schema::{Field, MessageId, Type, schema};

/// A value's kind, as Go's decoder calls it.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    Array,
    Object,
    Bool,
    Text,
    Number,
    /// A number that does not fit.
    Literal(&'a dyn std::fmt::Display),
}

impl std::fmt::Display for Found<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Array => out.write_str("array"),
            Self::Object => out.write_str("object"),
            Self::Bool => out.write_str("bool"),
            Self::Text => out.write_str("string"),
            Self::Number => out.write_str("number"),
            Self::Literal(number) => write!(out, "number {number}"),
        }
    }
}

/// The fields on the way to a value, each with the message it was found in.
pub type Way = Vec<(MessageId, &'static Field)>;

/// A value of another type than the one at the end of a way.
pub fn wrong_type(way: &Way, ty: &Type, found: Found<'_>) -> String {
    if matches!(ty, Type::Time | Type::MicroTime) {
        return format!("json: cannot unmarshal {found} into Go value of type string");
    }
    if *ty == Type::Quantity {
        return quantity("");
    }
    let Some((last, field)) = way.last() else {
        return format!(
            "json: cannot unmarshal {found} into Go value of type {}",
            derived(ty)
        );
    };
    let mut path = String::new();
    for (id, field) in way {
        embedded(*id, field.name, &mut path);
        // Writing to a string cannot fail.
        let _ = write!(path, ".{}", field.name);
    }
    let of = named(&field.ty, field.go, ty).unwrap_or_else(|| derived(ty));
    format!(
        "json: cannot unmarshal {found} into Go struct field {}{path} of type {of}",
        short(*last)
    )
}

/// The last name of a message.
fn short(id: MessageId) -> &'static str {
    let name = schema().message(id).name;
    name.rsplit('.').next().unwrap_or(name)
}

/// Adds the embedded structs in which a field lies.
fn embedded(id: MessageId, name: &str, path: &mut String) {
    let fields = &schema().message(id).fields;
    if fields.iter().any(|field| field.name == name) {
        return;
    }
    for field in fields.iter().filter(|field| field.inline) {
        let Type::Message(inner) = field.ty else {
            continue;
        };
        if schema().field(inner, name).is_some() {
            let _ = write!(path, ".{}", short(inner));
            return embedded(inner, name, path);
        }
    }
}

/// Go's name of `wanted`, which is `ty` or lies in it; `go` is that of `ty`, where
/// it has one of its own.
fn named(ty: &Type, go: Option<&str>, wanted: &Type) -> Option<String> {
    if std::ptr::eq(ty, wanted) {
        return Some(go.map_or_else(|| derived(ty), str::to_owned));
    }
    match ty {
        Type::List(inner) | Type::Wrapped(inner) => {
            named(inner, go.and_then(|go| go.strip_prefix("[]")), wanted)
        }
        Type::Map(inner) => {
            let go = go.and_then(|go| go.strip_prefix("map[")?.split_once(']'));
            named(inner, go.map(|(_, value)| value), wanted)
        }
        _ => None,
    }
}

fn derived(ty: &Type) -> String {
    match ty {
        Type::String | Type::Time | Type::MicroTime => "string".to_owned(),
        Type::Bool => "bool".to_owned(),
        // What it is tried as last.
        Type::Int32 | Type::IntOrString => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Double => "float64".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::Raw => "runtime.RawExtension".to_owned(),
        Type::FieldsV1 => "v1.FieldsV1".to_owned(),
        Type::Message(id) => {
            let name = schema().message(*id).name;
            let parts: Vec<_> = name.rsplitn(3, '.').collect();
            format!("{}.{}", parts.get(1).unwrap_or(&""), parts[0])
        }
        Type::List(inner) | Type::Wrapped(inner) => format!("[]{}", derived(inner)),
        Type::Map(inner) => format!("map[string]{}", derived(inner)),
    }
}

/// A text that is no value of a type that is written as one.
pub fn wrong_text(ty: &Type, text: &str) -> String {
    match ty {
        Type::Quantity => quantity(text),
        Type::Time => time(text, LAYOUT),
        Type::MicroTime => time(text, MICRO_LAYOUT),
        _ => base64(text),
    }
}

fn quantity(text: &str) -> String {
    let unsigned = text.trim_start_matches(['+', '-']);
    let number = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let suffix = number.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let exponent = suffix.trim_start_matches(['+', '-']);
    let formed = number.len() < unsigned.len() && exponent.bytes().all(|b| b.is_ascii_digit());
    if formed {
        return "unable to parse quantity's suffix".to_owned();
    }
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        .to_owned()
}

/// Where a text leaves the layout of times.
fn time(text: &str, layout: &str) -> String {
    let mut rest = text;
    let mut why = String::new();
    // How a part is read: 0 as it is, 1 not at all, else by so many digits.
    let fraction = (layout == MICRO_LAYOUT).then_some((".000000", 7));
    let parts = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ];
    for (part, digits) in parts.into_iter().chain(fraction).chain([("Z07:00", 1)]) {
        let bytes = rest.as_bytes();
        let fits = match digits {
            0 => rest.starts_with(part),
            1 => false,
            7 => {
                rest.starts_with('.')
                    && bytes.len() >= 7
                    && bytes[1..7].iter().all(u8::is_ascii_digit)
            }
            digits => bytes.len() >= digits && bytes[..digits].iter().all(u8::is_ascii_digit),
        };
        if !fits {
            why = format!("cannot parse {rest:?} as {part:?}");
            break;
        }
        rest = &rest[part.len()..];
    }
    format!("parsing time {text:?} as {layout:?}: {why}")
}

/// The byte at which Go's decoder stops.
pub fn base64(text: &str) -> String {
    let mut letters = 0;
    let mut at = text.len();
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            byte if byte.is_ascii_alphanumeric() || b"+/".contains(&byte) => letters += 1,
            b'=' if letters % 4 > 1 => {}
            _ => {
                at = index;
                return format!("illegal base64 data at input byte {at}");
            }
        }
    }
    at -= letters % 4;
    format!("illegal base64 data at input byte {at}")
}

/// Why a text is no JSON.
pub fn syntax(error: &serde_json::Error, text: &[u8]) -> String {
    if error.is_eof() || text.is_empty() {
        return "unexpected end of JSON input".to_owned();
    }
    let before: usize = text
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let at = (before + error.column())
        .saturating_sub(1)
        .min(text.len() - 1);
    let shown = String::from_utf8_lossy(&text[at..])
        .chars()
        .next()
        .unwrap_or(char::REPLACEMENT_CHARACTER);
    let said = error.to_string();
    let context = [
        (
            "key must be a string",
            "looking for beginning of object key string",
        ),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("expected `:`", "after object key"),
        ("trailing characters", "after top-level value"),
    ];
    let context = context.iter().find(|(words, _)| said.starts_with(words));
    let context = context.map_or("looking for beginning of value", |(_, context)| context);
    format!("invalid character {shown:?} {context}")
}

/// Bytes of a body that are shown.
const SHOWN: usize = 1_024;

/// A body as errors show it: as text when it may be JSON.
pub fn summary(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let rest = match body.len().checked_sub(SHOWN) {
        Some(rest) if rest > 0 => format!(" [truncated {rest} chars]"),
        _ => String::new(),
    };
    let body = &body[..body.len().min(SHOWN)];
    if body[0] == b'{' {
        return format!("{}{rest}", String::from_utf8_lossy(body));
    }
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (ty, text, expected) in [
            (
                Type::Time,
                "yesterday",
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
            (
                Type::Time,
                "2026-01-02",
                "parsing time \"2026-01-02\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
            ),
            (
                Type::Bytes,
                "not base64",
                "illegal base64 data at input byte 3",
            ),
            (Type::Bytes, "b", "illegal base64 data at input byte 0"),
            (
                Type::Quantity,
                "5Q",
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (Type::Quantity, "5KK", "unable to parse quantity's suffix"),
        ] {
            assert_eq!(wrong_text(&ty, text), expected);
        }
    }

    #[test]
    fn syntax_errors_name_the_letter() {
        let error = |text: &str| {
            let error = serde_json::from_str::<serde_json::Value>(text).expect_err("no JSON");
            syntax(&error, text.as_bytes())
        };
        assert_eq!(error("{"), "unexpected end of JSON input");
        assert_eq!(
            error("{\"a\": x}"),
            "invalid character 'x' looking for beginning of value"
        );
        assert_eq!(error("{} y"), "invalid character 'y' after top-level value");
    }

    #[test]
    fn bodies_are_shown_as_text_or_bytes() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{"), "{");
        assert_eq!(summary(b"[]"), "5b5d");
    }
}
