//! Subresources that are objects of their own: scale, binding.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Object, Registry, Target, WriteOptions, gate::Old, write::check_name};
use crate::{
    codec::json::{self as codec_json, Decoded, Source},
    error::{ApiError, FieldError},
    object::{self, Json},
    ownership,
    patch::Patch,
    schema::{MessageId, schema},
};

/// The message of a kind that is no resource of its own.
pub fn message(name: &str) -> MessageId {
    schema()
        .find(name)
        .expect("the schema has the subresources' kinds: a test reads them")
}

pub const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
pub const BINDING: &str = "io.k8s.api.core.v1.Binding";
pub const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";
pub const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";

impl Registry {
    /// Reads the scale of an object.
    pub async fn scale(&self, target: &Target) -> Result<Object, ApiError> {
        let object = self.get(target, None).await?;
        scale_of(&object)
    }

    /// Replaces the scale of an object.
    pub async fn update_scale(
        &self,
        target: &Target,
        body: &Decoded,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        expect(body, "autoscaling/v1", "Scale")?;
        check_name(target, &body.value)?;
        self.write_scale(target, &body.value, options).await
    }

    /// Patches the scale of an object.
    pub async fn patch_scale(
        &self,
        target: &Target,
        patch: &Patch,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        let scale = self.scale(target).await?;
        let present: Json = serde_json::from_slice(&scale.json)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let patched = patch
            .apply(present, message(SCALE))
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let mut wanted = codec_json::conform(patched, message(SCALE), Source::Client)
            .map_err(|error| ApiError::bad_request(error.to_string()))?
            .value;
        if !speaks_of_version(patch) {
            object::set_meta(&mut wanted, "resourceVersion", None);
        }
        self.write_scale(target, &wanted, options).await
    }

    async fn write_scale(
        &self,
        target: &Target,
        scale: &Json,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        let (admitted, warnings) = self.admit_scale(target, scale, &options).await?;
        let scale = &admitted;
        let replicas = object::at(scale, &["spec", "replicas"])
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if replicas < 0 {
            let error = FieldError::invalid(
                "spec.replicas",
                &replicas.into(),
                "must be greater than or equal to 0",
            );
            return Err(ApiError::invalid_kind(
                "autoscaling",
                "Scale",
                &target.name,
                &[error],
            ));
        }
        let writer = options.writer.clone();
        let make = |current: &Json| {
            let mut wanted = current.clone();
            let before = object::at(current, &["spec", "replicas"]).and_then(Value::as_i64);
            if let Some(Value::Object(spec)) = wanted.get_mut("spec") {
                spec.insert("replicas".to_owned(), replicas.into());
            }
            if let Some(writer) = writer.as_ref().filter(|_| before != Some(replicas)) {
                let record = ownership::record_scale(writer, current);
                object::set_meta(&mut wanted, "managedFields", record);
            }
            // The write replaces the version and the object that it names.
            for field in ["resourceVersion", "uid"] {
                let named = object::meta_str(scale, field);
                if !named.is_empty() {
                    object::set_meta(&mut wanted, field, Some(named.into()));
                }
            }
            Ok(wanted)
        };
        let mut object = self.with(target, &make, options).await?;
        object.warnings.extend(warnings);
        scale_of(&object)
    }

    /// A scale as those leave it who have a say.
    async fn admit_scale(
        &self,
        target: &Target,
        scale: &Json,
        options: &WriteOptions<'_>,
    ) -> Result<(Json, Vec<String>), ApiError> {
        let (mut scale, mut warnings) = (scale.clone(), Vec::new());
        if options.gate.is_none() {
            return Ok((scale, warnings));
        }
        let present = self.scale(target).await?;
        let old: Json = serde_json::from_slice(&present.json)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let say = self.say(options, target);
        let old = Some(Old {
            object: &old,
            revision: present.revision,
        });
        say.admit(&mut scale, old, &mut warnings).await?;
        say.validate(&mut scale, old, false, &mut warnings).await?;
        Ok((scale, warnings))
    }

    /// Binds a pod to a node.
    pub async fn bind(
        &self,
        target: &Target,
        body: &Decoded,
        options: WriteOptions<'_>,
    ) -> Result<(), ApiError> {
        expect(body, "v1", "Binding")?;
        let node = object::str_at(&body.value, &["target", "name"]).to_owned();
        let kind = object::str_at(&body.value, &["target", "kind"]);
        if node.is_empty() {
            return Err(ApiError::plain("target.name: Required value"));
        }
        if !matches!(kind, "" | "Node") {
            let error = FieldError::unsupported("target.kind", kind, &["Node", "<empty>"]);
            return Err(ApiError::plain(format!(
                "{}: {}",
                error.field, error.message
            )));
        }
        let annotations = object::meta(&body.value)
            .and_then(|meta| meta.get("annotations"))
            .cloned();
        let uid = object::meta_str(&body.value, "uid").to_owned();
        let version = object::meta_str(&body.value, "resourceVersion");
        let make = |current: &Json| {
            let mut pod = bound(target, current, &node, &uid, annotations.as_ref())?;
            if !version.is_empty() {
                object::set_meta(&mut pod, "resourceVersion", Some(version.into()));
            }
            Ok(pod)
        };
        self.with(target, &make, options).await.map(|_| ())
    }
}

/// Checks that a body is of the kind that the subresource takes.
pub(super) fn expect(body: &Decoded, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let said = |said: &str, expected: &str| said.is_empty() || said == expected;
    if said(&body.api_version, api_version) && said(&body.kind, kind) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the kind in the data ({}, {}) does not match the expected kind ({kind}, {api_version})",
        body.kind, body.api_version
    )))
}

fn speaks_of_version(patch: &Patch) -> bool {
    match patch {
        Patch::Merge(value) => value.pointer("/metadata/resourceVersion").is_some(),
        Patch::Strategic(map) => object::at(map, &["metadata", "resourceVersion"]).is_some(),
        Patch::Json(_) => false,
    }
}

fn scale_of(object: &Object) -> Result<Object, ApiError> {
    let value: Json = serde_json::from_slice(&object.json)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let mut meta = Json::new();
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(one) = object::meta(&value).and_then(|meta| meta.get(field)) {
            meta.insert(field.to_owned(), one.clone());
        }
    }
    let number = |path: &[&str]| {
        object::at(&value, path)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let mut spec = Json::new();
    if number(&["spec", "replicas"]) != 0 {
        spec.insert("replicas".to_owned(), number(&["spec", "replicas"]).into());
    }
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec,
        "status": {"replicas": number(&["status", "replicas"]), "selector": selector_text(object::at(&value, &["spec", "selector"]))},
    });
    Ok(Object {
        json: Bytes::from(scale.to_string()),
        revision: object.revision,
        warnings: object.warnings.clone(),
        created: false,
    })
}

/// A selector as text. Replication controllers have a plain map.
fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else {
        return String::new();
    };
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let mut parts: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
        .collect();
    for expression in selector
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or("");
        let values: Vec<_> = expression
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        parts.push(match text("operator") {
            "In" => format!("{} in ({})", text("key"), values.join(",")),
            "NotIn" => format!("{} notin ({})", text("key"), values.join(",")),
            "DoesNotExist" => format!("!{}", text("key")),
            _ => text("key").to_owned(),
        });
    }
    parts.join(",")
}

fn bound(
    target: &Target,
    current: &Json,
    node: &str,
    uid: &str,
    annotations: Option<&Value>,
) -> Result<Json, ApiError> {
    let conflict = |why: &str| ApiError::unbound(&target.name, why);
    if !uid.is_empty() && uid != object::meta_str(current, "uid") {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            target.key(),
            object::meta_str(current, "uid")
        );
        return Err(ApiError::conflict(&target.resource, &target.name, &why));
    }
    if object::is_deleting(current) {
        return Err(conflict(&format!(
            "pod {} is being deleted, cannot be assigned to a host",
            target.name
        )));
    }
    let present = object::str_at(current, &["spec", "nodeName"]);
    if !present.is_empty() {
        return Err(conflict(&format!(
            "pod {} is already assigned to node {present:?}",
            target.name
        )));
    }
    let mut pod = current.clone();
    if let Some(spec) = pod.get_mut("spec") {
        spec["nodeName"] = node.into();
    }
    if let Some(Value::Object(new)) = annotations {
        let meta = object::meta(&pod)
            .and_then(|meta| meta.get("annotations"))
            .and_then(Value::as_object)
            .cloned();
        let mut all = meta.unwrap_or_default();
        all.extend(new.clone());
        object::set_meta(&mut pod, "annotations", Some(Value::Object(all)));
    }
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object::now()});
    if let Some(Value::Object(status)) = pod.get_mut("status") {
        let conditions = status
            .entry("conditions")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = conditions {
            list.retain(|condition| {
                condition.get("type").and_then(Value::as_str) != Some("PodScheduled")
            });
            list.push(scheduled);
        }
    }
    Ok(pod)
}
