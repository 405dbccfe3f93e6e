//! Fields of features that are off. Knows paths and JSON; knows no kind.

use serde_json::{Map, Value};

use crate::{kind::Gated, object::Json};

/// Takes fields out of an object, but for those that the present one has.
pub fn drop(gated: &[Gated], wanted: &mut Json, current: Option<&Json>) {
    for one in gated {
        for field in one.fields {
            let path: Vec<&str> = one.below.iter().chain(*field).copied().collect();
            if !current.is_some_and(|current| has(current, &path)) {
                remove(wanted, &path);
            }
        }
    }
}

/// A step without its marks, and whether it stands for the items of a list.
fn step(step: &str) -> (&str, bool) {
    let name = step.strip_suffix('?').unwrap_or(step);
    (
        name.strip_suffix("[]").unwrap_or(name),
        name.ends_with("[]"),
    )
}

fn has(value: &Map<String, Value>, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return true;
    };
    let (name, items) = step(first);
    match value.get(name) {
        Some(Value::Array(list)) if items => {
            let objects = list.iter().filter_map(Value::as_object);
            objects.into_iter().any(|one| has(one, rest))
        }
        Some(Value::Object(inner)) if !rest.is_empty() => has(inner, rest),
        Some(value) => rest.is_empty() && !value.is_null(),
        None => false,
    }
}

fn remove(value: &mut Map<String, Value>, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let (name, _) = step(first);
    if rest.is_empty() {
        value.remove(name);
        return;
    }
    let mut empty = false;
    match value.get_mut(name) {
        Some(Value::Array(list)) => {
            for one in list.iter_mut().filter_map(Value::as_object_mut) {
                remove(one, rest);
            }
        }
        Some(Value::Object(inner)) => {
            let before = inner.len();
            remove(inner, rest);
            empty = inner.is_empty() && before > 0 && first.ends_with('?');
        }
        _ => {}
    }
    if empty {
        value.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Json {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn fields_go_unless_they_are_there() {
        const GATED: &[Gated] = &[Gated {
            below: &["spec"],
            fields: &[&["new"], &["list[]", "inner?", "field"]],
        }];
        let given = json!({"spec": {"new": 1, "old": 2, "list": [{"inner": {"field": 1}}, {"inner": {"field": 1, "b": 2}}]}});
        let mut dropped = object(&given);
        drop(GATED, &mut dropped, None);
        assert_eq!(
            Value::Object(dropped),
            json!({"spec": {"old": 2, "list": [{}, {"inner": {"b": 2}}]}})
        );
        let mut kept = object(&given);
        drop(GATED, &mut kept, Some(&object(&given)));
        assert_eq!(Value::Object(kept), given);
    }
}
