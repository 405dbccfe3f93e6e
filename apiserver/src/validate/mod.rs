//! What an object must be to be stored: names, labels, required and fixed
//! fields, sizes. Knows objects; knows no request and no other object.

pub mod admission;
mod affinity;
pub mod autoscaler;
pub mod certificates;
mod check;
pub mod claim;
mod container;
pub mod data;
pub mod devices;
pub mod event;
pub mod flow;
pub mod job;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod network;
pub mod persistent;
pub mod pod;
pub mod pod_update;
mod probe;
pub mod quota;
pub mod rbac;
mod resources;
mod security;
pub mod service;
pub mod storage;
mod trust;
mod volume;
pub mod workload;

use serde_json::Value;

use crate::{
    catalog::Resource,
    field::FieldError,
    kind::Sub,
    object::{self, Json},
};

pub use crate::kind::Errors;

/// Checks an object to be created.
pub fn create(resource: &Resource, value: &Json) -> Errors {
    let mut errors = meta::object(resource, value);
    meta::created(resource, value, &mut errors);
    kind(resource, value, &mut errors);
    if resource.group.is_empty() && resource.plural == "pods" {
        pod::created(value, &mut errors);
    }
    errors
}

/// Checks what an object is to become, for a client of another version perhaps.
pub fn update(
    resource: &Resource,
    value: &Json,
    current: &Json,
    sub: Option<Sub>,
    served: Option<&Resource>,
) -> Errors {
    let mut errors = meta::object(resource, value);
    meta::unchanged(value, current, &mut errors);
    let other = served.and_then(|served| served.stored_as.as_ref());
    let other = other.and_then(|stored| stored.conversion.validate_change);
    if let (None, Some(validate)) = (sub, other) {
        validate(value, current, &mut errors);
        return errors;
    }
    match sub {
        None | Some(Sub::Scale) => {
            kind(resource, value, &mut errors);
            if let Some(validate) = resource.rules.validate_change {
                validate(value, current, &mut errors);
            }
        }
        Some(sub) => {
            if let Some(validate) = resource.rules.validate_sub {
                validate(sub, value, current, &mut errors);
            }
        }
    }
    errors
}

fn kind(resource: &Resource, value: &Json, errors: &mut Errors) {
    if let Some(validate) = resource.rules.validate {
        validate(value, errors);
    }
}

/// Checks a new object of a version that is not the stored one for what only
/// that version asks.
pub fn other_version(resource: &Resource, value: &Json) -> Errors {
    let conversion = resource.stored_as.as_ref().map(|stored| stored.conversion);
    conversion
        .and_then(|conversion| conversion.validate)
        .map_or_else(Vec::new, |validate| validate(value))
}

/// Fields that an update cannot change.
pub fn fixed(paths: &[&[&str]], value: &Json, current: &Json, errors: &mut Errors) {
    for path in paths {
        if object::at(value, path) != object::at(current, path) {
            let shown = object::at(value, path).cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(
                path.join("."),
                &shown,
                "field is immutable",
            ));
        }
    }
}

/// A field that an update cannot change, in the words of upstream's
/// declarations, which do not show it.
fn declared_fixed(path: &[&str], value: &Json, current: &Json, errors: &mut Errors) {
    if object::at(value, path) != object::at(current, path) {
        let why = "field is immutable";
        errors.push(FieldError::invalid(path.join("."), &Value::Null, why));
    }
}

/// Puts what is wrong with a change before what is wrong with the object.
fn before(errors: &mut Errors, found: Errors) {
    let metadata = |error: &FieldError| error.field.starts_with("metadata");
    let at = errors.iter().take_while(|error| metadata(error)).count();
    errors.splice(at..at, found);
}

/// The controller of a class of ingresses stays.
pub fn controller_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let of = |value: &Json| object::str_at(value, &["spec", "controller"]).to_owned();
    if of(value) != of(current) {
        let why = "field is immutable";
        let error = FieldError::invalid("spec.controller", &of(value).into(), why);
        before(errors, vec![error]);
    }
}

/// Who holds an address stays.
pub fn parent_kept(value: &Json, current: &Json, errors: &mut Errors) {
    declared_fixed(&["spec", "parentRef"], value, current, errors);
}

/// The type of the addresses of a slice stays.
pub fn address_type_kept(value: &Json, current: &Json, errors: &mut Errors) {
    declared_fixed(&["addressType"], value, current, errors);
}

/// The handler of a class of runtimes stays.
pub fn handler_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let mut found = Errors::new();
    declared_fixed(&["handler"], value, current, &mut found);
    before(errors, found);
}

/// What a claim of devices asks for stays.
pub fn claim_kept(value: &Json, current: &Json, errors: &mut Errors) {
    if value.get("spec") != current.get("spec") {
        // Nothing else is looked at.
        errors.retain(|error| error.field.starts_with("metadata"));
        declared_fixed(&["spec"], value, current, errors);
    }
}

/// A revision keeps something.
pub fn revision(value: &Json, errors: &mut Errors) {
    if value.get("data").is_none_or(Value::is_null) {
        errors.push(FieldError::required("data", "data is mandatory"));
    } else if !value.get("data").is_some_and(Value::is_object) {
        let why = "data must be a valid JSON object";
        errors.push(FieldError::required("data", why));
    }
    let number = value.get("revision").and_then(Value::as_i64).unwrap_or(0);
    if number < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("revision", &number.into(), why));
    }
}

/// What a revision keeps stays.
pub fn revision_kept(value: &Json, current: &Json, errors: &mut Errors) {
    errors.retain(|error| error.field != "data");
    declared_fixed(&["data"], value, current, errors);
}

/// A job's pods stay what they are, but for a suspended job's template.
pub fn job_changes(value: &Json, current: &Json, errors: &mut Errors) {
    let suspended = object::at(current, &["spec", "suspend"]) == Some(&Value::Bool(true));
    fixed(&[&["spec", "selector"]], value, current, errors);
    if !suspended {
        fixed(&[&["spec", "template"]], value, current, errors);
    }
    fixed(&[&["spec", "completionMode"]], value, current, errors);
}

pub fn secret_changes(value: &Json, current: &Json, errors: &mut Errors) {
    fixed(&[&["type"]], value, current, errors);
    immutable(value, current, &["data"], errors);
}

/// An object that was declared immutable stays as it is.
pub fn immutable(value: &Json, current: &Json, fields: &[&str], errors: &mut Errors) {
    if current.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    if value.get("immutable") != Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden(
            "immutable",
            "field is immutable when `immutable` is set",
        ));
    }
    for field in fields {
        if value.get(*field) != current.get(*field) {
            errors.push(FieldError::forbidden(
                *field,
                "field is immutable when `immutable` is set",
            ));
        }
    }
}

#[cfg(test)]
mod tests;
