//! RFC 6902.

use serde::Deserialize;
use serde_json::Value;

use super::PatchError;
use crate::limits;

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    Add {
        path: String,
        #[serde(default)]
        value: Value,
    },
    Remove {
        path: String,
    },
    Replace {
        path: String,
        #[serde(default)]
        value: Value,
    },
    Move {
        from: String,
        path: String,
    },
    Copy {
        from: String,
        path: String,
    },
    Test {
        path: String,
        #[serde(default)]
        value: Value,
    },
}

impl Operation {
    /// The places that it is about.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let (from, path) = match self {
            Self::Move { from, path } | Self::Copy { from, path } => (Some(from), path),
            Self::Add { path, .. }
            | Self::Remove { path }
            | Self::Replace { path, .. }
            | Self::Test { path, .. } => (None, path),
        };
        from.into_iter().chain([path]).map(String::as_str)
    }
}

pub fn read(body: &[u8]) -> Result<Vec<Operation>, PatchError> {
    let value = super::value(body)?;
    let Value::Array(list) = value else {
        return Err(super::not_a(&value, "[]handlers.jsonPatchOp"));
    };
    if list.len() > limits::PATCH_OPERATIONS_MAX {
        return Err(PatchError::TooLong(format!(
            "The allowed maximum operations in a JSON patch is {}, got {}",
            limits::PATCH_OPERATIONS_MAX,
            list.len()
        )));
    }
    // What is no operation does not apply to any object.
    let operations = list.into_iter().map(serde_json::from_value);
    operations
        .collect::<Result<_, _>>()
        .map_err(|_| PatchError::Unfit)
}

pub fn apply(operations: &[Operation], mut value: Value) -> Result<Value, PatchError> {
    // What copies may add up to: a patch must not multiply an object.
    let mut budget = limits::BODY_BYTES_MAX;
    for operation in operations {
        match operation {
            Operation::Add { path, value: new } => add(&mut value, path, new.clone())?,
            Operation::Remove { path } => {
                remove(&mut value, path)?;
            }
            Operation::Replace { path, value: new } => *find_mut(&mut value, path)? = new.clone(),
            Operation::Move { from, path } => {
                if path.starts_with(&format!("{from}/")) {
                    return Err(PatchError::Unfit);
                }
                let moved = remove(&mut value, from)?;
                add(&mut value, path, moved)?;
            }
            Operation::Copy { from, path } => {
                let copied = find(&value, from)?.clone();
                budget = budget
                    .checked_sub(copied.to_string().len())
                    .ok_or(PatchError::Unfit)?;
                add(&mut value, path, copied)?;
            }
            Operation::Test {
                path,
                value: expected,
            } => {
                if find(&value, path)? != expected {
                    return Err(PatchError::Unfit);
                }
            }
        }
    }
    Ok(value)
}

/// The path's steps, unescaped.
fn steps(path: &str) -> Result<Vec<String>, PatchError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let rest = path.strip_prefix('/').ok_or(PatchError::Unfit)?;
    Ok(rest
        .split('/')
        .map(|step| step.replace("~1", "/").replace("~0", "~"))
        .collect())
}

fn index(step: &str, length: usize) -> Option<usize> {
    if step.len() > 1 && step.starts_with('0') || !step.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    step.parse().ok().filter(|index| *index < length)
}

fn child<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(step),
        Value::Array(list) => index(step, list.len()).and_then(|index| list.get_mut(index)),
        _ => None,
    }
}

fn find<'a>(value: &'a Value, path: &str) -> Result<&'a Value, PatchError> {
    steps(path)?
        .iter()
        .try_fold(value, |value, step| match value {
            Value::Object(map) => map.get(step),
            Value::Array(list) => index(step, list.len()).and_then(|index| list.get(index)),
            _ => None,
        })
        .ok_or(PatchError::Unfit)
}

fn find_mut<'a>(value: &'a mut Value, path: &str) -> Result<&'a mut Value, PatchError> {
    steps(path)?
        .iter()
        .try_fold(value, |value, step| child(value, step))
        .ok_or(PatchError::Unfit)
}

fn parent<'a>(value: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), PatchError> {
    let mut steps = steps(path)?;
    let last = steps.pop().ok_or(PatchError::Unfit)?;
    let parent = steps
        .iter()
        .try_fold(value, |value, step| child(value, step));
    Ok((parent.ok_or(PatchError::Unfit)?, last))
}

fn add(value: &mut Value, path: &str, new: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *value = new;
        return Ok(());
    }
    match parent(value, path)? {
        (Value::Object(map), key) => {
            map.insert(key, new);
            Ok(())
        }
        (Value::Array(list), step) => {
            let at = if step == "-" {
                Some(list.len())
            } else {
                index(&step, list.len() + 1)
            };
            list.insert(at.ok_or(PatchError::Unfit)?, new);
            Ok(())
        }
        _ => Err(PatchError::Unfit),
    }
}

fn remove(value: &mut Value, path: &str) -> Result<Value, PatchError> {
    match parent(value, path)? {
        (Value::Object(map), key) => map.remove(&key).ok_or(PatchError::Unfit),
        (Value::Array(list), step) => {
            let at = index(&step, list.len()).ok_or(PatchError::Unfit)?;
            Ok(list.remove(at))
        }
        _ => Err(PatchError::Unfit),
    }
}
