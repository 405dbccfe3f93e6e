//! What a flag can hold, and how its text is read: by the rules of Go's `flag`
//! and `strconv` packages, which operators' command lines are written for.

use std::collections::BTreeMap;

use super::{
    gates::{self, parse_bool},
    url::Url,
};

/// The type of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// An unsigned number of 64 bits.
    Uint,
    /// An unsigned number of 32 bits.
    Uint32,
    /// A signed number of 64 bits.
    Int,
    /// `1h30m`, `1.5s`, `300ms`; in a configuration file whole nanoseconds.
    Duration,
    Text,
    /// One of the words listed.
    OneOf(&'static [&'static str]),
    /// One or more of the words listed, separated by commas.
    SomeOf(&'static [&'static str]),
    /// URLs separated by commas, or `*`, which an empty text means as well.
    Origins,
    /// URLs separated by commas. An empty text leaves the flag as it was.
    Urls,
    /// Words separated by commas; a list in a configuration file.
    Words,
    /// Words separated by commas, there as well.
    Names,
    /// `Name=true,Name=false`.
    Gates,
    /// A flag etcd itself accepts and ignores; it needs no value.
    Legacy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Uint(u64),
    Int(i64),
    /// Nanoseconds.
    Duration(i64),
    Text(String),
    Urls(Vec<Url>),
    Words(Vec<String>),
    Gates(BTreeMap<&'static str, bool>),
}

const PARSE_ERROR: &str = "parse error";
const RANGE_ERROR: &str = "value out of range";

impl Kind {
    /// Whether the flag stands for `true` when no value follows.
    pub fn needs_no_value(self) -> bool {
        matches!(self, Kind::Bool | Kind::Legacy)
    }

    /// Reads a text. The error is the reason alone.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Bool => parse_bool(text)
                .map(Value::Bool)
                .ok_or_else(|| PARSE_ERROR.to_owned()),
            Kind::Uint => parse_uint(text).map(Value::Uint).map_err(str::to_owned),
            Kind::Uint32 => parse_uint32(text).map(Value::Uint),
            Kind::Int => parse_int(text).map(Value::Int).map_err(str::to_owned),
            Kind::Duration => parse_duration(text)
                .map(Value::Duration)
                .ok_or_else(|| PARSE_ERROR.to_owned()),
            Kind::Text | Kind::Legacy => Ok(Value::Text(text.to_owned())),
            Kind::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::OneOf(_) => Err("invalid value".to_owned()),
            Kind::SomeOf(words) => match text.split(',').find(|word| !words.contains(word)) {
                Some(word) => Err(format!("invalid value {word:?}")),
                None => Ok(Value::Text(text.to_owned())),
            },
            Kind::Origins if text.is_empty() || text == "*" => {
                Ok(Value::Words(vec!["*".to_owned()]))
            }
            Kind::Origins => Url::parse_list(text).map(|urls| {
                let origins = urls.iter().map(|url| url.as_str().to_owned());
                Value::Words(words(origins))
            }),
            Kind::Urls if text.is_empty() => Ok(Value::Urls(Vec::new())),
            Kind::Urls => Url::parse_list(text).map(|mut urls| {
                urls.dedup();
                Value::Urls(urls)
            }),
            Kind::Words | Kind::Names => {
                Ok(Value::Words(words(text.split(',').map(str::to_owned))))
            }
            Kind::Gates => gates::parse(text).map(Value::Gates),
        }
    }
}

/// Sorted, each once, without empty ones.
pub(super) fn words(given: impl Iterator<Item = String>) -> Vec<String> {
    let mut words: Vec<String> = given.filter(|word| !word.is_empty()).collect();
    words.sort();
    words.dedup();
    words
}

/// Decimal, or with one of the prefixes 0x, 0o, 0b, 0.
fn parse_uint(text: &str) -> Result<u64, &'static str> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    // `from_str_radix` would take a sign.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(PARSE_ERROR);
    }
    u64::from_str_radix(digits, radix).map_err(|_| RANGE_ERROR)
}

fn parse_uint32(text: &str) -> Result<u64, String> {
    let reason = match parse_uint(text) {
        Ok(number) if number <= u64::from(u32::MAX) => return Ok(number),
        Ok(_) | Err(RANGE_ERROR) => RANGE_ERROR,
        Err(_) => "invalid syntax",
    };
    Err(format!("strconv.ParseUint: parsing {text:?}: {reason}"))
}

fn parse_int(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = i128::from(parse_uint(digits)?);
    i64::try_from(if negative { -number } else { number }).map_err(|_| RANGE_ERROR)
}

/// Nanoseconds of a text such as `-1h2m3.5s`.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (amount, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(
            after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len()),
        );
        total = total.checked_add(scaled(amount, unit_nanos(unit)?)?)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number times a unit; digits beyond a nanosecond are dropped.
fn scaled(amount: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // 64-bit parts cannot overflow the 128-bit products below.
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    Some(i128::from(whole) * unit + i128::from(fraction) * unit / scale)
}
