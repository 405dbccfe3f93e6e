//! YAML as another spelling of JSON: bodies that come in it, answers that leave
//! in it. Knows text and JSON values; knows no kind.
//!
//! The rules are those of the library that upstream uses: version 1.1 with its
//! many words for truth, keys in natural order, lines never folded.

mod read;
mod tabs;
mod write;

pub use self::{
    read::{ReadError, read},
    write::{item, write},
};

/// What a strict reader says, line by line, without what it says first.
pub fn lines(told: &str) -> Vec<String> {
    let lines = told.lines().skip(1);
    lines.map(|line| line.trim().to_owned()).collect()
}

/// What a plain word stands for.
#[derive(Clone, PartialEq, Debug)]
enum Plain {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// A time, or a number that JSON has not.
    Other,
    Text,
}

/// What a plain word stands for, in version 1.1.
fn resolve(word: &str) -> Plain {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Plain::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Plain::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" | "<<" => return Plain::Other,
        _ => {}
    }
    match word.as_bytes()[0] {
        b'.' => word.parse().map_or(Plain::Text, Plain::Float),
        b'+' | b'-' | b'0'..=b'9' => number(word),
        _ => Plain::Text,
    }
}

fn number(word: &str) -> Plain {
    if is_time(word) {
        return Plain::Other;
    }
    let plain = word.replace('_', "");
    if let Some(integer) = integer(&plain) {
        return Plain::Integer(integer);
    }
    let digits = plain.trim_start_matches(['+', '-']);
    let shaped = plain.len() - digits.len() <= 1
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    match plain.parse::<f64>() {
        Ok(float) if shaped && float.is_finite() => Plain::Float(float),
        _ => Plain::Text,
    }
}

/// An integer in any of the bases of Go's literals.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let based = |prefixes: [&str; 2], base| {
        let digits = digits
            .strip_prefix(prefixes[0])
            .or_else(|| digits.strip_prefix(prefixes[1]))?;
        Some((digits, base))
    };
    let (digits, base) = based(["0x", "0X"], 16)
        .or_else(|| based(["0o", "0O"], 8))
        .or_else(|| based(["0b", "0B"], 2))
        .or_else(|| (digits.len() > 1 && digits.starts_with('0')).then(|| (&digits[1..], 8)))
        .unwrap_or((digits, 10));
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let number = sign * i128::from(u64::from_str_radix(digits, base).ok()?);
    (number >= i128::from(i64::MIN)).then_some(number)
}

/// Whether a word is a day, alone or with a time.
fn is_time(word: &str) -> bool {
    let Some((year, rest)) = word.split_once('-') else {
        return false;
    };
    let digits = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let Some((month, rest)) = rest.split_once('-') else {
        return false;
    };
    let (day, clock) = match rest.find(['T', 't', ' ']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let within = |text: &str, most: u32| {
        digits(text, 2)
            && text
                .parse::<u32>()
                .is_ok_and(|number| (1..=most).contains(&number))
    };
    year.len() == 4
        && digits(year, 4)
        && within(month, 12)
        && within(day, 31)
        && clock.is_none_or(|clock| {
            let parts: Vec<&str> = clock.splitn(3, ':').collect();
            parts.len() == 3 && digits(parts[0], 2) && digits(parts[1], 2)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let value = json!({
            "apiVersion": "v1", "a10": 1, "a9": -2.5, "list": [], "map": {}, "none": null,
            "items": [{"b": ["x", ["y"]], "c": true}, [1, 2], "s", {}],
            "texts": ["", "yes", "12", "1e3", "a: b", "#", "- a", " lead", "tail ", "a\nb\n", "a\nb", "\n", "x\n\n",
                "é", "\u{1}", "a \nb", "2026-01-02T03:04:05Z", "2026-01-02", "12:30:45", "null", "~", "0x1F", "1_000", "it's", "a\tb",
                "{}", "*x", "%a", "@b", "`c", "a#b", "a #b", "? x", ":x", "x:", "---", "k:{\"a\":1}", "\u{feff}", "-", "<<", "=", "  two\n lead"],
        });
        let text = write(&value);
        assert_eq!(read(&text).expect("YAML").0, value, "{text}");
    }

    #[test]
    fn it_looks_as_upstreams() {
        let value = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "data": {"a": "b", "s": "one\ntwo\n", "t": "x\ny", "n": "1", "f:b": "", "10": "c", "9": "d"},
            "metadata": {"creationTimestamp": "2026-11-30T13:03:19Z", "managedFields": [{"fieldsV1": {"f:data": {".": {}, "f:a": {}}}, "m": "u"}], "finalizers": ["a", "b"]},
        });
        let expected = "apiVersion: v1\ndata:\n  \"9\": d\n  \"10\": c\n  a: b\n  f:b: \"\"\n  \"n\": \"1\"\n  s: |\n    one\n    two\n  t: |-\n    x\n    y\nkind: ConfigMap\nmetadata:\n  creationTimestamp: \"2026-11-30T13:03:19Z\"\n  finalizers:\n  - a\n  - b\n  managedFields:\n  - fieldsV1:\n      f:data:\n        .: {}\n        f:a: {}\n    m: u\n";
        assert_eq!(write(&value), expected);
    }

    #[test]
    fn words_stand_for_values() {
        for (text, expected) in [
            (
                "a: yes\nb: 0x10\nc: 010\nd: 1_0\ne: 1.5\nf: ~\ng: 'yes'\nh: !!str 1",
                json!({"a": true, "b": 16, "c": 8, "d": 10, "e": 1.5, "f": null, "g": "yes", "h": "1"}),
            ),
            ("1: a\ntrue: b", json!({"1": "a", "true": "b"})),
            ("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
            ("", Value::Null),
            (
                "{\"a\": [1, {\"b\": null}]}",
                json!({"a": [1, {"b": null}]}),
            ),
            (
                "a: 2026-01-02T03:04:05Z",
                json!({"a": "2026-01-02T03:04:05Z"}),
            ),
        ] {
            assert_eq!(read(text).expect(text).0, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_or_too_much_is_refused() {
        for text in ["a: [", "a: b: c", "a:\n\tb: c", "a: .inf"] {
            assert!(read(text).is_err(), "{text}");
        }
        let (value, twice) = read("a: 1\na: 2").expect("the last one counts");
        assert_eq!(value, json!({"a": 2}));
        let told = "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map";
        assert_eq!(twice.as_deref(), Some(told));
        let deep = "[".repeat(10_000);
        assert!(read(&deep).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let names = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{names}]\n"));
        }
        assert!(read(&bomb).is_err());
    }
}
