//! A patched object in the words of upstream's refusals: the order of its keys
//! tells which parts the patch touched. Knows JSON and the schema's fields.

use serde_json::{Map, Value};

use super::Patch;
use crate::schema::{MessageId, Type, schema};

/// The text of a patched object of message `id`.
pub fn shown(patched: &Value, patch: &Patch, id: MessageId) -> String {
    let touched = match patch {
        Patch::Merge(patch) => patch.clone(),
        Patch::Json(operations) => {
            let mut tree = Value::Object(Map::new());
            for path in operations.iter().flat_map(super::json::Operation::paths) {
                touch(&mut tree, path);
            }
            tree
        }
        // It goes through maps, which are sorted.
        Patch::Strategic(_) => return patched.to_string(),
    };
    let mut out = String::new();
    write(patched, Some(&Type::Message(id)), Some(&touched), &mut out);
    out
}

/// Marks the objects on the way to a place as touched.
fn touch(tree: &mut Value, path: &str) {
    let mut at = tree;
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    for step in steps.iter().take(steps.len().saturating_sub(1)) {
        let name = step.replace("~1", "/").replace("~0", "~");
        at = &mut at[name.as_str()];
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
    }
}

/// Writes a value: keys sorted where the patch went, in the order of the type
/// where it did not.
fn write(value: &Value, ty: Option<&Type>, touched: Option<&Value>, out: &mut String) {
    match value {
        Value::Object(map) => {
            let keys = match (ty, touched) {
                (Some(Type::Message(id)), None) => in_order(map, *id),
                _ => map.keys().collect(),
            };
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                let inner = match ty {
                    Some(Type::Message(id)) => schema().field(*id, key).map(|field| &field.ty),
                    Some(Type::Map(inner)) => Some(&**inner),
                    _ => None,
                };
                let below = touched.and_then(|touched| touched.get(key));
                write(
                    &map[key],
                    inner,
                    below.filter(|below| below.is_object()),
                    out,
                );
            }
            out.push('}');
        }
        Value::Array(list) => {
            let inner = match ty {
                Some(Type::List(inner) | Type::Wrapped(inner)) => Some(&**inner),
                _ => None,
            };
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, inner, None, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// The keys of an object in the order of its type's fields, others after them.
fn in_order(map: &Map<String, Value>, id: MessageId) -> Vec<&String> {
    fn names(id: MessageId, found: &mut Vec<&'static str>) {
        for field in &schema().message(id).fields {
            match field.ty {
                Type::Message(inner) if field.inline => names(inner, found),
                _ => found.push(field.name),
            }
        }
    }
    let mut order = Vec::new();
    if schema().message(id).object {
        order.extend(["kind", "apiVersion"]);
    }
    names(id, &mut order);
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort_by_key(|key| {
        let place = order.iter().position(|name| name == key);
        place.unwrap_or(order.len())
    });
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_where_a_patch_went() {
        let id = schema()
            .find("io.k8s.api.core.v1.ConfigMap")
            .expect("a kind");
        let patched = json!({"kind": "Other", "apiVersion": "v1", "metadata": {"uid": "u", "name": "n", "labels": {"b": "c"}}});
        let told = "{\"apiVersion\":\"v1\",\"kind\":\"Other\",\"metadata\":";
        let untouched = "{\"name\":\"n\",\"uid\":\"u\",\"labels\":{\"b\":\"c\"}}}";
        let sorted = "{\"labels\":{\"b\":\"c\"},\"name\":\"n\",\"uid\":\"u\"}}";
        for (patch, expected) in [
            (Patch::Merge(json!({"kind": "Other"})), untouched),
            (
                Patch::Merge(json!({"metadata": {"labels": {"b": "c"}}})),
                sorted,
            ),
            (Patch::Strategic(Map::new()), sorted),
        ] {
            assert_eq!(shown(&patched, &patch, id), format!("{told}{expected}"));
        }
    }
}
