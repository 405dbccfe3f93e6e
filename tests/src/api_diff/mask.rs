//! Takes out of an answer what differs from run to run: what a server makes up
//! or reads off a clock. What the case itself sent literally is never taken out.

use serde_json::Value;

/// What the case says by itself, and what it saved of this side's answers.
#[derive(Clone, Copy, Debug)]
pub struct Literal<'a> {
    pub written: &'a str,
    pub saved: &'a std::collections::BTreeMap<String, String>,
}

/// Fields that a server numbers as it likes.
const NUMBERED: [&str; 3] = ["resourceVersion", "continue", "storageVersionHash"];
/// Fields of addresses and ports that a server chooses.
const CHOSEN: [&str; 4] = ["clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort"];

/// Masks a whole answer. The record of who owns which field goes, unless it is
/// asked for.
pub fn answer(value: &mut Value, known: &Literal<'_>, managed: bool) {
    walk(value, "", known, managed);
}

/// Whose entry of a record it is.
fn writer(entry: &Value) -> [String; 4] {
    ["operation", "manager", "apiVersion", "subresource"].map(|field| entry[field].to_string())
}

fn walk(value: &mut Value, key: &str, known: &Literal<'_>, managed: bool) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(entries)) = fields.get_mut("managedFields") {
                // Upstream sorts them by their times, in seconds.
                entries.sort_by_key(writer);
            }
            if !managed {
                fields.remove("managedFields");
            }
            generated_name(fields);
            for (key, inner) in fields.iter_mut() {
                walk(inner, key, known, managed);
            }
        }
        Value::Array(items) => {
            for inner in items {
                walk(inner, key, known, managed);
            }
        }
        Value::String(text) => {
            if let Some(masked) = string(text, key, known) {
                *text = masked;
            }
        }
        Value::Number(number)
            if CHOSEN.contains(&key) && !known.written.contains(&number.to_string()) =>
        {
            *value = "<chosen>".into();
        }
        _ => {}
    }
}

fn generated_name(metadata: &mut serde_json::Map<String, Value>) {
    let Some(prefix) = metadata.get("generateName").and_then(Value::as_str) else {
        return;
    };
    let name = metadata.get("name").and_then(Value::as_str);
    let masked = match name.and_then(|name| name.strip_prefix(prefix)) {
        Some(rest) if !rest.is_empty() => format!("{prefix}<{} random>", rest.len()),
        _ => return,
    };
    metadata.insert("name".to_owned(), masked.into());
}

fn string(text: &str, key: &str, known: &Literal<'_>) -> Option<String> {
    if NUMBERED.contains(&key) && !text.is_empty() && text != "0" {
        return Some(format!("<{key}>"));
    }
    if key == "token" && text.len() > 100 {
        return Some("<token>".to_owned());
    }
    let asked = || known.written.contains(&format!("\"{text}\""));
    if CHOSEN.contains(&key) && text.parse::<std::net::IpAddr>().is_ok() && !asked() {
        return Some("<chosen>".to_owned());
    }
    if key == "cells" {
        if is_age(text) {
            return Some("<age>".to_owned());
        }
        if text.parse::<std::net::IpAddr>().is_ok() && !known.written.contains(text) {
            return Some("<chosen>".to_owned());
        }
    }
    let mut masked = text.to_owned();
    for (name, value) in known.saved {
        let short = value.len() < 4 || value.parse::<u64>().is_ok();
        if name == "ns" || name == "ip" || known.written.contains(value.as_str()) {
            continue;
        }
        if !short {
            masked = masked.replace(value, &format!("<{name}>"));
        } else if masked == *value {
            masked = format!("<{name}>");
        }
    }
    let masked = random_parts(&masked, known);
    let masked = revisions(masked);
    (masked != text).then_some(masked)
}

/// Revisions that refusals of preconditions tell, and those of objects that are
/// shown in JSON or YAML within a text.
fn revisions(mut text: String) -> String {
    for before in [
        "ResourceVersion in record (",
        "Too large resource version: 99999999, current: ",
        "ResourceVersion in object meta: ",
        "\"resourceVersion\":\"",
        "\\\"resourceVersion\\\":\\\"",
        "resourceVersion: \"",
    ] {
        let mut from = 0;
        while let Some(start) = text[from..].find(before).map(|at| from + at + before.len()) {
            let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
            text.replace_range(start..start + digits, "<resourceVersion>");
            from = start;
        }
    }
    text
}

fn is_age(text: &str) -> bool {
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    digits.len() + 1 == text.len() && digits.bytes().all(|byte| byte.is_ascii_digit())
        || text == "<invalid>"
}

/// Identifiers and times anywhere in a text.
fn random_parts(text: &str, known: &Literal<'_>) -> String {
    let bytes = text.as_bytes();
    let mut masked = String::new();
    let bases = bases(known.written);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let named = bases.iter().any(|base| masked.ends_with(base));
        let found = [
            (random_letters(rest).filter(|_| named), "<random>"),
            (address(&bytes[..at], rest), "<address>"),
            (matches(rest, UID), "<uid>"),
            (matches(rest, MICRO_TIME), "<micro time>"),
            (matches(rest, TIME), "<time>"),
        ]
        .into_iter()
        .find_map(|(length, name)| length.map(|length| (length, name)));
        match found {
            Some((length, name)) if !known.written.contains(&text[at..at + length]) => {
                masked.push_str(name);
                at += length;
            }
            _ => {
                let next = text[at..].chars().next().map_or(1, char::len_utf8);
                masked.push_str(&text[at..at + next]);
                at += next;
            }
        }
    }
    masked
}

/// What generated names begin with in a case, as long as a server leaves it.
fn bases(written: &str) -> Vec<&str> {
    let after = written.split("\"generateName\":\"").skip(1);
    let named = after.filter_map(|rest| rest.split('"').next());
    named
        .filter(|base| !base.is_empty())
        .map(|base| base.get(..BASE).unwrap_or(base))
        .collect()
}

/// Bytes of a base that a generated name keeps.
const BASE: usize = 58;

/// The end of a generated name.
fn random_letters(bytes: &[u8]) -> Option<usize> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let letters = bytes.iter().take_while(|byte| LETTERS.contains(byte));
    (letters.count() == 5).then_some(5)
}

/// An address of a service, 10.96.0.0/12, that does not go on a number.
fn address(before: &[u8], bytes: &[u8]) -> Option<usize> {
    let part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    if before.last().is_some_and(part) {
        return None;
    }
    let length = bytes.iter().take_while(|byte| part(byte)).count();
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    let [a, b, ..] = text.parse::<std::net::Ipv4Addr>().ok()?.octets();
    (a == 10 && (96..112).contains(&b)).then_some(length)
}

/// `h` stands for a hexadecimal digit, `0` for a digit.
const UID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
const TIME: &str = "0000-00-00T00:00:00Z";
const MICRO_TIME: &str = "0000-00-00T00:00:00.000000Z";

fn matches(bytes: &[u8], pattern: &str) -> Option<usize> {
    let fits = bytes.len() >= pattern.len()
        && pattern
            .bytes()
            .zip(bytes)
            .all(|(wanted, byte)| match wanted {
                b'h' => byte.is_ascii_hexdigit(),
                b'0' => byte.is_ascii_digit(),
                literal => literal == *byte,
            });
    fits.then_some(pattern.len())
}
