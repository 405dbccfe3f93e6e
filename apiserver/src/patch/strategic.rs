//! Strategic merge patch: a merge patch whose lists are merged by the keys
//! that the schema gives, with directives for what a merge cannot say.

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Field, MessageId, Type, schema};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// The message behind a field's type, for what lies in it.
fn inner(ty: &Type) -> Option<MessageId> {
    match ty {
        Type::Message(id) => Some(*id),
        Type::List(ty) | Type::Map(ty) => inner(ty),
        _ => None,
    }
}

/// Applies `patch` to `map`, an object of message `id` if that is known.
pub fn apply(
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    id: Option<MessageId>,
) -> Result<(), PatchError> {
    let directive = match patch.get(PATCH) {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => {
            return Err(PatchError::Malformed(format!("unknown patch type {other}")));
        }
    };
    match directive {
        Some("replace") => {
            *map = patch.clone();
            map.remove(PATCH);
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            return Err(PatchError::Malformed(format!(
                "unknown patch type {other:?}"
            )));
        }
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let retained = strings(retained, RETAIN_KEYS)?;
        map.retain(|key, _| retained.contains(&key.as_str()));
    }
    for (key, change) in patch {
        if key == PATCH || key == RETAIN_KEYS {
            continue;
        }
        if let Some(name) = key.strip_prefix(DELETE_FROM) {
            delete_from(map, name, change)?;
        } else if key.starts_with(ORDER) {
            // After the lists are merged, below.
        } else if change.is_null() {
            map.remove(key);
        } else {
            let field = id.and_then(|id| schema().field(id, key));
            let value = map.remove(key);
            map.insert(key.clone(), merged(value, change, field)?);
        }
    }
    for (key, order) in patch {
        if let Some(name) = key.strip_prefix(ORDER) {
            let field = id.and_then(|id| schema().field(id, name));
            let Value::Array(order) = order else {
                return Err(PatchError::Malformed(format!("{key} is no list")));
            };
            if let Some(Value::Array(list)) = map.get_mut(name) {
                arrange(list, order, field.and_then(|field| field.patch_key));
            }
        }
    }
    Ok(())
}

fn merged(
    value: Option<Value>,
    change: &Value,
    field: Option<&Field>,
) -> Result<Value, PatchError> {
    let id = field.and_then(|field| inner(&field.ty));
    match (value, change) {
        (value, Value::Object(patch)) => {
            // A map of the API has no message of its own: its values have.
            let own = field.and_then(|field| match field.ty {
                Type::Message(id) => Some(id),
                _ => None,
            });
            let mut map = match value {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            apply(&mut map, patch, own)?;
            Ok(Value::Object(map))
        }
        (value, Value::Array(patch)) if field.is_some_and(|field| field.patch_merge) => {
            let list = match value {
                Some(Value::Array(list)) => list,
                _ => Vec::new(),
            };
            match field.and_then(|field| field.patch_key) {
                Some(key) => merge_by_key(list, patch, key, id),
                None => Ok(union(list, patch)),
            }
        }
        (_, Value::Array(patch)) => Ok(Value::Array(
            patch
                .iter()
                .filter(|value| !is_directive(value))
                .cloned()
                .collect(),
        )),
        (_, change) => Ok(change.clone()),
    }
}

fn is_directive(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|map| map.len() == 1 && map.contains_key(PATCH))
}

fn union(mut list: Vec<Value>, patch: &[Value]) -> Value {
    for value in patch {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
    Value::Array(list)
}

fn merge_by_key(
    mut list: Vec<Value>,
    patch: &[Value],
    key: &str,
    id: Option<MessageId>,
) -> Result<Value, PatchError> {
    if patch
        .iter()
        .any(|value| is_directive(value) && value[PATCH] == "replace")
    {
        list.clear();
    }
    // Kept as they came: entries without the key cannot be told apart.
    for change in patch.iter().filter(|value| !is_directive(value)) {
        let Value::Object(change) = change else {
            return Err(PatchError::Malformed(format!(
                "an element of a list merged by {key:?} is no object: {change}"
            )));
        };
        let Some(wanted) = change.get(key) else {
            return Err(PatchError::Malformed(format!(
                "map: {} does not contain declared merge key: {key}",
                Value::Object(change.clone())
            )));
        };
        let at = list.iter().position(|value| value.get(key) == Some(wanted));
        let directive = change.get(PATCH).and_then(Value::as_str);
        match (directive, at) {
            (Some("delete"), _) => list.retain(|value| value.get(key) != Some(wanted)),
            (_, Some(at)) => {
                if let Some(Value::Object(map)) = list.get_mut(at) {
                    apply(map, change, id)?;
                }
            }
            (_, None) => {
                let mut new = Map::new();
                apply(&mut new, change, id)?;
                list.push(Value::Object(new));
            }
        }
    }
    Ok(Value::Array(list))
}

fn delete_from(map: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), PatchError> {
    let Value::Array(values) = values else {
        return Err(PatchError::Malformed(format!(
            "{DELETE_FROM}{name} is no list"
        )));
    };
    if let Some(Value::Array(list)) = map.get_mut(name) {
        list.retain(|value| !values.contains(value));
    }
    Ok(())
}

fn strings<'a>(value: &'a Value, of: &str) -> Result<Vec<&'a str>, PatchError> {
    let list = value
        .as_array()
        .map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    list.flatten()
        .ok_or_else(|| PatchError::Malformed(format!("{of} is no list of strings")))
}

/// Orders `list` as `order` says. Elements that the order does not name keep
/// their places relative to those named ones that were there before.
fn arrange(list: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let identity = |value: &Value| match key {
        Some(key) => value.get(key).cloned().unwrap_or(Value::Null),
        None => value.clone(),
    };
    let place = |value: &Value| {
        order
            .iter()
            .position(|one| identity(one) == identity(value))
    };
    let mut named: Vec<(usize, usize, Value)> = Vec::new();
    let mut others: Vec<(usize, Value)> = Vec::new();
    for (was, value) in std::mem::take(list).into_iter().enumerate() {
        match place(&value) {
            Some(place) => named.push((place, was, value)),
            None => others.push((was, value)),
        }
    }
    named.sort_by_key(|(place, ..)| *place);
    let mut others = others.into_iter().peekable();
    for (_, was, value) in named {
        while let Some((_, other)) = others.next_if(|(other, _)| *other < was) {
            list.push(other);
        }
        list.push(value);
    }
    list.extend(others.map(|(_, value)| value));
}
