//! What stands in a step for what only a run knows.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use super::samples::Samples;

/// What one side of a case knows by now.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    pub saved: BTreeMap<String, String>,
    pub kept: BTreeMap<String, Value>,
    /// Bodies kept as they came, for media types that are not JSON.
    pub raw: BTreeMap<String, Vec<u8>>,
}

impl Variables {
    /// `text` with every `${NAME}` replaced; one that is not known is replaced by
    /// `unknown-NAME`, as its step failed here.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            filled.push_str(before);
            let Some(end) = from.find('}') else {
                rest = from;
                break;
            };
            let name = &from[2..end];
            match self.saved.get(name) {
                Some(value) => filled.push_str(value),
                None => {
                    filled.push_str("unknown-");
                    filled.push_str(name);
                }
            }
            rest = &from[end + 1..];
        }
        filled.push_str(rest);
        filled
    }

    /// The body as it is sent.
    ///
    /// # Errors
    /// It names no kind, or is not written as `case` says.
    pub fn body(&self, written: &Value, samples: &Samples) -> Result<Value> {
        Ok(match written {
            Value::String(text) => self.fill(text).into(),
            Value::Array(items) => items
                .iter()
                .map(|item| self.body(item, samples))
                .collect::<Result<_>>()?,
            Value::Object(fields) => self.object(fields, samples)?,
            other => other.clone(),
        })
    }

    fn object(&self, fields: &Map<String, Value>, samples: &Samples) -> Result<Value> {
        if let Some(repeat) = fields.get("$repeat") {
            let text = repeat[0].as_str().context("$repeat: a text")?;
            let times = usize::try_from(repeat[1].as_u64().context("$repeat: how often")?)?;
            let around = |at: usize| repeat[at].as_str().unwrap_or_default();
            return Ok(format!("{}{}{}", around(2), text.repeat(times), around(3)).into());
        }
        let mut base = Value::Object(Map::new());
        let mut rest = Map::new();
        for (key, value) in fields {
            match (key.as_str(), value.as_str()) {
                ("$sample", Some(kind)) => {
                    let sample = samples
                        .kind(kind)
                        .with_context(|| format!("no sample of {kind}"))?;
                    base = self.body(&sample.object, samples)?;
                }
                ("$kept", Some(name)) => base = self.kept.get(name).cloned().unwrap_or_default(),
                _ => {
                    rest.insert(self.fill(key), self.body(value, samples)?);
                }
            }
        }
        if fields.contains_key("$sample") || fields.contains_key("$kept") {
            merge(&mut base, &Value::Object(rest));
            return Ok(base);
        }
        Ok(Value::Object(rest))
    }
}

/// RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The value at a path of dots and indexes. A dot that belongs to a key is
/// written `~`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |inner, part| match inner {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(&part.replace('~', ".")),
        _ => None,
    })
}
