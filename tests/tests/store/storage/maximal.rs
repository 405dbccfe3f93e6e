//! Objects in which every field of the schema is set.

use mizzen_apiserver::catalog::Resource;
use mizzen_apiserver::schema::{Field, MessageId, Type, schema};
use serde_json::{Map, Value, json};

/// Where the objects are.
pub const NAMESPACE: &str = "maximal";
pub const NAME: &str = "every-field";

/// Deeper than any kind nests without coming back to itself.
const DEPTH: usize = 24;

/// The maximal object of a kind, in the form in which a server shows it.
pub fn object(resource: &Resource) -> Map<String, Value> {
    let mut value = message(resource.message, &mut Vec::new());
    value.insert("kind".to_owned(), resource.kind.clone().into());
    value.insert("apiVersion".to_owned(), resource.api_version().into());
    let meta = value["metadata"].as_object_mut().expect("an object");
    meta.insert("name".to_owned(), NAME.into());
    meta.insert("namespace".to_owned(), NAMESPACE.into());
    // The revision of the store is the version, and nothing is linked.
    meta.remove("resourceVersion");
    meta.remove("selfLink");
    value
}

fn message(id: MessageId, within: &mut Vec<MessageId>) -> Map<String, Value> {
    assert!(within.len() < DEPTH, "too deep: {within:?}");
    within.push(id);
    let mut value = Map::new();
    for (index, field) in schema().message(id).fields.iter().enumerate() {
        let nested = inner(&field.ty);
        // A type within itself ends here.
        if nested.is_some_and(|id| within.contains(&id)) {
            continue;
        }
        match (&field.ty, field.inline) {
            (Type::Message(id), true) => value.extend(message(*id, within)),
            _ => {
                value.insert(field.name.to_owned(), of(&field.ty, field, index, within));
            }
        }
    }
    within.pop();
    value
}

fn inner(ty: &Type) -> Option<MessageId> {
    match ty {
        Type::Message(id) => Some(*id),
        Type::List(ty) | Type::Map(ty) | Type::Wrapped(ty) => inner(ty),
        _ => None,
    }
}

/// A value that differs from those of the fields beside it.
fn of(ty: &Type, field: &Field, index: usize, within: &mut Vec<MessageId>) -> Value {
    let number = index + 1;
    match ty {
        Type::String => format!("{} ü \"{number}\"\n", field.name).into(),
        Type::Bool => true.into(),
        Type::Int32 => (-i32::try_from(number).expect("few fields")).into(),
        Type::Int64 => (9_007_199_254_740_993 + i64::try_from(number).expect("few fields")).into(),
        Type::Double => (0.25 + index as f64).into(),
        Type::Bytes => ["AAEC/w==", "eA==", "eHl6"][index % 3].into(),
        Type::Time => format!("2026-02-{:02}T03:04:05Z", 1 + index % 28).into(),
        Type::MicroTime => format!("2026-02-{:02}T03:04:05.000006Z", 1 + index % 28).into(),
        Type::Quantity => ["1500m", "1Gi", "3e6", "12k"][index % 4].into(),
        Type::IntOrString if index.is_multiple_of(2) => number.into(),
        Type::IntOrString => "50%".into(),
        Type::Raw => json!({"a": {"b": [1, "c", null, true]}}),
        Type::FieldsV1 => json!({"f:a": {".": {}, "f:b": {}}}),
        Type::Message(id) => Value::Object(message(*id, within)),
        Type::List(ty) | Type::Wrapped(ty) => {
            json!([
                of(ty, field, index, within),
                of(ty, field, index + 1, within)
            ])
        }
        Type::Map(ty) => json!({
            "a/key": of(ty, field, index, within), "another": of(ty, field, index + 1, within)
        }),
    }
}
