//! The metadata of every kind.

use serde_json::Value;

use super::{Errors, check::all, names};
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
    let names = resource.rules.names;
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    }
    if !name.is_empty() {
        all("metadata.name", name, names(name), &mut errors);
    }
    let Some(meta) = object::meta(value) else {
        return errors;
    };
    let generation = meta.get("generation").and_then(Value::as_i64);
    if let Some(below) = generation.filter(|generation| *generation < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            "metadata.generation",
            &below.into(),
            why,
        ));
    }
    labels(meta.get("labels"), "metadata.labels", &mut errors);
    annotations(meta.get("annotations"), "metadata.annotations", &mut errors);
    owners(meta.get("ownerReferences"), &mut errors);
    let finalizers = object::finalizers(value);
    for finalizer in &finalizers {
        let wrong = names::qualified(finalizer);
        all("metadata.finalizers", finalizer, wrong, &mut errors);
    }
    let has = |name: &str| finalizers.iter().any(|one| one == name);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        let shown = finalizers.clone().into();
        errors.push(FieldError::invalid("metadata.finalizers", &shown, why));
    }
    errors
}

/// Finalizers without a domain that upstream knows.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Checks what only a new object must be.
pub fn created(resource: &Resource, value: &Json, errors: &mut Errors) {
    let generate = object::meta_str(value, "generateName");
    if !generate.is_empty() {
        let wrong = (resource.rules.names)(&names::prefix(generate));
        let mut before = Vec::new();
        all("metadata.generateName", generate, wrong, &mut before);
        errors.splice(..0, before);
    }
    if resource.rules.standard_finalizers {
        standard_finalizers(value, errors);
    }
}

/// Checks that finalizers are upstream's own or have a domain.
pub fn standard_finalizers(value: &Json, errors: &mut Errors) {
    for (index, finalizer) in object::finalizers(value).into_iter().enumerate() {
        let known = STANDARD_FINALIZERS.contains(&finalizer.as_str());
        if !finalizer.contains('/') && !known {
            errors.push(FieldError::invalid(
                format!("metadata.finalizers[{index}]"),
                &finalizer.into(),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

/// Checks a map of labels.
pub fn labels(labels: Option<&Value>, at: &str, errors: &mut Errors) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        all(at, key, names::qualified(key), errors);
        let value = value.as_str().unwrap_or("");
        all(at, value, names::label_value(value), errors);
    }
}

/// Checks a map of annotations.
pub fn annotations(annotations: Option<&Value>, at: &str, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        // Keys of annotations may have capitals in their domain.
        let wrong = names::qualified(&key.to_ascii_lowercase());
        all(at, key, wrong, errors);
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > limits::ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(at, limits::ANNOTATIONS_BYTES_MAX));
    }
}

fn owners(owners: Option<&Value>, errors: &mut Errors) {
    let all = owners
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut controller: Option<String> = None;
    for (index, owner) in all.iter().enumerate() {
        let text = |field: &str| owner.get(field).and_then(Value::as_str).unwrap_or("");
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(field).is_empty() {
                let at = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::required(at, "must not be empty"));
            }
        }
        if owner.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let this = format!("{}/{}", text("kind"), text("name"));
        if let Some(first) = &controller {
            let why = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
            );
            let at = "metadata.ownerReferences";
            errors.push(FieldError::invalid(at, &all.into(), &why));
        }
        controller.get_or_insert(this);
    }
}

/// What an update cannot change of the metadata; an object that is being deleted
/// gets no new finalizers.
pub fn unchanged(value: &Json, current: &Json, errors: &mut Errors) {
    let field = |value: &Json, name: &str| object::meta(value)?.get(name).cloned();
    for name in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (field(value, name), field(current, name));
        if new != old {
            let shown = new.unwrap_or(Value::Null);
            let at = format!("metadata.{name}");
            errors.push(FieldError::invalid(at, &shown, "field is immutable"));
        }
    }
    if !object::is_deleting(current) {
        return;
    }
    let before = object::finalizers(current);
    let mut new = object::finalizers(value);
    new.retain(|one| !before.contains(one));
    new.sort();
    new.dedup();
    if !new.is_empty() {
        let quoted: Vec<_> = new.iter().map(|one| format!("{one:?}")).collect();
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            quoted.join(", ")
        );
        errors.push(FieldError::forbidden("metadata.finalizers", &why));
    }
}
