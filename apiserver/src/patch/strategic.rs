//! Strategic merge patch: a merge patch whose lists are merged by the keys
//! that the schema gives, with directives for what a merge cannot say.
//!
//! The order of a merged list: what the patch (or its `$setElementOrder`) names
//! stands as it says, the rest as it stood, and between the two what stood
//! before another still does; what is new comes first. Source: upstream's
//! `apimachinery/pkg/util/strategicpatch`.

use serde_json::{Map, Value};

use super::{PatchError, go_text};
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

fn malformed(what: &str) -> PatchError {
    PatchError::Malformed(format!("invalid patch format of {what}"))
}

fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> PatchError {
    PatchError::Plain(format!(
        "unknown patch type: {} in map: {}",
        go_text(directive),
        go_text(&Value::Object(patch.clone()))
    ))
}

/// Applies `patch` to `map`, an object of message `id` if that is known.
pub fn apply(
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    id: Option<MessageId>,
) -> Result<(), PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(word)) if word == "replace" => {
            *map = patch.clone();
            map.remove(PATCH);
            return Ok(());
        }
        Some(Value::String(word)) if word == "delete" => {
            map.clear();
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        retain(map, patch, retained)?;
    }
    let field = |name: &str| id.and_then(|id| schema().field(id, name));
    let mut ordered = Vec::new();
    for (key, order) in patch {
        if let Some(name) = key.strip_prefix(ORDER) {
            ordered.push(name);
            arranged(map, patch.get(name), order, name, field(name))?;
        }
    }
    for (key, change) in patch {
        if key == RETAIN_KEYS || key.starts_with(ORDER) || ordered.contains(&key.as_str()) {
            continue;
        }
        if let Some(name) = key.strip_prefix(DELETE_FROM) {
            delete_from(map, name, change)?;
        } else if change.is_null() {
            map.remove(key);
        } else {
            put(map, key, change, field(key))?;
        }
    }
    Ok(())
}

/// Takes out what the patch does not retain; it may set nothing else.
fn retain(
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    retained: &Value,
) -> Result<(), PatchError> {
    let wrong = || malformed("retainKeys");
    let retained: Vec<&str> = retained
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|one| one.as_str().ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let names = patch.iter().filter(|(key, value)| {
        !value.is_null()
            && *key != RETAIN_KEYS
            && !key.starts_with(DELETE_FROM)
            && !key.starts_with(ORDER)
    });
    for (key, _) in names {
        if !retained.contains(&key.as_str()) {
            return Err(wrong());
        }
    }
    map.retain(|key, _| retained.contains(&key.as_str()));
    Ok(())
}

/// Puts one change into its place.
fn put(
    map: &mut Map<String, Value>,
    key: &str,
    change: &Value,
    field: Option<&Field>,
) -> Result<(), PatchError> {
    let new = match (map.remove(key), change) {
        (Some(Value::Object(mut old)), Value::Object(patch)) => {
            // A map of the API has no message of its own: its values have.
            let own = field.and_then(|field| match field.ty {
                Type::Message(id) => Some(id),
                _ => None,
            });
            apply(&mut old, patch, own)?;
            Some(Value::Object(old))
        }
        (Some(Value::Array(old)), Value::Array(patch)) => {
            Some(Value::Array(list(old, patch, field)?))
        }
        (_, change) => {
            let mut change = change.clone();
            without_nulls(&mut change);
            without_directives(change)
        }
    };
    if let Some(new) = new {
        map.insert(key.to_owned(), new);
    }
    Ok(())
}

/// A list with a patch of it: merged where the schema says so.
fn list(old: Vec<Value>, patch: &[Value], field: Option<&Field>) -> Result<Vec<Value>, PatchError> {
    let Some(field) = field.filter(|field| field.patch_merge) else {
        return Ok(patch.to_vec());
    };
    let Some(key) = field.patch_key else {
        let mut all = old.clone();
        for value in patch {
            if !all.contains(value) {
                all.push(value.clone());
            }
        }
        return Ok(arrange(all, patch, &old, None));
    };
    let (mut kept, mut changes) = (old, Vec::new());
    let mut replaced = false;
    for change in patch {
        let Value::Object(change) = change else {
            return Err(PatchError::Plain(format!(
                "cannot merge lists of different types: {}",
                go_text(&Value::from(patch))
            )));
        };
        match change.get(PATCH) {
            None => changes.push(change),
            Some(Value::String(word)) if word == "delete" => {
                let gone = change.get(key).ok_or_else(|| no_key(change, key))?;
                kept.retain(|value| value.get(key) != Some(gone));
            }
            Some(Value::String(word)) if word == "replace" => replaced = true,
            Some(Value::String(word)) if word == "merge" => {
                let why = "merging lists cannot yet be specified in the patch";
                return Err(PatchError::Plain(why.to_owned()));
            }
            Some(other) => return Err(unknown_directive(other, change)),
        }
    }
    if replaced {
        return Ok(changes.into_iter().cloned().map(Value::Object).collect());
    }
    let before = kept.clone();
    for change in &changes {
        let wanted = change.get(key).ok_or_else(|| no_key(change, key))?;
        let same = kept.iter_mut().find(|value| value.get(key) == Some(wanted));
        match same {
            Some(Value::Object(map)) => apply(map, change, inner(&field.ty))?,
            _ => kept.push(Value::Object((*change).clone())),
        }
    }
    let order: Vec<Value> = changes.into_iter().cloned().map(Value::Object).collect();
    Ok(arrange(kept, &order, &before, Some(key)))
}

fn no_key(map: &Map<String, Value>, key: &str) -> PatchError {
    let shown = go_text(&Value::Object(map.clone()));
    PatchError::Plain(format!(
        "map: {shown} does not contain declared merge key: {key}"
    ))
}

/// Merges a list and orders it as its `$setElementOrder` says.
fn arranged(
    map: &mut Map<String, Value>,
    patch: Option<&Value>,
    order: &Value,
    name: &str,
    field: Option<&Field>,
) -> Result<(), PatchError> {
    let wrong = || malformed("setElementOrder list");
    let order = order.as_array().ok_or_else(wrong)?;
    let patch = match patch {
        None => None,
        Some(patch) => Some(patch.as_array().ok_or_else(wrong)?),
    };
    let key = field.and_then(|field| field.patch_key);
    if let Some(patch) = patch {
        same_order(patch, order, key)?;
    }
    let old = match map.remove(name) {
        None => None,
        Some(Value::Array(old)) => Some(old),
        Some(_) => return Err(wrong()),
    };
    let before = old.clone().unwrap_or_default();
    let all = match (old, patch) {
        (None, None) => return Ok(()),
        (Some(old), None) => old,
        (None, Some(patch)) => patch
            .iter()
            .cloned()
            .filter_map(without_directives)
            .collect(),
        (Some(old), Some(patch)) => list(old, patch, field)?,
    };
    let all = arrange(all, order, &before, key);
    map.insert(name.to_owned(), all.into());
    Ok(())
}

/// What tells the elements of a list apart.
fn identity<'a>(value: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    key.map_or(Some(value), |key| value.get(key))
}

/// Whether the elements of a patch stand in the order that it gives.
fn same_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for value in patch.iter().filter(|value| value.get(PATCH).is_none()) {
        let wanted = identity(value, key);
        if !rest.any(|one| identity(one, key) == wanted) {
            return Err(PatchError::Plain(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go_text(&patch.into()),
                go_text(&order.into())
            )));
        }
    }
    Ok(())
}

/// Orders `all`: what `order` names as it says, the rest as in `before`.
fn arrange(all: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], value: &Value| {
        let wanted = identity(value, key);
        list.iter().position(|one| identity(one, key) == wanted)
    };
    let (mut named, mut others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|value| place(order, value).is_some());
    named.sort_by_key(|value| place(order, value));
    others.sort_by_key(|value| place(before, value));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let first = match (place(before, left), place(before, right)) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        arranged.extend(if first { others.next() } else { named.next() });
    }
    arranged.extend(named);
    arranged.extend(others);
    arranged
}

/// What a patch says of something that is not there; nothing when it only
/// directs.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter();
            let kept = kept.filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(list) => Some(list.into_iter().filter_map(without_directives).collect()),
        other => Some(other),
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn delete_from(map: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), PatchError> {
    let Value::Array(values) = values else {
        return Err(malformed("primitive list"));
    };
    if let Some(Value::Array(list)) = map.get_mut(name) {
        list.retain(|value| !values.contains(value));
    }
    Ok(())
}
