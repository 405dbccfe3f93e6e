//! Claims of volumes, by themselves and as templates. Source: upstream's
//! `pkg/apis/core/validation`.

use serde_json::{Value, json};

use super::{
    Errors,
    check::{At, label_selector},
    meta, names,
};
use crate::{codec, field::FieldError, object::Json};

/// A claim of its own.
pub fn claim(value: &Json, errors: &mut Errors) {
    let value = Value::Object(value.clone());
    let nothing = json!({});
    let at = At::new(value.get("spec").unwrap_or(&nothing), "spec");
    spec(&at, errors);
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
