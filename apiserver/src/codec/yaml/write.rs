//! A JSON value as a document.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{Plain, resolve};

/// Keys longer than this are marked as such.
const KEY_MAX: usize = 128;
/// Columns of one level.
const STEP: usize = 2;

/// The document of a value.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, true, &mut out),
        Value::Array(list) if !list.is_empty() => sequence(list, 0, true, &mut out),
        other => {
            scalar(other, 0, false, &mut out);
            out.push('\n');
        }
    }
    out
}

/// A value as an item of a list that begins at the left.
pub fn item(value: &Value) -> String {
    let mut out = String::new();
    sequence(std::slice::from_ref(value), 0, true, &mut out);
    out
}

fn indent(columns: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// A map whose lines begin at a column; the first of them stands there already,
/// or not.
fn mapping(map: &Map<String, Value>, column: usize, mut fresh: bool, out: &mut String) {
    let mut keys: Vec<(&String, &Value)> = map.iter().collect();
    keys.sort_by(|(one, _), (other, _)| natural(one, other));
    for (key, value) in keys {
        if fresh {
            indent(column, out);
        }
        fresh = true;
        if key.len() > KEY_MAX || key.contains('\n') {
            out.push_str("? ");
            text(key, column + STEP, false, out);
            out.push('\n');
            indent(column, out);
        } else {
            text(key, column, true, out);
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(inner, column + STEP, true, out);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.push('\n');
                sequence(inner, column, true, out);
            }
            other => {
                out.push(' ');
                scalar(other, column + STEP, false, out);
                out.push('\n');
            }
        }
    }
}

fn sequence(list: &[Value], column: usize, mut fresh: bool, out: &mut String) {
    for value in list {
        if fresh {
            indent(column, out);
        }
        fresh = true;
        out.push_str("- ");
        match value {
            Value::Object(inner) if !inner.is_empty() => mapping(inner, column + STEP, false, out),
            Value::Array(inner) if !inner.is_empty() => sequence(inner, column + STEP, false, out),
            other => {
                scalar(other, column + STEP, false, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, column: usize, key: bool, out: &mut String) {
    match value {
        Value::String(written) => text(written, column, key, out),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        other => out.push_str(&other.to_string()),
    }
}

/// What stands in the way of the simple forms of a text.
#[derive(Default)]
struct Obstacles {
    plain: bool,
    single: bool,
    block: bool,
}

fn obstacles(text: &str) -> Obstacles {
    let mut found = Obstacles::default();
    if text.starts_with("---") || text.starts_with("...") {
        found.plain = true;
    }
    let blank = |next: Option<&char>| next.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    let letters: Vec<char> = text.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let followed = blank(letters.get(at + 1));
        let before = at.checked_sub(1).map(|at| letters[at]);
        match letter {
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
            | '@' | '`'
                if at == 0 =>
            {
                found.plain = true
            }
            '?' | '-' if at == 0 && followed => found.plain = true,
            ':' if followed => found.plain = true,
            '#' if blank(before.as_ref()) => found.plain = true,
            _ => {}
        }
        if !printable(*letter) {
            found.plain = true;
            found.single = true;
            found.block = true;
        }
        match (letter, before) {
            (' ', Some('\n')) => {
                found.plain = true;
                found.single = true;
            }
            ('\n', Some(' ')) => {
                found.plain = true;
                found.single = true;
                found.block = true;
            }
            ('\n', _) => found.plain = true,
            _ => {}
        }
    }
    if text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']) {
        found.plain = true;
    }
    if text.ends_with(' ') {
        found.block = true;
    }
    found
}

fn printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn text(text: &str, column: usize, key: bool, out: &mut String) {
    let found = obstacles(text);
    let named = resolve(text) != Plain::Text || is_base_60(text);
    if text.contains('\n') && !key && !found.block {
        return literal(text, column, out);
    }
    if text.contains('\n') || named {
        return double_quoted(text, out);
    }
    if !found.plain {
        out.push_str(text);
    } else if found.single {
        double_quoted(text, out);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    }
}

/// Line by line, as they are.
fn literal(text: &str, column: usize, out: &mut String) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push_str(&STEP.to_string());
    }
    let ends = text.len() - text.trim_end_matches('\n').len();
    match ends {
        0 => out.push('-'),
        1 if text.len() > 1 => {}
        _ => out.push('+'),
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(column, out);
            out.push_str(line);
        }
    }
}

fn double_quoted(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        if printable(letter) && !matches!(letter, '"' | '\\' | '\n' | '\u{2028}' | '\u{2029}') {
            out.push(letter);
            continue;
        }
        let short = match letter {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{a0}' => "\\_",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ => "",
        };
        out.push_str(short);
        if short.is_empty() {
            let code = u32::from(letter);
            out.push_str(&match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    }
    out.push('"');
}

/// Whether other readers take it for a number of hours, minutes and seconds.
fn is_base_60(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    first.starts_with(|one: char| one.is_ascii_digit())
        && first
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
        && !rest.is_empty()
        && rest.iter().all(|part| {
            let two = part.len() <= 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            two && part.parse::<u32>().is_ok_and(|number| number < 60)
        })
        && fraction
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// The order of keys: numbers within them by their value, letters last.
fn natural(one: &str, other: &str) -> Ordering {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    for at in 0..one.len().min(other.len()) {
        let (a, b) = (one[at], other[at]);
        if a == b {
            continue;
        }
        match (a.is_alphabetic(), b.is_alphabetic()) {
            (true, true) => return a.cmp(&b),
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        let mut lead = 0;
        if a == '0' || b == '0' {
            let before = one[..at].iter().rev().take_while(|c| c.is_ascii_digit());
            lead = u64::from(before.into_iter().any(|c| *c != '0'));
        }
        let number = |letters: &[char]| {
            let digits = letters[at..].iter().map_while(|c| c.to_digit(10));
            digits.fold((lead, at), |(number, end), digit| {
                (
                    number.wrapping_mul(10).wrapping_add(u64::from(digit)),
                    end + 1,
                )
            })
        };
        let ((a_number, a_end), (b_number, b_end)) = (number(&one), number(&other));
        return a_number
            .cmp(&b_number)
            .then(a_end.cmp(&b_end))
            .then(a.cmp(&b));
    }
    one.len().cmp(&other.len())
}
