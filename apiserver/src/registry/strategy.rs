//! What the server owns of an object: identity, times, generation, and which
//! part of an object each path may change.

use serde_json::Value;

use super::Target;
use crate::{
    codec::json::zero_of,
    object::{self, Json},
    schema::{Resource, Sub, schema},
};

/// Kinds that count the generations of their specification.
const GENERATIONS: &[&str] = &[
    "CronJob",
    "DaemonSet",
    "Deployment",
    "DeviceClass",
    "EndpointSlice",
    "FlowSchema",
    "Ingress",
    "IngressClass",
    "Job",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "NetworkPolicy",
    "Pod",
    "PodDisruptionBudget",
    "PodTemplate",
    "PriorityLevelConfiguration",
    "ReplicaSet",
    "ReplicationController",
    "ResourceSlice",
    "StatefulSet",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];
/// What an update cannot change.
const FIXED: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "generateName",
];

/// Makes the object new: identity and times are the server's, the status is
/// whoever reports it later.
pub fn prepare_create(resource: &Resource, value: &mut Json) {
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    ] {
        object::set_meta(value, field, None);
    }
    object::set_meta(value, "uid", Some(object::uid().into()));
    object::set_meta(value, "creationTimestamp", Some(object::now()));
    let generation = GENERATIONS.contains(&resource.kind).then(|| 1.into());
    object::set_meta(value, "generation", generation);
    if resource.has(Sub::Status) {
        reset_status(resource, value, None);
    }
    if resource.kind == "Job" {
        job_identity(value);
    }
}

fn reset_status(resource: &Resource, value: &mut Json, to: Option<&Value>) {
    let empty = schema()
        .field(resource.message, "status")
        .map(|field| zero_of(&field.ty));
    match to.cloned().or(empty) {
        Some(status) => value.insert("status".to_owned(), status),
        None => value.remove("status"),
    };
}

/// A job's pods carry its identity, and it selects them by that.
fn job_identity(value: &mut Json) {
    if object::at(value, &["spec", "manualSelector"])
        .is_some_and(|manual| manual == &Value::Bool(true))
    {
        return;
    }
    let uid = object::meta_str(value, "uid").to_owned();
    let name = object::meta_str(value, "name").to_owned();
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let template = spec
        .entry("template")
        .or_insert_with(|| Value::Object(Json::new()));
    let Some(meta) = template.as_object_mut().map(|map| {
        map.entry("metadata")
            .or_insert_with(|| Value::Object(Json::new()))
    }) else {
        return;
    };
    let Some(labels) = meta.as_object_mut().map(|map| {
        map.entry("labels")
            .or_insert_with(|| Value::Object(Json::new()))
    }) else {
        return;
    };
    for (key, text) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels[key] = text.as_str().into();
    }
    let selector = spec.entry("selector").or_insert(Value::Null);
    if selector.is_null() {
        *selector = serde_json::json!({});
    }
    if selector.is_object() {
        selector["matchLabels"]["batch.kubernetes.io/controller-uid"] = uid.into();
    }
}

/// Takes from `current` what this path cannot change.
pub fn prepare_update(target: &Target, wanted: &mut Json, current: &Json) {
    let resource = target.resource;
    let meta = object::meta(current).cloned().unwrap_or_default();
    match target.sub {
        None | Some(Sub::Scale | Sub::Eviction) => {
            if resource.has(Sub::Status) {
                reset_status(resource, wanted, current.get("status"));
            }
            // Namespaces are finalized by their own path.
            if resource.kind == "Namespace" {
                keep(wanted, current, "spec");
            }
        }
        Some(Sub::Status) => {
            let status = wanted.get("status").cloned();
            let new_meta = wanted.get("metadata").cloned();
            wanted.clone_from(current);
            reset_status(resource, wanted, status.as_ref());
            // Nodes, volumes and others of the core group report through
            // annotations too; workloads do not.
            if let (true, Some(new)) = (resource.group.is_empty(), new_meta) {
                wanted.insert("metadata".to_owned(), new);
            }
        }
        Some(Sub::Approval) => {
            let conditions = object::at(wanted, &["status", "conditions"]).cloned();
            wanted.clone_from(current);
            if let (Some(conditions), Some(Value::Object(status))) =
                (conditions, wanted.get_mut("status"))
            {
                status.insert("conditions".to_owned(), conditions);
            }
        }
        Some(Sub::Finalize) => {
            let finalizers = object::at(wanted, &["spec", "finalizers"]).cloned();
            let own = object::meta(wanted)
                .and_then(|meta| meta.get("finalizers"))
                .cloned();
            wanted.clone_from(current);
            if let Some(Value::Object(spec)) = wanted.get_mut("spec") {
                match finalizers {
                    Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers),
                    None => spec.remove("finalizers"),
                };
            }
            object::set_meta(wanted, "finalizers", own);
        }
        Some(Sub::EphemeralContainers) => {
            let containers = object::at(wanted, &["spec", "ephemeralContainers"]).cloned();
            wanted.clone_from(current);
            if let (Some(containers), Some(Value::Object(spec))) =
                (containers, wanted.get_mut("spec"))
            {
                spec.insert("ephemeralContainers".to_owned(), containers);
            }
        }
        Some(Sub::Resize) => {
            let containers = object::at(wanted, &["spec", "containers"]).cloned();
            wanted.clone_from(current);
            resize(wanted, containers.as_ref());
        }
        // These are no objects that an update replaces.
        Some(Sub::Binding | Sub::Token) => {}
    }
    for field in FIXED {
        object::set_meta(wanted, field, meta.get(*field).cloned());
    }
    if GENERATIONS.contains(&resource.kind) && differs(resource, wanted, current) {
        let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
        object::set_meta(
            wanted,
            "generation",
            Some(generation.saturating_add(1).into()),
        );
    }
}

/// Takes the resources of containers of the same name.
fn resize(pod: &mut Json, containers: Option<&Value>) {
    let Some(mine) = pod
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("containers"))
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let wanted = containers.and_then(Value::as_array);
    for container in mine {
        let same = wanted
            .into_iter()
            .flatten()
            .find(|one| one.get("name") == container.get("name"));
        if let (Some(map), Some(resources)) = (
            container.as_object_mut(),
            same.and_then(|one| one.get("resources")),
        ) {
            map.insert("resources".to_owned(), resources.clone());
        }
    }
}

fn keep(wanted: &mut Json, current: &Json, field: &str) {
    match current.get(field) {
        Some(value) => wanted.insert(field.to_owned(), value.clone()),
        None => wanted.remove(field),
    };
}

/// Whether anything but metadata and status changed.
fn differs(resource: &Resource, wanted: &Json, current: &Json) -> bool {
    let fields = &schema().message(resource.message).fields;
    fields
        .iter()
        .filter(|field| field.name != "metadata" && field.name != "status")
        .any(|field| wanted.get(field.name) != current.get(field.name))
}

/// Whether an update lets an object that waits for its deletion go.
pub fn ends(resource: &Resource, wanted: &Json, current: &Json) -> bool {
    let held = resource.kind == "Namespace"
        && object::at(wanted, &["spec", "finalizers"])
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
    let grace = object::meta(current)
        .and_then(|meta| meta.get("deletionGracePeriodSeconds"))
        .and_then(Value::as_i64);
    object::is_deleting(current)
        && object::finalizers(wanted).is_empty()
        && !held
        && grace.unwrap_or(0) == 0
}
