//! An object with what is applied to it, by the rules of its type: nothing goes,
//! and what both say is as it is applied. Knows types and JSON; knows no writer.
//!
//! A merged list is ordered as what is applied, and what that does not name
//! stands between as it stood.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::shape::{NoKey, Place, Shape};
use crate::schema::MessageId;

/// An object of message `id` with what is applied to it.
///
/// # Errors
/// An item of a list has no name.
pub fn merge(
    id: MessageId,
    live: &Map<String, Value>,
    applied: &Map<String, Value>,
) -> Result<Map<String, Value>, NoKey> {
    entries(Shape::Object(id), Some(live), Some(applied))
}

fn entries(
    shape: Shape<'_>,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>, NoKey> {
    let mut all = Map::new();
    let names = live.into_iter().chain(applied).flat_map(Map::keys);
    for name in names.collect::<BTreeSet<_>>() {
        let at = |map: Option<&'_ Map<String, Value>>| map.and_then(|map| map.get(name)).cloned();
        let (before, after) = (at(live), at(applied));
        let merged = match shape.named(name) {
            Some(place) => value(place, before.as_ref(), after.as_ref())?,
            // Kind and version.
            None => after.or(before),
        };
        if let Some(merged) = merged {
            all.insert(name.clone(), merged);
        }
    }
    Ok(all)
}

fn value(
    place: Place<'_>,
    live: Option<&Value>,
    applied: Option<&Value>,
) -> Result<Option<Value>, NoKey> {
    let shape = place.shape();
    let object = |value| {
        let map = Option::and_then(value, Value::as_object);
        map.filter(|map| !map.is_empty())
    };
    let list = |value| {
        let list = Option::and_then(value, Value::as_array);
        list.map_or(&[][..], Vec::as_slice)
    };
    match shape {
        Shape::Object(_) | Shape::Map(_) => {
            let (before, after) = (object(live), object(applied));
            if before.is_some() || after.is_some() {
                let all = entries(shape, before, after)?;
                return Ok((!all.is_empty()).then_some(Value::Object(all)));
            }
        }
        Shape::Keyed(..) | Shape::Set(_) => {
            let (before, after) = (list(live), list(applied));
            if !before.is_empty() || !after.is_empty() {
                let all = items(shape, before, after)?;
                return Ok((!all.is_empty()).then_some(Value::Array(all)));
            }
        }
        Shape::Leaf => {}
    }
    Ok(applied.or(live).cloned())
}

/// The items of a list with their steps.
struct Items<'a> {
    steps: Vec<String>,
    /// `None` where several have one step.
    by_step: BTreeMap<String, Option<&'a Value>>,
}

impl<'a> Items<'a> {
    fn of(shape: Shape<'_>, list: &'a [Value]) -> Result<Self, NoKey> {
        let (mut steps, mut by_step) = (Vec::new(), BTreeMap::new());
        for item in list {
            let (_, step) = shape.item(item)?.ok_or(NoKey)?;
            let first = !by_step.contains_key(&step);
            by_step.insert(step.clone(), first.then_some(item));
            steps.push(step);
        }
        Ok(Self { steps, by_step })
    }

    fn get(&self, step: &str) -> Option<&'a Value> {
        self.by_step.get(step).copied().flatten()
    }
}

fn items(shape: Shape<'_>, live: &[Value], applied: &[Value]) -> Result<Vec<Value>, NoKey> {
    let (left, right) = (Items::of(shape, live)?, Items::of(shape, applied)?);
    let (Shape::Keyed(_, inner) | Shape::Set(inner)) = shape else {
        return Ok(applied.to_vec());
    };
    let place = Place::Item(inner);
    let mut shared = right
        .steps
        .iter()
        .filter(|step| left.by_step.contains_key(*step));
    let mut next = shared.next();
    let mut merged: BTreeSet<&String> = BTreeSet::new();
    let mut all = Vec::new();
    let (mut l, mut r) = (0, 0);
    loop {
        let (mine, theirs) = (left.steps.get(l), right.steps.get(r));
        if mine.is_none() && theirs.is_none() {
            return Ok(all);
        }
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            if mine == theirs {
                merged.insert(mine);
                all.extend(value(place, left.get(mine), right.get(mine))?);
                (l, r, next) = (l + 1, r + 1, shared.next());
                continue;
            }
            // Both have it, and another comes first.
            if right.by_step.contains_key(mine) && next.is_some_and(|next| next != mine) {
                l += 1;
                continue;
            }
        }
        if let Some(mine) = mine {
            if !right.by_step.contains_key(mine) {
                all.push(live[l].clone());
                l += 1;
                continue;
            }
            l += usize::from(merged.contains(mine));
        }
        if let Some(theirs) = theirs {
            merged.insert(theirs);
            all.extend(value(place, left.get(theirs), right.get(theirs))?);
            r += 1;
            if next == Some(theirs) {
                next = shared.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::schema;

    /// Merges lists of finalizers.
    fn merged(live: &[&str], applied: &[&str]) -> Vec<String> {
        let id = schema()
            .find("io.k8s.api.core.v1.ConfigMap")
            .expect("a kind");
        let object = |list: &[&str]| match json!({"metadata": {"finalizers": list}}) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let all = merge(id, &object(live), &object(applied)).expect("they have names");
        let list = all["metadata"]["finalizers"].as_array().cloned();
        let texts = list.unwrap_or_default().into_iter();
        texts
            .map(|one| one.as_str().unwrap_or("?").to_owned())
            .collect()
    }

    #[test]
    fn lists_are_ordered_as_they_are_applied() {
        assert_eq!(merged(&["a", "b"], &["c"]), ["a", "b", "c"]);
        assert_eq!(merged(&["a", "b", "c"], &["c", "a"]), ["b", "c", "a"]);
        assert_eq!(
            merged(&["a", "x", "b"], &["a", "n", "b"]),
            ["a", "x", "n", "b"]
        );
        assert_eq!(merged(&[], &["b", "a"]), ["b", "a"]);
        assert_eq!(merged(&["a", "b"], &[]), ["a", "b"]);
    }

    #[test]
    fn nothing_goes_and_what_is_applied_counts() {
        let id = schema().find("io.k8s.api.core.v1.Pod").expect("a kind");
        let object = |value: Value| match value {
            Value::Object(map) => map,
            other => panic!("an object: {other}"),
        };
        let live = object(
            json!({"spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i",
            "args": ["x"], "ports": [{"containerPort": 80, "protocol": "TCP", "name": "p"}]}]}}),
        );
        let applied = object(json!({"spec": {"containers": [{"name": "d"}, {"name": "c",
            "args": ["y"], "ports": [{"containerPort": 80, "name": "q"}]}]}}));
        let all = merge(id, &live, &applied).expect("they have names");
        let wanted = json!({"nodeName": "n", "containers": [{"name": "d"}, {"name": "c", "image": "i",
            "args": ["y"], "ports": [{"containerPort": 80, "protocol": "TCP", "name": "q"}]}]});
        assert_eq!(all["spec"], wanted);
    }
}
