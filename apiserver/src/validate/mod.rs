//! What an object must be to be stored: names, labels, required and fixed
//! fields, sizes. Knows objects; knows no request and no other object.

mod kinds;
mod meta;
mod names;
mod pod;
mod workload;

use serde_json::Value;

use crate::{
    error::FieldError,
    limits,
    object::{self, Json},
    schema::{Resource, Sub},
};

type Errors = Vec<FieldError>;

/// Checks an object to be created.
pub fn create(resource: &Resource, value: &Json) -> Errors {
    let mut errors = meta::object(resource, value);
    kind(resource, value, &mut errors);
    errors
}

/// Checks what an object is to become.
pub fn update(resource: &Resource, value: &Json, current: &Json, sub: Option<Sub>) -> Errors {
    let mut errors = meta::object(resource, value);
    meta::unchanged(value, current, &mut errors);
    match sub {
        None | Some(Sub::Scale) => {
            kind(resource, value, &mut errors);
            fixed(resource, value, current, &mut errors);
        }
        Some(_) => {}
    }
    errors
}

fn kind(resource: &Resource, value: &Json, errors: &mut Errors) {
    match resource.kind {
        "ConfigMap" => data(value, &["data", "binaryData"], errors),
        "Secret" => data(value, &["data"], errors),
        "Pod" => pod::spec(value.get("spec"), "spec", None, errors),
        "Service" => workload::service(value, errors),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => {
            workload::selected(resource.kind, value, errors)
        }
        "ReplicationController" => workload::controller(value, errors),
        "Job" => workload::job(value.get("spec"), "spec", errors),
        "CronJob" => workload::cron_job(value, errors),
        "Lease" => kinds::lease(value, errors),
        "Role" | "ClusterRole" => kinds::role(value, resource.namespaced, errors),
        "Node" => kinds::node(value, errors),
        "Ingress" => kinds::ingress(value, errors),
        "PersistentVolumeClaim" => kinds::claim(value, errors),
        "PodDisruptionBudget" => kinds::budget(value, errors),
        "PriorityClass" | "StorageClass" => required(value, resource.kind, errors),
        _ => {}
    }
}

/// Checks an object of a version that is not the stored one for what only that
/// version asks.
pub fn other_version(resource: &Resource, new: bool, value: &Json) -> Errors {
    if resource.group == "events.k8s.io" && new {
        kinds::new_event(value)
    } else {
        Vec::new()
    }
}

fn required(value: &Json, kind: &str, errors: &mut Errors) {
    let field = if kind == "StorageClass" {
        "provisioner"
    } else {
        "value"
    };
    if matches!(value.get(field), None | Some(Value::Null))
        || value.get(field).and_then(Value::as_str) == Some("")
    {
        errors.push(FieldError::required(field, ""));
    }
}

/// Keys and size of the data of a config map or a secret.
fn data(value: &Json, fields: &[&str], errors: &mut Errors) {
    let mut size = 0;
    for field in fields {
        for (key, item) in value
            .get(*field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let valid = !key.is_empty()
                && key.len() <= 253
                && key != "."
                && !key.starts_with("..")
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !valid {
                errors.push(FieldError::invalid(
                    format!("{field}[{key}]"),
                    &key.as_str().into(),
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ));
            }
            let length = item.as_str().map_or(0, str::len);
            // Base64 is a third longer than what it stands for.
            size += if *field == "data" && fields.len() == 2 {
                length
            } else {
                length / 4 * 3
            };
        }
    }
    if size > limits::DATA_BYTES_MAX {
        errors.push(FieldError::too_long(
            fields.first().copied().unwrap_or(""),
            limits::DATA_BYTES_MAX,
        ));
    }
}

/// Fields that an update cannot change.
fn fixed(resource: &Resource, value: &Json, current: &Json, errors: &mut Errors) {
    let mut same = |path: &[&str]| {
        if object::at(value, path) != object::at(current, path) {
            let shown = object::at(value, path).cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(
                path.join("."),
                &shown,
                "field is immutable",
            ));
        }
    };
    match resource.kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => same(&["spec", "selector"]),
        "StatefulSet" => {
            for field in [
                "selector",
                "serviceName",
                "podManagementPolicy",
                "volumeClaimTemplates",
            ] {
                same(&["spec", field]);
            }
        }
        "Job" => {
            for field in ["selector", "template", "completionMode"] {
                let suspended =
                    object::at(current, &["spec", "suspend"]) == Some(&Value::Bool(true));
                if field != "template" || !suspended {
                    same(&["spec", field]);
                }
            }
        }
        "Secret" => {
            same(&["type"]);
            immutable(value, current, &["data"], errors);
        }
        "ConfigMap" => immutable(value, current, &["data", "binaryData"], errors),
        "RoleBinding" | "ClusterRoleBinding" => same(&["roleRef"]),
        "StorageClass" => {
            for field in [
                "parameters",
                "provisioner",
                "reclaimPolicy",
                "volumeBindingMode",
            ] {
                same(&[field]);
            }
        }
        "PriorityClass" => {
            same(&["value"]);
            same(&["preemptionPolicy"]);
        }
        "Pod" => pod::update(value, current, errors),
        _ => {}
    }
}

/// An object that was declared immutable stays as it is.
fn immutable(value: &Json, current: &Json, fields: &[&str], errors: &mut Errors) {
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
