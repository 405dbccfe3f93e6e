//! Two masked answers, and where they differ.

use serde_json::Value;

use super::case::Compared;
use super::vars::at;

/// What one side answered, masked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answered {
    /// 0 when no answer came.
    pub code: u16,
    /// Names and values, of those headers that are compared.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Answered {
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// One place where the answers differ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mismatch {
    pub path: String,
    pub upstream: String,
    pub ours: String,
}

/// Headers that clients act on.
pub const HEADERS: [&str; 3] = ["content-type", "warning", "retry-after"];
/// Bytes of a value that are shown.
const SHOWN: usize = 300;

/// Every place where they differ, once.
pub fn differences(upstream: &Answered, ours: &Answered, compared: &Compared) -> Vec<Mismatch> {
    if upstream.code != ours.code {
        return vec![Mismatch {
            path: "code".to_owned(),
            upstream: outcome(upstream),
            ours: outcome(ours),
        }];
    }
    let mut found = Vec::new();
    match compared {
        Compared::Code => {
            let reason = |side: &Answered| side.body["reason"].clone();
            if !upstream.succeeded() {
                values(
                    "reason",
                    Some(&reason(upstream)),
                    Some(&reason(ours)),
                    &mut found,
                );
            }
            return found;
        }
        Compared::Paths(paths) => {
            for path in paths {
                values(
                    path,
                    at(&upstream.body, path),
                    at(&ours.body, path),
                    &mut found,
                );
            }
            return found;
        }
        Compared::Whole | Compared::Managed => {}
    }
    for name in HEADERS {
        let of = |side: &Answered| -> Value {
            let values = side.headers.iter().filter(|(header, _)| header == name);
            values
                .map(|(_, value)| Value::from(value.as_str()))
                .collect()
        };
        if of(upstream) != of(ours) {
            found.push(Mismatch {
                path: format!("header {name}"),
                upstream: shown(Some(&of(upstream))),
                ours: shown(Some(&of(ours))),
            });
        }
    }
    if upstream.body["kind"] != ours.body["kind"] {
        // Another object altogether: its parts say nothing more.
        leaf(
            "kind",
            upstream.body.get("kind"),
            ours.body.get("kind"),
            &mut found,
        );
        return found;
    }
    values("", Some(&upstream.body), Some(&ours.body), &mut found);
    found
}

/// The code, and what a failure says.
fn outcome(side: &Answered) -> String {
    match side.body["message"].as_str() {
        Some(message) if !side.succeeded() => {
            let reason = side.body["reason"].as_str().unwrap_or("no reason");
            shorten(format!("{} {reason} {message:?}", side.code))
        }
        _ if side.succeeded() => side.code.to_string(),
        _ => shorten(format!("{} {}", side.code, side.body)),
    }
}

fn values(path: &str, upstream: Option<&Value>, ours: Option<&Value>, found: &mut Vec<Mismatch>) {
    if upstream == ours {
        return;
    }
    match (upstream, ours) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                if key == "managedFields" {
                    // One line: its parts follow from each other.
                    leaf(&join(path, key), left.get(key), right.get(key), found);
                } else {
                    values(&join(path, key), left.get(key), right.get(key), found);
                }
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                values(
                    &join(path, &index.to_string()),
                    Some(left),
                    Some(right),
                    found,
                );
            }
        }
        _ => leaf(path, upstream, ours, found),
    }
}

fn leaf(path: &str, upstream: Option<&Value>, ours: Option<&Value>, found: &mut Vec<Mismatch>) {
    if upstream == ours {
        return;
    }
    let mut path = if path.is_empty() { "body" } else { path }.to_owned();
    if let (Some(Value::String(theirs)), Some(Value::String(own))) = (upstream, ours)
        && theirs.contains("\n@@ ")
        && without_hunks(theirs) == own.replace('\n', "")
    {
        path.push_str(HUNKS);
    }
    found.push(Mismatch {
        path,
        upstream: shown(upstream),
        ours: shown(ours),
    });
}

/// After the path of a text that differs in nothing but hunks of a diff.
const HUNKS: &str = " but for a diff";

/// A text without the hunks of a diff that upstream puts into it, in one line.
fn without_hunks(text: &str) -> String {
    let mut left = String::new();
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        inside = line.starts_with("@@ ") || inside && line.starts_with([' ', '+', '-']);
        if inside {
            continue;
        }
        left.push_str(line);
    }
    left.replace('\n', "")
}

fn join(path: &str, key: &str) -> String {
    let key = key.replace('.', "~");
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| shorten(value.to_string()))
}

fn shorten(mut text: String) -> String {
    if text.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_told_apart_from_the_text_around_it() {
        let with = Value::from(
            "spec: Forbidden\n@@ -1,2 +1,2 @@\n {\n- \"A\": 1,\n+ \"A\": 2,\n, spec.b: Required",
        );
        for (ours, path) in [
            (
                "spec: Forbidden, spec.b: Required",
                "message but for a diff",
            ),
            ("spec: Forbidden, spec.c: Required", "message"),
        ] {
            let mut found = Vec::new();
            leaf("message", Some(&with), Some(&ours.into()), &mut found);
            assert_eq!(found[0].path, path);
        }
    }
}
