//! The metadata of every kind.

use serde_json::Value;

use super::{Errors, names};
use crate::{
    catalog::Resource,
    field::FieldError,
    limits,
    object::{self, Json},
};

/// Checks the metadata of an object.
pub fn object(resource: &Resource, value: &Json) -> Errors {
    let mut errors = Vec::new();
    let name = object::meta_str(value, "name");
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if let Some(why) = bad_name(resource, name) {
        errors.push(FieldError::invalid("metadata.name", &name.into(), why));
    }
    let Some(meta) = object::meta(value) else {
        return errors;
    };
    labels(meta.get("labels"), "metadata.labels", &mut errors);
    annotations(meta.get("annotations"), &mut errors);
    for finalizer in object::finalizers(value) {
        if !names::is_qualified(&finalizer) {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                &finalizer.as_str().into(),
                names::QUALIFIED,
            ));
        }
    }
    owners(meta.get("ownerReferences"), &mut errors);
    errors
}

/// Why a name does not do for a kind.
fn bad_name(resource: &Resource, name: &str) -> Option<&'static str> {
    let (good, why) = resource.rules.names;
    (!good(name)).then_some(why)
}

/// Checks a map of labels.
pub fn labels(labels: Option<&Value>, at: &str, errors: &mut Errors) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if !names::is_qualified(key) {
            errors.push(FieldError::invalid(
                at,
                &key.as_str().into(),
                names::QUALIFIED,
            ));
        }
        if !value.as_str().is_some_and(names::is_label_value) {
            errors.push(FieldError::invalid(at, value, names::LABEL_VALUE));
        }
    }
}

fn annotations(annotations: Option<&Value>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        // Keys of annotations may have capitals in their domain.
        if !names::is_qualified(&key.to_ascii_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                &key.as_str().into(),
                names::QUALIFIED,
            ));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > limits::ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(
            "metadata.annotations",
            limits::ANNOTATIONS_BYTES_MAX,
        ));
    }
}

fn owners(owners: Option<&Value>, errors: &mut Errors) {
    let mut controllers = 0;
    for (index, owner) in owners
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
            {
                let at = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::invalid(at, &"".into(), "must not be empty"));
            }
        }
        controllers += u32::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            &controllers.into(),
            detail,
        ));
    }
}

/// An object that is being deleted gets no new finalizers.
pub fn unchanged(value: &Json, current: &Json, errors: &mut Errors) {
    if !object::is_deleting(current) {
        return;
    }
    let before = object::finalizers(current);
    let new: Vec<_> = object::finalizers(value)
        .into_iter()
        .filter(|one| !before.contains(one))
        .collect();
    if !new.is_empty() {
        errors.push(FieldError::forbidden(
            "metadata.finalizers",
            &format!("no new finalizers can be added if the object is being deleted, found new finalizers {new:?}"),
        ));
    }
}
