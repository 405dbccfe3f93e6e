//! The same as one document of OpenAPI v2, for clients from before v3, made of
//! the documents of v3: as JSON, and in the protobuf form that kubectl asks for
//! (gnostic's `openapi.v2.Document`).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Documents, hash};
use crate::{
    codec::proto::{nested, put_len, put_varint_field},
    discovery,
};

/// The media type by which clients ask for protobuf, without its `@v1.0` or
/// `.v1.0`.
const ASKED: &str = "application/com.github.proto-openapi.spec.v2";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const GVK: &str = "x-kubernetes-group-version-kind";
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// The document in the form that an `Accept` asks for.
pub struct Form {
    pub content: &'static str,
    pub bytes: Bytes,
    /// Of the content, in upper-case hexadecimal.
    pub hash: String,
}

/// The document in JSON and in protobuf.
pub(super) fn forms(documents: &Documents) -> [Form; 2] {
    let value = whole(documents);
    let form = |content, bytes: Vec<u8>| Form {
        content,
        hash: hash(&bytes),
        bytes: bytes.into(),
    };
    [
        form("application/json", value.to_string().into_bytes()),
        form(PROTOBUF, protobuf(&value)),
    ]
}

/// The index in [`forms`] of what a client takes.
pub(super) fn asked(accept: &str) -> usize {
    usize::from(accept.contains(ASKED))
}

fn whole(documents: &Documents) -> Value {
    let (mut definitions, mut paths) = (Map::new(), Map::new());
    for document in documents.v3.values() {
        let Ok(mut value) = serde_json::from_slice::<Value>(&document.json) else {
            continue;
        };
        let schemas = value["components"]["schemas"].take();
        for (name, schema) in schemas.as_object().into_iter().flatten() {
            add(&mut definitions, name, converted(schema));
        }
        for (path, item) in value["paths"].as_object().into_iter().flatten() {
            paths.insert(path.clone(), path_item(item));
        }
    }
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": discovery::GIT_VERSION},
        "paths": paths, "definitions": definitions,
    })
}

/// Adds a definition; what several groups define alike gets the kinds of all.
fn add(definitions: &mut Map<String, Value>, name: &str, mut schema: Value) {
    let Some(present) = definitions.get_mut(name) else {
        definitions.insert(name.to_owned(), schema);
        return;
    };
    if let (Some(Value::Array(kinds)), Value::Array(new)) =
        (present.get_mut(GVK), schema[GVK].take())
    {
        kinds.extend(new);
    }
}

/// A schema of v3 in the words of v2.
fn converted(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut into = Map::new();
            for (name, value) in map {
                match name.as_str() {
                    "allOf" => {
                        let name = value[0]["$ref"].as_str().unwrap_or("");
                        let name = name.replace("/components/schemas/", "/definitions/");
                        into.insert("$ref".to_owned(), name.into());
                    }
                    // Either of a text and a number: v2 knows one type alone.
                    "oneOf" => {
                        into.insert("type".to_owned(), "string".into());
                    }
                    _ => {
                        into.insert(name.clone(), converted(value));
                    }
                }
            }
            into.into()
        }
        Value::Array(list) => list.iter().map(converted).collect(),
        other => other.clone(),
    }
}

fn parameters(list: &Value) -> Value {
    let flat = |parameter: &Value| {
        let mut flat = parameter.as_object().cloned().unwrap_or_default();
        if let Some(Value::Object(schema)) = flat.remove("schema") {
            flat.extend(schema);
        }
        Value::from(flat)
    };
    list.as_array().into_iter().flatten().map(flat).collect()
}

fn path_item(item: &Value) -> Value {
    let mut into = Map::new();
    for (name, value) in item.as_object().into_iter().flatten() {
        let value = if name == "parameters" {
            parameters(value)
        } else {
            operation(value)
        };
        into.insert(name.clone(), value);
    }
    into.into()
}

fn operation(v3: &Value) -> Value {
    let answer = v3.pointer("/responses/200/content/application~1json/schema/$ref");
    let answer = answer.and_then(Value::as_str).unwrap_or("");
    let answer = answer.replace("/components/schemas/", "/definitions/");
    json!({
        "operationId": v3["operationId"], "produces": ["application/json"],
        "parameters": parameters(&v3["parameters"]),
        "responses": {"200": {"description": "OK", "schema": {"$ref": answer}}},
        "x-kubernetes-action": v3["x-kubernetes-action"], GVK: v3[GVK],
    })
}

type Out = Vec<u8>;

fn text(number: u32, value: &Value, out: &mut Out) {
    if let Some(text) = value.as_str() {
        put_len(number, text.as_bytes(), out);
    }
}

fn texts(number: u32, value: &Value, out: &mut Out) {
    for one in value.as_array().into_iter().flatten() {
        text(number, one, out);
    }
}

fn flag(number: u32, value: &Value, out: &mut Out) {
    if value == true {
        put_varint_field(number, 1, out);
    }
}

/// Members of an object as messages of a name (1) and a value (2).
fn named(number: u32, value: &Value, out: &mut Out, write: fn(&Value, &mut Out)) {
    for (name, value) in value.as_object().into_iter().flatten() {
        nested(number, out, |out| {
            put_len(1, name.as_bytes(), out);
            nested(2, out, |out| write(value, out));
        });
    }
}

/// What begins with `x-`, as YAML; JSON is such.
fn extensions(number: u32, value: &Value, out: &mut Out) {
    let all = value.as_object().into_iter().flatten();
    for (name, value) in all.filter(|(name, _)| name.starts_with("x-")) {
        nested(number, out, |out| {
            put_len(1, name.as_bytes(), out);
            nested(2, out, |out| {
                put_len(2, value.to_string().as_bytes(), out);
            });
        });
    }
}

fn schema(value: &Value, out: &mut Out) {
    text(1, &value["$ref"], out);
    text(2, &value["format"], out);
    texts(19, &value["required"], out);
    let more = &value["additionalProperties"];
    if more.is_object() {
        nested(21, out, |out| nested(1, out, |out| schema(more, out)));
    }
    if value["type"].is_string() {
        nested(22, out, |out| text(1, &value["type"], out));
    }
    if value["items"].is_object() {
        nested(23, out, |out| {
            nested(1, out, |out| schema(&value["items"], out))
        });
    }
    if value["properties"].is_object() {
        nested(25, out, |out| named(1, &value["properties"], out, schema));
    }
    extensions(31, value, out);
}

/// A parameter that is not a body: of a query or of a path.
fn parameter(value: &Value, out: &mut Out) {
    let (which, kind, unique) = if value["in"] == "path" {
        (4, 5, 19)
    } else {
        (3, 6, 20)
    };
    let write = |out: &mut Out| {
        flag(1, &value["required"], out);
        text(2, &value["in"], out);
        text(4, &value["name"], out);
        text(kind, &value["type"], out);
        flag(unique, &value["uniqueItems"], out);
    };
    nested(1, out, |out| {
        nested(2, out, |out| nested(which, out, write));
    });
}

fn parameters_of(number: u32, value: &Value, out: &mut Out) {
    for one in value["parameters"].as_array().into_iter().flatten() {
        nested(number, out, |out| parameter(one, out));
    }
}

fn response(value: &Value, out: &mut Out) {
    nested(1, out, |out| {
        text(1, &value["description"], out);
        nested(2, out, |out| {
            nested(1, out, |out| schema(&value["schema"], out));
        });
    });
}

fn operation_of(value: &Value, out: &mut Out) {
    text(5, &value["operationId"], out);
    texts(6, &value["produces"], out);
    parameters_of(8, value, out);
    nested(9, out, |out| named(1, &value["responses"], out, response));
    extensions(13, value, out);
}

fn path_of(value: &Value, out: &mut Out) {
    // In the order of `METHODS`.
    for (method, number) in METHODS.into_iter().zip([2, 3, 4, 5, 8]) {
        if value[method].is_object() {
            nested(number, out, |out| operation_of(&value[method], out));
        }
    }
    parameters_of(9, value, out);
}

fn protobuf(value: &Value) -> Out {
    let mut out = Vec::new();
    text(1, &value["swagger"], &mut out);
    nested(2, &mut out, |out| {
        text(1, &value["info"]["title"], out);
        text(2, &value["info"]["version"], out);
    });
    nested(8, &mut out, |out| named(2, &value["paths"], out, path_of));
    nested(9, &mut out, |out| {
        named(1, &value["definitions"], out, schema);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_definition() {
        let form = &forms(&Documents::new(&crate::kinds::built_in()))[asked("application/json")];
        let value: Value = serde_json::from_slice(&form.bytes).expect("JSON");
        let text = std::str::from_utf8(&form.bytes).expect("UTF-8");
        assert!(!text.contains("components/schemas") && !text.contains("oneOf"));
        let definitions = value["definitions"].as_object().expect("definitions");
        for part in text.split("#/definitions/").skip(1) {
            let name = part.split('"').next().unwrap_or("");
            assert!(definitions.contains_key(name), "{name} is not defined");
        }
        let options = &definitions["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"][GVK];
        assert!(options.as_array().expect("kinds").len() > 10);
        let quantity = &definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"];
        assert_eq!(quantity, &json!({"type": "string"}));
    }

    #[test]
    fn protobuf_is_what_its_media_type_gets() {
        let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let form = &forms(&Documents::new(&crate::kinds::built_in()))[asked(accept)];
        assert_eq!(form.content, PROTOBUF);
        // Field 1, the three letters of the version of the form.
        assert!(form.bytes.starts_with(b"\x0a\x032.0"));
    }
}
