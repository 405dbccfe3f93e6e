//! What of a pod an update can change: images, deadlines, more tolerations, fewer
//! gates. Source: upstream's `ValidatePodUpdate`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Errors, check::At, pod};
use crate::{
    field::FieldError,
    kind::Sub,
    object::{self, Json},
};

const FIELDS: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub fn update(value: &Json, current: &Json, errors: &mut Errors) {
    let none = json!({});
    let new = At::new(value.get("spec").unwrap_or(&none), "spec");
    let old = At::new(current.get("spec").unwrap_or(&none), "spec");
    for list in ["containers", "initContainers"] {
        let containers = new.items(list);
        if containers.len() != old.items(list).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(new.child(list), why));
            return;
        }
        for one in containers {
            let image = one.text("image");
            if image.is_empty() {
                errors.push(FieldError::required(one.child("image"), ""));
            }
            if image.trim().len() != image.len() {
                let why = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(one.child("image"), &image.into(), why));
            }
        }
    }
    if deadline(&new, &old, errors) {
        return;
    }
    tolerations(&new, &old, errors);
    gates(&new, &old, errors);
    if new.value == old.value {
        return;
    }
    let mut munged = new.value.clone();
    as_before(&mut munged, &old);
    if !old.items("schedulingGates").is_empty() {
        held_back(&mut munged, &new, &old, errors);
    }
    if without_nothing(&munged) != without_nothing(old.value) {
        let why = format!("pod updates may not change fields other than {FIELDS}");
        errors.push(FieldError::forbidden("spec", &why));
    }
}

/// Whether nothing more is looked at.
fn deadline(new: &At<'_>, old: &At<'_>, errors: &mut Errors) -> bool {
    let field = "activeDeadlineSeconds";
    let path = new.child(field);
    let (now, before) = (new.number(field), old.number(field));
    let why = match (now, before) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            "must be between 0 and 2147483647, inclusive"
        }
        (Some(now), Some(before)) if before < now => "must be less than or equal to previous value",
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, &Value::Null, why));
            return false;
        }
        _ => return false,
    };
    errors.push(FieldError::invalid(path, &now.into(), why));
    true
}

fn tolerations(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let but_seconds = |one: &At<'_>| {
        let mut value = one.value.clone();
        if let Some(map) = value.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        value
    };
    let now: Vec<Value> = new.items("tolerations").iter().map(but_seconds).collect();
    let mut before = old.items("tolerations").into_iter();
    if before.any(|one| !now.contains(&but_seconds(&one))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(new.child("tolerations"), why));
    }
}

fn gates(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let before = old.items("schedulingGates");
    let before: BTreeSet<&str> = before.iter().map(|one| one.text("name")).collect();
    for gate in new.items("schedulingGates") {
        let name = gate.text("name");
        if !before.contains(name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(gate.child("name"), &why));
        }
    }
}

/// Makes what may change what it was.
fn as_before(munged: &mut Value, old: &At<'_>) {
    for list in ["containers", "initContainers"] {
        let before = old.items(list);
        let now = munged.get_mut(list).and_then(Value::as_array_mut);
        for (one, before) in now.into_iter().flatten().zip(before) {
            one["image"] = before.value["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        munged[field] = old.value.get(field).cloned().unwrap_or(Value::Null);
    }
    let field = "terminationGracePeriodSeconds";
    if old.number(field).is_some_and(|before| before < 0) && munged[field] == 1 {
        munged[field] = old.value[field].clone();
    }
}

/// Where a pod goes that is still held back can be said more narrowly.
fn held_back(munged: &mut Value, new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let selector = |at: &At<'_>| at.value.get("nodeSelector").cloned().unwrap_or(Value::Null);
    let (now, before) = (selector(new), selector(old));
    let mut kept = old.entries("nodeSelector");
    if kept.any(|(key, value)| now.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(new.child("nodeSelector"), &now, why));
    }
    munged["nodeSelector"] = before;
    let affinity = |at: &At<'_>| at.value.pointer("/affinity/nodeAffinity").cloned();
    let (now, before) = (affinity(new), affinity(old));
    if now == before {
        return;
    }
    node_affinity(now.as_ref(), before.as_ref(), errors);
    if munged["affinity"].is_null() && before.is_none() {
        return;
    }
    munged["affinity"]["nodeAffinity"] = before.unwrap_or(Value::Null);
    if old.get("affinity").is_none() && without_nothing(&munged["affinity"]) == json!({}) {
        munged["affinity"] = Value::Null;
    }
}

fn node_affinity(now: Option<&Value>, before: Option<&Value>, errors: &mut Errors) {
    const REQUIRED: &str = "/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = |affinity: Option<&Value>| {
        let list = affinity.and_then(|affinity| affinity.pointer(REQUIRED)?.as_array());
        list.cloned().unwrap_or_default()
    };
    let (now, before) = (terms(now), terms(before));
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    if !before.is_empty() && before.len() != now.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(path, &now.into(), why));
        return;
    }
    for (index, (old, new)) in before.iter().zip(&now).enumerate() {
        if !only_adds(new, old) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(format!("{path}[{index}]"), new, why));
        }
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let list = |term: &Value, field: &str| pod::list(term, field).to_vec();
    // A term that selects nothing would come to select something.
    if lists.iter().all(|field| list(old, field).is_empty())
        && lists.iter().any(|field| !list(new, field).is_empty())
    {
        return false;
    }
    lists.iter().all(|field| {
        let (now, before) = (list(new, field), list(old, field));
        now.starts_with(&before)
    })
}

/// The value without fields that say nothing.
fn without_nothing(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), without_nothing(value)))
            .filter(|(_, value)| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                _ => true,
            })
            .collect(),
        Value::Array(list) => list.iter().map(without_nothing).collect(),
        value => value.clone(),
    }
}

/// What a subresource makes of a pod.
pub fn part(sub: Sub, value: &Json, current: &Json, errors: &mut Errors) {
    if !matches!(sub, Sub::EphemeralContainers | Sub::Resize) {
        return;
    }
    pod::spec(value.get("spec"), "spec", errors);
    let mirror = ["metadata", "annotations", "kubernetes.io/config.mirror"];
    if object::at(current, &mirror).is_some() {
        let what = if sub == Sub::Resize {
            "static pods cannot be resized"
        } else {
            "static pods do not support ephemeral containers"
        };
        *errors = vec![FieldError::forbidden("", what)];
        return;
    }
    let none = json!({});
    let new = At::new(value.get("spec").unwrap_or(&none), "spec");
    let old = At::new(current.get("spec").unwrap_or(&none), "spec");
    if sub == Sub::Resize {
        resized(&new, &old, errors);
        return;
    }
    let path = new.child("ephemeralContainers");
    let now = new.items("ephemeralContainers");
    for before in old.items("ephemeralContainers") {
        let name = before.text("name");
        let why = match now.iter().find(|one| one.text("name") == name) {
            Some(one) if one.value == before.value => continue,
            Some(_) => format!("existing ephemeral containers {name:?} may not be changed"),
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
        };
        errors.push(FieldError::forbidden(&path, &why));
    }
}

/// Amounts that a container has stay given.
fn resized(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    for (now, before) in new.items("containers").iter().zip(old.items("containers")) {
        for list in ["limits", "requests"] {
            let given = |one: &At<'_>| {
                let resources = one.get("resources");
                let amounts = resources.and_then(|resources| resources.get(list));
                amounts.map_or(Value::Null, |amounts| amounts.value.clone())
            };
            let (now_has, had) = (given(now), given(&before));
            let had = had.as_object();
            for name in had.into_iter().flatten().map(|(name, _)| name) {
                if now_has.get(name).is_none() {
                    let why = format!("resource {list} cannot be removed");
                    let path = format!("{}.resources.{list}", now.path);
                    errors.push(FieldError::forbidden(path, &why));
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Json {
        let mut value = Json::new();
        value.insert("spec".to_owned(), spec);
        value
    }

    fn changed(now: Value, before: Value) -> Vec<String> {
        let mut errors = Errors::new();
        update(&pod(now), &pod(before), &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn some_of_it_can_change() {
        let before = json!({"containers": [{"name": "c", "image": "a"}],
            "tolerations": [{"key": "k", "tolerationSeconds": 5}]});
        let mut now = before.clone();
        now["containers"][0]["image"] = "b".into();
        now["activeDeadlineSeconds"] = 5.into();
        now["tolerations"][0]["tolerationSeconds"] = 6.into();
        assert_eq!(changed(now, before.clone()), Vec::<String>::new());
        let mut now = before.clone();
        now["tolerations"] = json!([]);
        assert_eq!(changed(now, before.clone()), ["spec.tolerations"]);
        let mut now = before.clone();
        now["terminationGracePeriodSeconds"] = 1.into();
        assert_eq!(changed(now, before.clone()), ["spec"]);
        let mut now = before.clone();
        now["containers"] = json!([]);
        assert_eq!(changed(now, before), ["spec.containers"]);
    }

    #[test]
    fn one_that_is_held_back_can_be_sent_elsewhere() {
        let before = json!({"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}});
        let mut now = before.clone();
        now["nodeSelector"]["c"] = "d".into();
        now["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": []}]}}});
        now["schedulingGates"] = json!([]);
        assert_eq!(changed(now.clone(), before.clone()), Vec::<String>::new());
        now["nodeSelector"] = json!({"c": "d"});
        assert_eq!(changed(now, before), ["spec.nodeSelector"]);
    }
}
