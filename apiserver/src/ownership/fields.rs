//! The fields that an object has, and objects without some of their fields, by
//! the rules of their types. Knows types and JSON; knows no writer.

use serde_json::{Map, Value};

use super::{
    set::Set,
    shape::{NoKey, Place, Shape},
};
use crate::schema::MessageId;

/// Every field and item that an object of message `id` speaks of.
///
/// # Errors
/// An item of a list has no name.
pub fn fields_of(id: MessageId, object: &Map<String, Value>) -> Result<Set, NoKey> {
    entries(Shape::Object(id), object)
}

fn entries(shape: Shape<'_>, object: &Map<String, Value>) -> Result<Set, NoKey> {
    let mut set = Set::default();
    let declared = matches!(shape, Shape::Object(_));
    for (name, value) in object {
        let Some(place) = shape.named(name) else {
            continue;
        };
        let mut below = at(place, value)?;
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        below.own |= empty || !declared;
        set.put(&format!("f:{name}"), below);
    }
    Ok(set)
}

fn at(place: Place<'_>, value: &Value) -> Result<Set, NoKey> {
    let shape = place.shape();
    match (shape, value) {
        (Shape::Leaf, _) => Ok(Set::own()),
        (Shape::Object(_) | Shape::Map(_), Value::Object(object)) => entries(shape, object),
        (Shape::Keyed(..) | Shape::Set(_), Value::Array(list)) => {
            let mut set = Set::default();
            let mut seen: Vec<String> = Vec::with_capacity(list.len());
            for item in list {
                let Some((place, step)) = shape.item(item)? else {
                    continue;
                };
                // Those that stand twice are one thing.
                let mut below = if seen.contains(&step) {
                    Set::default()
                } else {
                    at(place, item)?
                };
                below.own = true;
                set.replace(&step, below);
                seen.push(step);
            }
            Ok(set)
        }
        _ => Ok(Set::default()),
    }
}

/// The set with the fields of types above what it has: who owns a part of a
/// field speaks of the field.
pub fn with_named(set: &Set, id: MessageId) -> Set {
    named(set, Shape::Object(id))
}

fn named(set: &Set, shape: Shape<'_>) -> Set {
    let mut all = if set.own { Set::own() } else { Set::default() };
    for (step, below) in set.steps() {
        let field = step.strip_prefix("f:");
        let place = match (field, shape) {
            (Some(name), _) => shape.named(name),
            (None, Shape::Keyed(_, inner) | Shape::Set(inner)) => Some(Place::Item(inner)),
            (None, _) => None,
        };
        let Some(place) = place else {
            all.put(step, below.clone());
            continue;
        };
        let mut inner = named(below, place.shape());
        inner.own |= field.is_some() && matches!(shape, Shape::Object(_)) && below.has_below();
        all.put(step, inner);
    }
    all
}

/// An object of message `id` without the fields and items of a set.
pub fn without(object: &Map<String, Value>, gone: &Set, id: MessageId) -> Map<String, Value> {
    match less(&Value::Object(object.clone()), gone, Shape::Object(id)) {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// What is left of a value; nothing is null.
fn less(value: &Value, gone: &Set, shape: Shape<'_>) -> Value {
    match (shape, value) {
        (Shape::Object(_) | Shape::Map(_), Value::Object(object)) => {
            let mut kept = Map::new();
            for (name, value) in object {
                let left = match (gone.below(&format!("f:{name}")), shape.named(name)) {
                    (Some(gone), _) if gone.own => continue,
                    (Some(gone), Some(place)) => less(value, gone, place.shape()),
                    _ => value.clone(),
                };
                kept.insert(name.clone(), left);
            }
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
        (Shape::Keyed(..) | Shape::Set(_), Value::Array(list)) => {
            let mut kept = Vec::new();
            for item in list {
                let found = shape.item(item).ok().flatten();
                let found = found.and_then(|(place, step)| Some((place, gone.below(&step)?)));
                kept.push(match found {
                    Some((_, gone)) if gone.own => continue,
                    Some((place, gone)) => less(item, gone, place.shape()),
                    None => item.clone(),
                });
            }
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        (_, Value::Object(_) | Value::Array(_)) => Value::Null,
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::schema;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("an object: {other}"),
        }
    }

    #[test]
    fn an_object_has_fields_and_items() {
        let pod = schema().find("io.k8s.api.core.v1.Pod").expect("a kind");
        let given = map(json!({
            "metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/f"], "annotations": {}},
            "spec": {"containers": [{"name": "c", "args": ["x"], "ports": [{"containerPort": 80}]}],
                "nodeSelector": {"x": "y"}, "volumes": []},
        }));
        let fields = fields_of(pod, &given).expect("every item has its name");
        let container = json!({".": {}, "f:args": {}, "f:name": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}});
        let wanted = json!({
            "f:metadata": {"f:annotations": {}, "f:finalizers": {"v:\"example.com/f\"": {}}, "f:labels": {"f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": container}, "f:nodeSelector": {}},
        });
        assert_eq!(fields.written(), wanted);
        let named = with_named(&fields, pod);
        assert_eq!(named.written()["f:spec"]["f:containers"]["."], json!({}));
        assert!(named.written()["f:metadata"]["f:labels"].get(".").is_some());

        let gone = Set::read(&json!({"f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:args": {}}}}}))
        .expect("a set");
        let left = without(&given, &gone, pod);
        assert_eq!(left["metadata"]["labels"], Value::Null);
        let container = json!([{"name": "c", "ports": [{"containerPort": 80}]}]);
        assert_eq!(left["spec"]["containers"], container);
    }
}
