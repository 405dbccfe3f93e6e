//! Whether what is applied is of its type, in the words of upstream's library.
//! Knows types and JSON; knows no writer.

use serde_json::{Map, Value};

use super::{
    set::shown_step,
    shape::{Place, Shape},
};
use crate::schema::{MessageId, Type};

/// What is wrong with an object of message `id`, if anything.
pub fn wrong(id: MessageId, object: &Map<String, Value>) -> Option<String> {
    let mut found = Vec::new();
    entries(Shape::Object(id), object, "", true, &mut found);
    let texts: Vec<String> = found
        .into_iter()
        .map(|(path, why)| {
            if path.is_empty() {
                why
            } else {
                format!("{path}: {why}")
            }
        })
        .collect();
    match &texts[..] {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

type Found = Vec<(String, String)>;

fn entries(
    shape: Shape<'_>,
    object: &Map<String, Value>,
    path: &str,
    root: bool,
    found: &mut Found,
) {
    for (name, value) in object {
        let below = format!("{path}.{name}");
        match shape.named(name) {
            Some(place) => at(place, value, &below, found),
            None if root && matches!(&**name, "kind" | "apiVersion") => {
                scalar(&Type::String, value, &below, found);
            }
            None => {
                found.push((below, "field not declared in schema".to_owned()));
                return;
            }
        }
    }
}

fn at(place: Place<'_>, value: &Value, path: &str, found: &mut Found) {
    let mut wrong = |why: String| found.push((path.to_owned(), why));
    match place.ty() {
        Type::Raw | Type::FieldsV1 => {}
        Type::Message(_) | Type::Map(_) => match value {
            Value::Null => {}
            // An atomic object has the fields of its type, too.
            Value::Object(object) => {
                let shape = match place.ty() {
                    Type::Message(id) => Shape::Object(*id),
                    Type::Map(inner) => Shape::Map(inner),
                    _ => place.shape(),
                };
                entries(shape, object, path, false, found);
            }
            other => wrong(format!("expected map, got &{{{}}}", printed(other))),
        },
        Type::List(inner) | Type::Wrapped(inner) => match value {
            Value::Null => {}
            Value::Array(list) => items(place.shape(), inner, list, path, found),
            other => wrong(format!("expected list, got &{{{}}}", printed(other))),
        },
        ty => scalar(ty, value, path, found),
    }
}

fn items(shape: Shape<'_>, inner: &Type, list: &[Value], path: &str, found: &mut Found) {
    let mut seen: Vec<String> = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let unnamed = match shape {
            Shape::Keyed(..) if item.is_null() => {
                Some("associative list with keys may not have a null element".to_owned())
            }
            Shape::Keyed(..) if !item.is_object() => {
                Some("associative list with keys may not have non-map elements".to_owned())
            }
            Shape::Keyed(keys, _) if shape.item(item).is_err() => Some(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                keys.iter()
                    .map(|key| format!("{key:?}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            )),
            Shape::Set(_) if item.is_object() => {
                Some("associative list without keys has an element that's a map type".to_owned())
            }
            Shape::Set(_) if item.is_array() => {
                Some("not supported: associative list with lists as elements".to_owned())
            }
            Shape::Set(_) if item.is_null() => Some(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            _ => None,
        };
        if let Some(why) = unnamed {
            found.push((path.to_owned(), format!("element {index}: {why}")));
            return;
        }
        let step = match shape.item(item) {
            Ok(Some((_, step))) => step,
            _ => String::new(),
        };
        let shown = if step.is_empty() {
            format!("[{index}]")
        } else {
            shown_step(&step)
        };
        if seen.contains(&step) {
            let why = format!("duplicate entries for key {shown}");
            found.push((path.to_owned(), why));
        } else if !step.is_empty() {
            seen.push(step);
        }
        at(Place::Item(inner), item, &format!("{path}{shown}"), found);
    }
}

fn scalar(ty: &Type, value: &Value, path: &str, found: &mut Found) {
    let why = match (ty, value) {
        (_, Value::Null)
        | (Type::String | Type::Bytes, Value::String(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::Int32 | Type::Int64 | Type::Double, Value::Number(_)) => return,
        (Type::String | Type::Bytes, other) => format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            in_go(other)
        ),
        (Type::Bool, other) => format!("expected boolean, got &{{{}}}", printed(other)),
        (Type::Int32 | Type::Int64 | Type::Double, other) => format!(
            "expected numeric (int or float), got {}",
            match other {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            }
        ),
        (_, Value::Object(_) | Value::Array(_)) => {
            format!("expected any scalar, got &{{{}}}", printed(value))
        }
        _ => return,
    };
    found.push((path.to_owned(), why));
}

/// A value as Go prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(printed).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(map) => {
            let all = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", printed(value)));
            format!("map[{}]", all.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// A value as a Go program would write it.
fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(in_go).collect();
            format!("[]interface {{}}{{{}}}", all.join(", "))
        }
        Value::Object(map) => {
            let all = map
                .iter()
                .map(|(key, value)| format!("{key:?}:{}", in_go(value)));
            let all: Vec<String> = all.collect();
            format!("map[string]interface {{}}{{{}}}", all.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::schema;

    #[test]
    fn upstreams_words_for_what_is_wrong() {
        let deployment = schema()
            .find("io.k8s.api.apps.v1.Deployment")
            .expect("a kind");
        let wrong_of = |value: Value| match value {
            Value::Object(map) => wrong(deployment, &map),
            _ => None,
        };
        let spec = |spec: Value| wrong_of(json!({"kind": "Deployment", "spec": spec}));
        let pod = |pod: Value| spec(json!({"template": {"spec": pod}}));
        assert_eq!(spec(json!({"replicas": 1, "paused": null})), None);
        // A name that is left out is the empty one.
        assert_eq!(pod(json!({"containers": [{"image": "i"}]})), None);
        for (found, wanted) in [
            (
                spec(json!({"replica": 1})),
                ".spec.replica: field not declared in schema",
            ),
            (
                spec(json!({"replicas": "1"})),
                ".spec.replicas: expected numeric (int or float), got string",
            ),
            (spec(json!([])), ".spec: expected map, got &{[]}"),
            (
                pod(json!({"hostname": 1})),
                ".spec.template.spec.hostname: expected string, got &value.valueUnstructured{Value:1}",
            ),
            (
                pod(json!({"containers": [{"name": "c"}, {"name": "c"}]})),
                ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]",
            ),
            (
                wrong_of(json!({"metadata": {"ownerReferences": [7]}})),
                ".metadata.ownerReferences: element 0: associative list with keys may not have non-map elements",
            ),
            (
                pod(json!({"containers": [{"name": "c", "x": 1}]})),
                ".spec.template.spec.containers[name=\"c\"].x: field not declared in schema",
            ),
        ] {
            assert_eq!(found.as_deref(), Some(wanted));
        }
    }
}
