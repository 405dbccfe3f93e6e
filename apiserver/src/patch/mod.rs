//! The three forms of a patch. Knows JSON and, for the strategic form, the
//! schema's keys; knows no object beyond that.

mod json;
mod show;
mod strategic;

pub use show::shown;

use serde_json::{Map, Value};

use crate::{
    codec::{json::UNKNOWN, yaml},
    limits,
    schema::MessageId,
};

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatchError {
    /// The patch itself is wrong.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit this object.
    #[error("the patch does not fit the object")]
    Unfit,
    /// It has too many operations.
    #[error("{0}")]
    TooLong(String),
    /// What upstream tells with Go's error alone.
    #[error("{0}")]
    Plain(String),
}

/// A patch, read.
#[derive(Debug, Clone)]
pub enum Patch {
    Json(Vec<json::Operation>),
    Merge(Value),
    Strategic(Map<String, Value>),
}

impl Patch {
    /// Reads a patch of the given media type; `None` when it is none of a patch.
    pub fn read(media: &str, body: &[u8]) -> Option<Result<Self, PatchError>> {
        const MAP: &str = "map[string]interface {}";
        Some(match media {
            "application/json-patch+json" => json::read(body).map(Self::Json),
            "application/merge-patch+json" => value(body).and_then(|value| match value {
                Value::Object(_) => Ok(Self::Merge(value)),
                other => Err(not_a(&other, MAP)),
            }),
            "application/strategic-merge-patch+json" => value(body).and_then(|value| match value {
                Value::Object(map) => Ok(Self::Strategic(map)),
                other => Err(not_a(&other, MAP)),
            }),
            _ => return None,
        })
    }

    /// Applies the patch to an object of message `id`.
    pub fn apply(&self, to: Map<String, Value>, id: MessageId) -> Result<Value, PatchError> {
        match self {
            Self::Json(operations) => json::apply(operations, Value::Object(to)),
            Self::Merge(patch) => {
                let mut value = Value::Object(to);
                merge(&mut value, patch);
                Ok(value)
            }
            Self::Strategic(patch) => {
                let mut map = to;
                strategic::apply(&mut map, patch, Some(id))?;
                Ok(Value::Object(map))
            }
        }
    }
}

/// Reads JSON that may not carry the key under which this program hides what
/// it does not know.
fn value(body: &[u8]) -> Result<Value, PatchError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|_| PatchError::Malformed("invalid JSON patch".to_owned()))?;
    if hides(&value, 0) {
        return Err(too_deep());
    }
    Ok(value)
}

/// What a server-side apply applies: an object in YAML, or JSON, which is YAML.
/// And what a strict reader would say of keys that stand twice.
///
/// # Errors
/// It is no text of an object.
pub fn configuration(body: &[u8]) -> Result<(Map<String, Value>, Option<String>), PatchError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())
        .and_then(|text| yaml::read(text).map_err(|error| error.to_string()));
    let (value, twice) =
        text.map_err(|why| PatchError::Malformed(format!("error encoding patch: {why}")))?;
    if hides(&value, 0) {
        return Err(too_deep());
    }
    match value {
        Value::Object(map) => Ok((map, twice)),
        Value::Null => Ok((Map::new(), twice)),
        other => Err(PatchError::Malformed(format!(
            "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            type_of(&other)
        ))),
    }
}

fn too_deep() -> PatchError {
    PatchError::Malformed("a field name with a zero byte, or too deep a nesting".to_owned())
}

/// A patch that is JSON of another type than Go wants.
fn not_a(value: &Value, wanted: &str) -> PatchError {
    let found = type_of(value);
    PatchError::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
    ))
}

/// Go's word for the type of a JSON value.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as Go prints its own, for upstream's texts.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let all: Vec<_> = list.iter().map(go_text).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(map) => {
            let mut all: Vec<_> = map.iter().collect();
            all.sort_by_key(|(key, _)| *key);
            let all = all
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)));
            format!("map[{}]", all.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

fn hides(value: &Value, depth: usize) -> bool {
    depth > limits::DEPTH_MAX
        || match value {
            Value::Object(map) => map
                .iter()
                .any(|(key, value)| key == UNKNOWN || hides(value, depth + 1)),
            Value::Array(list) => list.iter().any(|value| hides(value, depth + 1)),
            _ => false,
        }
}

/// RFC 7396.
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Value::Object(map) = value {
        for (key, change) in patch {
            if change.is_null() {
                map.remove(key);
            } else {
                merge(map.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }
}

#[cfg(test)]
mod tests;
