//! What the server owns of an object: identity, times, generation, and which
//! part of an object each path may change.

use serde_json::Value;

use super::{Target, gated};
use crate::{
    catalog::Resource,
    codec::json::zero_of,
    kind::{Generation, Metadata, Status, Sub},
    object::{self, Json},
    schema::schema,
};

/// What an update takes from the present object, whatever it says itself.
const FIXED: &[&str] = &["creationTimestamp", "generation"];
/// What it takes when it says nothing. To say something else is an error.
const KEPT: &[&str] = &["uid", "deletionGracePeriodSeconds"];

/// Makes the object new: identity and times are the server's, the status is
/// whoever reports it later.
pub fn prepare_create(resource: &Resource, value: &mut Json) {
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "selfLink",
    ] {
        object::set_meta(value, field, None);
    }
    object::set_meta(value, "uid", Some(object::uid().into()));
    object::set_meta(value, "creationTimestamp", Some(object::now()));
    let rules = resource.rules;
    // Kinds that do not count keep what a client says.
    match rules.generation {
        Generation::Counts(_) | Generation::CountsWith(..) => {
            object::set_meta(value, "generation", Some(1.into()));
        }
        Generation::NONE | Generation::CountsChanges(_) => {}
    }
    match rules.status {
        Status::Reported(_) => reset_status(resource, value, None),
        Status::Given | Status::NONE => {}
    }
    gated::drop(rules.gated, value, None);
    if let Some(on_create) = rules.on_create {
        on_create(value);
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

/// Takes from `current` what this path cannot change.
pub fn prepare_update(target: &Target, wanted: &mut Json, current: &Json) {
    let resource = &*target.resource;
    let rules = resource.rules;
    let meta = object::meta(current).cloned().unwrap_or_default();
    gated::drop(rules.gated, wanted, Some(current));
    match target.sub {
        None | Some(Sub::Scale | Sub::Eviction) => {
            if rules.status != Status::NONE {
                reset_status(resource, wanted, current.get("status"));
            }
            if let Some(on_update) = rules.on_update {
                on_update(wanted, current);
            }
        }
        Some(Sub::Status) => report(resource, wanted, current),
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
    if matches!(target.sub, Some(Sub::Status | Sub::Approval)) && rules.has(Sub::Approval) {
        time_conditions(wanted, current);
    }
    for field in FIXED {
        object::set_meta(wanted, field, meta.get(*field).cloned());
    }
    let says = |wanted: &Json, field: &str| {
        object::meta(wanted).is_some_and(|meta| meta.contains_key(field))
    };
    for field in KEPT.iter().filter(|field| meta.contains_key(**field)) {
        if !says(wanted, field) || object::meta_str(wanted, field).is_empty() && *field == "uid" {
            object::set_meta(wanted, field, meta.get(*field).cloned());
        }
    }
    // A deletion that was asked for stays asked for.
    if let Some(time) = meta.get("deletionTimestamp") {
        object::set_meta(wanted, "deletionTimestamp", Some(time.clone()));
    }
    let specified = matches!(
        target.sub,
        None | Some(Sub::Scale | Sub::EphemeralContainers | Sub::Resize)
    );
    if specified && counts(rules.generation, wanted, current) {
        let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
        object::set_meta(
            wanted,
            "generation",
            Some(generation.saturating_add(1).into()),
        );
    }
}

/// Conditions that do not say when they changed did so now, but for those that
/// were there.
fn time_conditions(wanted: &mut Json, current: &Json) {
    let before = object::at(current, &["status", "conditions"]).and_then(Value::as_array);
    let before = before.map_or(&[][..], Vec::as_slice);
    let conditions = wanted
        .get_mut("status")
        .and_then(|status| status.get_mut("conditions"))
        .and_then(Value::as_array_mut);
    for one in conditions.into_iter().flatten() {
        let same = |old: &&Value| {
            ["type", "status"]
                .iter()
                .all(|field| old[field] == one[field])
        };
        let then = before
            .iter()
            .find(same)
            .map(|old| &old["lastTransitionTime"]);
        let then = then.filter(|time| !time.is_null()).cloned();
        let Some(one) = one.as_object_mut() else {
            continue;
        };
        for (field, time) in [("lastUpdateTime", None), ("lastTransitionTime", then)] {
            if one.get(field).is_none_or(Value::is_null) {
                one.insert(field.to_owned(), time.unwrap_or_else(object::now));
            }
        }
    }
}

/// Takes of `wanted` the status, and of its metadata what a report of the kind
/// may change.
fn report(resource: &Resource, wanted: &mut Json, current: &Json) {
    let status = wanted.remove("status");
    let meta = wanted.remove("metadata");
    wanted.clone_from(current);
    reset_status(resource, wanted, status.as_ref());
    let (Some(Value::Object(mut meta)), Some(present)) = (meta, object::meta(current)) else {
        return;
    };
    let kept: &[&str] = match resource.rules.status {
        Status::Reported(Metadata::Except(fields)) => fields,
        Status::Reported(Metadata::Given) | Status::Given | Status::NONE => &[],
    };
    for field in kept {
        match present.get(*field) {
            Some(value) => meta.insert((*field).to_owned(), value.clone()),
            None => meta.remove(*field),
        };
    }
    wanted.insert("metadata".to_owned(), meta.into());
}

/// Whether a change makes a new generation.
fn counts(generation: Generation, wanted: &Json, current: &Json) -> bool {
    let differs = |fields: &[&str]| {
        fields
            .iter()
            .any(|field| wanted.get(*field) != current.get(*field))
    };
    let of = |value: &Json, field: &str| {
        let value = object::meta(value).and_then(|meta| meta.get(field));
        value
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    match generation {
        Generation::NONE => false,
        Generation::Counts(fields) | Generation::CountsChanges(fields) => differs(fields),
        Generation::CountsWith(fields, meta) => {
            differs(fields) || of(wanted, meta) != of(current, meta)
        }
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

/// Whether an update lets an object that waits for its deletion go.
pub fn ends(resource: &Resource, wanted: &Json, current: &Json) -> bool {
    let held = resource
        .rules
        .deletion
        .held
        .is_some_and(|held| held(wanted));
    let grace = object::meta(current)
        .and_then(|meta| meta.get("deletionGracePeriodSeconds"))
        .and_then(Value::as_i64);
    object::is_deleting(current)
        && object::finalizers(wanted).is_empty()
        && !held
        && grace.unwrap_or(0) == 0
}
