//! OpenAPI v3 of the served kinds, made of the schema: types, required
//! fields, merge keys, and the paths that clients look for. It has no
//! descriptions.

mod v2;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::OnceLock,
};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    catalog::{Catalog, Resource, package},
    discovery,
    schema::{Field, MessageId, Type, schema},
};

/// One document, encoded.
pub struct Document {
    pub json: Bytes,
    /// Of the content, in upper-case hexadecimal.
    pub hash: String,
}

/// The documents of a catalog, made once for each.
pub struct Documents {
    /// By path, such as `apis/apps/v1`.
    v3: BTreeMap<String, Document>,
    v2: OnceLock<[v2::Form; 2]>,
}

impl Documents {
    pub fn new(catalog: &Catalog) -> Self {
        let all = discovery::group_versions(catalog).into_iter();
        Self {
            v3: all
                .map(|(group, version)| {
                    let document = document(catalog, &group, &version);
                    (path(&group, &version), document)
                })
                .collect(),
            v2: OnceLock::new(),
        }
    }

    /// The document of a path after `/openapi/v3/`.
    pub fn get(&self, path: &str) -> Option<&Document> {
        self.v3.get(path)
    }

    /// `/openapi/v2` for a client that takes what `accept` says.
    pub fn v2(&self, accept: &str) -> &v2::Form {
        &self.v2.get_or_init(|| v2::forms(self))[v2::asked(accept)]
    }

    /// `/openapi/v3`.
    pub fn index(&self) -> Value {
        let paths: Map<String, Value> = self
            .v3
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }
}

fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn document(catalog: &Catalog, group: &str, version: &str) -> Document {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    let mut wanted: VecDeque<MessageId> = VecDeque::new();
    for resource in catalog
        .resources()
        .iter()
        .filter(|one| one.group == group && one.version == version)
    {
        wanted.push_back(resource.message);
        wanted.extend(list_message(resource));
        self::paths(resource, &mut paths);
    }
    // Kinds that are sent but have no path here.
    let all = ["DeleteOptions", "Status"];
    wanted.extend(
        all.iter().filter_map(|name| {
            schema().find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
        }),
    );
    let prefix = format!("io.k8s.api.{}.{version}.", package(group));
    let own = schema()
        .messages()
        .filter(|(_, message)| message.object && message.name.starts_with(&prefix));
    wanted.extend(own.map(|(id, _)| id));
    let mut seen = BTreeSet::new();
    while let Some(id) = wanted.pop_front() {
        let message = schema().message(id);
        if seen.insert(message.name) {
            let value = definition(id, group, version, &prefix, &mut wanted);
            schemas.insert(message.name.to_owned(), value);
        }
    }
    for (name, value) in special() {
        schemas.insert(name.to_owned(), value);
    }
    let document = json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": discovery::GIT_VERSION},
        "paths": paths, "components": {"schemas": schemas},
    });
    let json = document.to_string();
    Document {
        hash: hash(json.as_bytes()),
        json: json.into(),
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

fn list_message(resource: &Resource) -> Option<MessageId> {
    schema().find(&format!("{}List", schema().message(resource.message).name))
}

/// The types that have a JSON form of their own.
fn special() -> [(&'static str, Value); 6] {
    [
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            json!({"type": "string", "format": "date-time"}),
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            json!({"type": "string", "format": "date-time"}),
        ),
        (
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ),
        (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        (
            "io.k8s.apimachinery.pkg.runtime.RawExtension",
            json!({"type": "object"}),
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            json!({"type": "object"}),
        ),
    ]
}

fn reference(name: &str) -> Value {
    json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]})
}

fn type_of(ty: &Type, wanted: &mut VecDeque<MessageId>) -> Value {
    match ty {
        Type::String => json!({"type": "string"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Double => json!({"type": "number", "format": "double"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Time => reference("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
        Type::MicroTime => reference("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
        Type::Quantity => reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        Type::IntOrString => reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        Type::Raw => reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
        Type::FieldsV1 => reference("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
        Type::Message(id) => {
            wanted.push_back(*id);
            reference(schema().message(*id).name)
        }
        Type::List(inner) | Type::Wrapped(inner) => {
            json!({"type": "array", "items": type_of(inner, wanted)})
        }
        Type::Map(inner) => {
            json!({"type": "object", "additionalProperties": type_of(inner, wanted)})
        }
    }
}

fn property(field: &Field, wanted: &mut VecDeque<MessageId>) -> Value {
    let mut value = type_of(&field.ty, wanted);
    let strategy = match (field.patch_merge, field.patch_retain_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => "",
    };
    if !strategy.is_empty() {
        value["x-kubernetes-patch-strategy"] = strategy.into();
    }
    if let Some(key) = field.patch_key {
        value["x-kubernetes-patch-merge-key"] = key.into();
    }
    if matches!(field.ty, Type::List(_)) {
        if field.set {
            value["x-kubernetes-list-type"] = "set".into();
        } else if !field.list_keys.is_empty() {
            value["x-kubernetes-list-type"] = "map".into();
            value["x-kubernetes-list-map-keys"] = json!(field.list_keys);
        } else {
            value["x-kubernetes-list-type"] = "atomic".into();
        }
    }
    value
}

fn properties(
    id: MessageId,
    into: &mut Map<String, Value>,
    required: &mut Vec<&'static str>,
    wanted: &mut VecDeque<MessageId>,
) {
    for field in &schema().message(id).fields {
        if field.inline {
            if let Type::Message(inner) = field.ty {
                properties(inner, into, required, wanted);
            }
            continue;
        }
        into.insert(field.name.to_owned(), property(field, wanted));
        if field.required {
            required.push(field.name);
        }
    }
}

fn definition(
    id: MessageId,
    group: &str,
    version: &str,
    prefix: &str,
    wanted: &mut VecDeque<MessageId>,
) -> Value {
    let message = schema().message(id);
    let (mut fields, mut required) = (Map::new(), Vec::new());
    if message.object {
        fields.insert("apiVersion".to_owned(), json!({"type": "string"}));
        fields.insert("kind".to_owned(), json!({"type": "string"}));
    }
    properties(id, &mut fields, &mut required, wanted);
    let mut value = json!({"type": "object", "properties": fields});
    if !required.is_empty() {
        value["required"] = json!(required);
    }
    if message.object {
        let kind = message.name.rsplit('.').next().unwrap_or("");
        let common = message.name.starts_with("io.k8s.apimachinery");
        if common || message.name.starts_with(prefix) {
            value["x-kubernetes-group-version-kind"] =
                json!([{"group": group, "version": version, "kind": kind}]);
        }
    }
    value
}

fn parameter(name: &str, ty: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": ty, "uniqueItems": true}})
}

fn operation(resource: &Resource, action: &str, parameters: &[(&str, &str)]) -> Value {
    let name = schema().message(resource.message).name;
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(name, ty)| parameter(name, ty))
        .collect();
    json!({
        "operationId": format!("{action}{}{}", resource.kind, resource.version), "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
    })
}

const WRITE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const LIST: &[(&str, &str)] = &[
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("propagationPolicy", "string"),
];

fn paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let base = format!("/{}", path(&resource.group, &resource.version));
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{base}/{}", resource.plural)
    };
    let place = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let mut places = Vec::new();
    if resource.namespaced {
        places.push(place("namespace"));
    }
    let mut item = json!({
        "get": operation(resource, "list", LIST), "post": operation(resource, "post", WRITE),
        "delete": operation(resource, "deletecollection", DELETE),
    });
    item["parameters"] = json!(places);
    paths.insert(collection.clone(), item);
    places.push(place("name"));
    let mut item = json!({
        "get": operation(resource, "get", &[]), "put": operation(resource, "put", WRITE),
        "patch": operation(resource, "patch", WRITE), "delete": operation(resource, "delete", DELETE),
    });
    item["parameters"] = json!(places);
    paths.insert(format!("{collection}/{{name}}"), item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_definition() {
        let documents = Documents::new(&crate::kinds::built_in());
        for (path, document) in &documents.v3 {
            let value: Value = serde_json::from_slice(&document.json).expect("JSON");
            let schemas = value["components"]["schemas"]
                .as_object()
                .expect("definitions");
            let text = std::str::from_utf8(&document.json).expect("UTF-8");
            for part in text.split("#/components/schemas/").skip(1) {
                let name = part.split('"').next().unwrap_or("");
                assert!(schemas.contains_key(name), "{path}: {name} is not defined");
            }
        }
    }

    #[test]
    fn merge_keys_are_told() {
        let documents = Documents::new(&crate::kinds::built_in());
        let document = documents.get("apis/apps/v1").expect("a document");
        let value: Value = serde_json::from_slice(&document.json).expect("JSON");
        let containers = &value["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
            ["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-type"], "map");
    }
}
