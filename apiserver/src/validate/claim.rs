//! Claims of volumes, by themselves and as templates. Source: upstream's
//! `pkg/apis/core/validation`.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{
    Errors,
    check::{At, label_selector},
    meta, names,
};
use crate::{
    codec,
    field::FieldError,
    object::{self, Json},
};

/// A claim of its own.
pub fn claim(value: &Json, errors: &mut Errors) {
    let value = Value::Object(value.clone());
    let nothing = json!({});
    let at = At::new(value.get("spec").unwrap_or(&nothing), "spec");
    spec(&at, errors);
}

/// What of a claim an update can change: once bound, how much it asks for.
pub fn kept(value: &Json, current: &Json, errors: &mut Errors) {
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    const ATTRIBUTES: &str = "volumeAttributesClassName";
    let spec = |value: &Json| value.get("spec").cloned().unwrap_or(Value::Null);
    let (mut new, mut old) = (spec(value), spec(current));
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or("").to_owned();
    if text(&old, "volumeName").is_empty() {
        old["volumeName"] = new["volumeName"].clone();
    }
    let annotated = |value: &Json| object::at(value, &["metadata", "annotations", CLASS]).cloned();
    let (class, before) = (annotated(value), annotated(current));
    let given = new["storageClassName"].clone();
    let named_late = old["storageClassName"].is_null() && !given.is_null();
    let moved = named_late && before.as_ref() == Some(&given);
    if !(moved && (class.is_none() || class == before)) && class != before {
        let shown = class.clone().unwrap_or_else(|| "".into());
        let path = format!("metadata.annotations[{CLASS}]");
        errors.push(FieldError::invalid(path, &shown, "field is immutable"));
    }
    if named_late && before.as_ref().is_none_or(|before| *before == given) {
        new["storageClassName"] = Value::Null;
    }
    let storage = |spec: &Value| spec["resources"]["requests"]["storage"].clone();
    let (size, had) = (storage(&new), storage(&old));
    if object::str_at(value, &["status", "phase"]) == "Bound" {
        if new["resources"]["requests"].is_object() {
            new["resources"]["requests"]["storage"] = had.clone();
        }
        new[ATTRIBUTES] = old[ATTRIBUTES].clone();
    }
    if said(&new) != said(&old) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", why));
    }
    let amount = |value: &Value| value.as_str().unwrap_or("0").to_owned();
    let less = |one: &str, other: &str| codec::compare_quantities(one, other);
    if less(&amount(&size), &amount(&had)) == Some(Ordering::Less) {
        let has = object::at(current, &["status", "capacity", "storage"]);
        let has = has.map_or_else(|| "0".to_owned(), amount);
        if less(&amount(&size), &has) != Some(Ordering::Greater) {
            let why = "field can not be less than status.capacity";
            let path = "spec.resources.requests.storage";
            errors.push(FieldError::forbidden(path, why));
        }
    }
    let mode = |value: &Json| object::at(value, &["spec", "volumeMode"]).cloned();
    if mode(value) != mode(current) {
        let shown = mode(value).unwrap_or(Value::Null);
        errors.push(FieldError::invalid(
            "volumeMode",
            &shown,
            "field is immutable",
        ));
    }
    let applied = object::at(current, &["status", "currentVolumeAttributesClassName"]);
    let attributes = object::at(value, &["spec", ATTRIBUTES]);
    if applied.is_some_and(|applied| !applied.is_null())
        && object::at(current, &["spec", ATTRIBUTES]) != attributes
    {
        let to = match attributes.and_then(Value::as_str) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let why = format!(
            "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
        );
        errors.push(FieldError::forbidden(format!("spec.{ATTRIBUTES}"), &why));
    }
}

/// The fields that say something.
fn said(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), said(value)))
            .filter(|(_, value)| !(value.is_null() || *value == ""))
            .collect(),
        value => value.clone(),
    }
}

/// A template of claims: of its metadata, labels and annotations alone.
pub fn template(at: &At<'_>, errors: &mut Errors) {
    if let Some(own) = at.get("metadata") {
        meta::annotations(
            own.value.get("annotations"),
            &own.child("annotations"),
            errors,
        );
        meta::labels(own.value.get("labels"), &own.child("labels"), errors);
        // In the order of Go's type.
        for field in [
            "name",
            "generateName",
            "namespace",
            "selfLink",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "ownerReferences",
            "finalizers",
            "managedFields",
        ] {
            if own.get(field).is_some() {
                let shown = if field == "uid" { "uID" } else { field };
                errors.push(FieldError::forbidden(own.child(shown), "cannot be set"));
            }
        }
    }
    let nothing = json!({});
    let inner = at.value.get("spec").unwrap_or(&nothing);
    spec(&At::new(inner, at.child("spec")), errors);
}

const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// What a claim asks for.
pub fn spec(at: &At<'_>, errors: &mut Errors) {
    let modes = at.items("accessModes");
    let path = at.child("accessModes");
    if modes.is_empty() {
        let why = "at least 1 access mode is required";
        errors.push(FieldError::required(path.clone(), why));
    }
    if let Some(selector) = at.get("selector") {
        label_selector(&selector, errors);
    }
    access_modes(at, errors);
    storage(at, errors);
    if !at.text("storageClassName").is_empty() {
        at.named("storageClassName", names::subdomain, errors);
    }
    at.one_of("volumeMode", &["Block", "Filesystem"], errors);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = at.get(field) {
            data_source(&source, errors);
        }
    }
    let (source, referred) = (at.get("dataSource"), at.get("dataSourceRef"));
    if let (Some(source), Some(referred)) = (source, referred) {
        let elsewhere = !referred.text("namespace").is_empty();
        let same = ["apiGroup", "kind", "name"]
            .iter()
            .all(|field| source.value.get(*field) == referred.value.get(*field));
        let shown = source.path.as_str().into();
        if elsewhere {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(FieldError::invalid(at.path.clone(), &shown, why));
        } else if !same {
            let why = "must match dataSourceRef";
            errors.push(FieldError::invalid(at.path.clone(), &shown, why));
        }
    }
    if !at.text("volumeAttributesClassName").is_empty() {
        at.named("volumeAttributesClassName", names::subdomain, errors);
    }
}

/// How a volume may be used.
pub fn access_modes(at: &At<'_>, errors: &mut Errors) {
    let path = at.child("accessModes");
    let modes = at.items("accessModes");
    for mode in modes.iter().filter(|mode| !MODES.contains(&mode.as_text())) {
        errors.push(FieldError::unsupported(path.clone(), mode.as_text(), MODES));
    }
    let one = |mode: &At<'_>| mode.as_text() == "ReadWriteOncePod";
    let other = |mode: &At<'_>| !one(mode) && MODES.contains(&mode.as_text());
    if modes.iter().any(one) && modes.iter().any(other) {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(path, why));
    }
}

fn storage(at: &At<'_>, errors: &mut Errors) {
    let path = format!("{}[storage]", at.child("resources"));
    let asked = at.value.pointer("/resources/requests/storage");
    let Some(asked) = asked.filter(|asked| !asked.is_null()) else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let text = asked.as_str().unwrap_or("");
    if codec::compare_quantities(text, "0") != Some(std::cmp::Ordering::Greater) {
        let why = "must be greater than zero";
        errors.push(FieldError::invalid(path, asked, why));
    }
}

fn data_source(at: &At<'_>, errors: &mut Errors) {
    at.required("name", errors);
    at.required("kind", errors);
    let group = at.text("apiGroup");
    let kind = at.text("kind");
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(at.path.clone(), &kind.into(), why));
    }
    if !group.is_empty() {
        at.named("apiGroup", names::subdomain, errors);
    }
}
