//! What quotas and ranges of limits must be.

use std::{cmp::Ordering, collections::BTreeSet};

use serde_json::Value;

use super::{
    Errors,
    check::{At, all},
    names, resources,
};
use crate::{
    codec,
    field::FieldError,
    kind::Sub,
    object::{self, Json},
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Scopes that exclude each other.
const OPPOSITES: [(&str, &str); 2] = [
    ("BestEffort", "NotBestEffort"),
    ("Terminating", "NotTerminating"),
];

fn spec(value: &Json) -> At<'_> {
    At::new(value.get("spec").unwrap_or(&Value::Null), "spec")
}

/// A quota.
pub fn quota(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let hard: Vec<&str> = spec
        .entries("hard")
        .map(|(name, _)| name.as_str())
        .collect();
    for (name, amount) in spec.entries("hard") {
        let path = format!("{}[{name}]", spec.child("hard"));
        if resources::standard(name, &path, errors) && !is_quota_resource(name) {
            let why = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&path, &name.as_str().into(), why));
        }
        resources::quantity(name, amount, &path, errors);
    }
    let scopes = spec.items("scopes");
    let shown = spec.value.get("scopes").unwrap_or(&Value::Null);
    let path = spec.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(&scope.as_text()) {
            errors.push(FieldError::invalid(&path, shown, "unsupported scope"));
        }
        for _ in hard
            .iter()
            .filter(|name| !scope_fits(scope.as_text(), name))
        {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(&path, shown, why));
        }
    }
    let names = scopes.iter().map(At::as_text).collect();
    conflicts(&names, &path, &shown.to_string(), errors);
    if let Some(selector) = spec.get("scopeSelector") {
        scope_selector(&selector, &hard, errors);
    }
}

fn conflicts(scopes: &BTreeSet<&str>, path: &str, shown: &str, errors: &mut Errors) {
    for (one, other) in OPPOSITES {
        if scopes.contains(one) && scopes.contains(other) {
            errors.push(FieldError::invalid_shown(path, shown, "conflicting scopes"));
        }
    }
}

/// Names that a quota may count, `count/` and requests of others aside.
fn is_quota_resource(name: &str) -> bool {
    name.contains('/')
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || matches!(
            name,
            "cpu"
                | "memory"
                | "ephemeral-storage"
                | "requests.cpu"
                | "requests.memory"
                | "requests.storage"
                | "requests.ephemeral-storage"
                | "limits.cpu"
                | "limits.memory"
                | "limits.ephemeral-storage"
        )
        || resources::COUNTED.contains(&name)
}

/// Whether a scope has a meaning for a resource.
fn scope_fits(scope: &str, name: &str) -> bool {
    let counted = matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
    );
    let is_standard = !name.contains('/') && is_quota_resource(name);
    if !is_standard {
        return true;
    }
    match scope {
        "BestEffort" => name == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || counted || name.contains("hugepages-"),
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn scope_selector(at: &At<'_>, hard: &[&str], errors: &mut Errors) {
    let path = at.child("matchExpressions");
    let wrong = |field: &str, shown: &Value, why: &str| {
        FieldError::invalid(format!("{path}.{field}"), shown, why)
    };
    let requirements = at.items("matchExpressions");
    let shown = in_go(&requirements);
    for one in &requirements {
        let (scope, operator) = (one.text("scopeName"), one.text("operator"));
        if !SCOPES.contains(&scope) {
            errors.push(wrong("scopeName", &scope.into(), "unsupported scope"));
        }
        for _ in hard.iter().filter(|name| !scope_fits(scope, name)) {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid_shown(&path, &shown, why));
        }
        let plain = SCOPES[..4].contains(&scope) || scope == "CrossNamespacePodAffinity";
        if plain && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(wrong("operator", &operator.into(), why));
        }
        let values = one.value.get("values").unwrap_or(&Value::Null);
        let none = one.items("values").is_empty();
        match operator {
            "In" | "NotIn" if none => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(format!("{path}.values"), why));
            }
            "Exists" | "DoesNotExist" if !none => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(wrong("values", values, why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(wrong(
                "operator",
                &other.into(),
                "not a valid selector operator",
            )),
        }
    }
    let scopes = requirements
        .iter()
        .map(|one| one.text("scopeName"))
        .collect();
    conflicts(&scopes, &path, &shown, errors);
}

/// A selector as Go shows it.
fn in_go(requirements: &[At<'_>]) -> String {
    let one = |one: &At<'_>| {
        format!(
            "{{\"ScopeName\":{},\"Operator\":{},\"Values\":{}}}",
            Value::from(one.text("scopeName")),
            Value::from(one.text("operator")),
            one.value.get("values").unwrap_or(&Value::Null)
        )
    };
    let all: Vec<String> = requirements.iter().map(one).collect();
    format!("{{\"MatchExpressions\":[{}]}}", all.join(","))
}

/// The scopes of a quota stay.
pub fn scopes_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let (new, old) = (spec(value), spec(current));
    let of = |spec: &At<'_>| -> BTreeSet<String> {
        let items = spec.items("scopes");
        items.iter().map(|one| one.as_text().to_owned()).collect()
    };
    if of(&new) != of(&old) {
        let shown = new.value.get("scopes").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid(
            new.child("scopes"),
            shown,
            "field is immutable",
        ));
    }
}

/// A range of limits.
pub fn limits(value: &Json, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for limit in spec(value).items("limits") {
        let kind = limit.text("type");
        let wrong = names::qualified(kind);
        let known = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind);
        if wrong.is_empty() && !kind.contains('/') && !known {
            let why = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(limit.child("type"), &kind.into(), why));
        }
        all(&limit.child("type"), kind, wrong, errors);
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(limit.child("type"), &kind.into()));
        }
        limit_names(&limit, kind, errors);
        amounts(&limit, errors);
    }
}

fn limit_names(limit: &At<'_>, kind: &str, errors: &mut Errors) {
    for field in [
        "max",
        "min",
        "default",
        "defaultRequest",
        "maxLimitRequestRatio",
    ] {
        let defaults = matches!(field, "default" | "defaultRequest");
        if defaults && kind == "Pod" {
            if limit.entries(field).next().is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(limit.child(field), why));
            }
            continue;
        }
        for (name, _) in limit.entries(field) {
            let path = format!("{}[{name}]", limit.child(field));
            if matches!(kind, "Pod" | "Container") {
                resources::name(name, &path, errors);
            } else {
                resources::standard(name, &path, errors);
            }
        }
        let storage = |field: &str| limit.entries(field).any(|(name, _)| name == "storage");
        if field == "defaultRequest"
            && kind == "PersistentVolumeClaim"
            && !storage("min")
            && !storage("max")
        {
            let why =
                "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(limit.child("limits"), why));
        }
    }
}

/// The order of the amounts of each resource.
fn amounts(limit: &At<'_>, errors: &mut Errors) {
    let fields = ["min", "max", "default", "defaultRequest"];
    let names: BTreeSet<&String> = fields
        .iter()
        .flat_map(|field| limit.entries(field).map(|(name, _)| name))
        .collect();
    for name in names {
        let amount = |field: &str| {
            limit
                .value
                .get(field)
                .and_then(|map| map.get(name)?.as_str())
        };
        for (low, high, shown, place, words) in [
            ("min", "max", "min", "min", ("min", "max")),
            (
                "min",
                "defaultRequest",
                "defaultRequest",
                "defaultRequest",
                ("min", "default request"),
            ),
            (
                "defaultRequest",
                "max",
                "defaultRequest",
                "defaultRequest",
                ("default request", "max"),
            ),
            (
                "defaultRequest",
                "default",
                "defaultRequest",
                "defaultRequest",
                ("default request", "default limit"),
            ),
            ("min", "default", "min", "default", ("min", "default")),
            ("default", "max", "default", "default", ("default", "max")),
        ] {
            let (Some(less), Some(more)) = (amount(low), amount(high)) else {
                continue;
            };
            if codec::compare_quantities(less, more) == Some(Ordering::Greater) {
                let path = format!("{}[{name}]", limit.child(place));
                let why = format!(
                    "{} value {less} is greater than {} value {more}",
                    words.0, words.1
                );
                let shown = amount(shown).unwrap_or("").into();
                errors.push(FieldError::invalid(path, &shown, &why));
            }
        }
    }
}

/// The ranges of addresses of a node's pods.
pub fn pod_ranges(spec: &Value, errors: &mut Errors) {
    let spec = At::new(spec, "spec");
    let ranges = spec.items("podCIDRs");
    for one in &ranges {
        super::network::legacy_range(&one.path, one.as_text(), errors);
    }
    // What stood for the first one before there were several.
    let first = spec.text("podCIDR");
    if ranges.is_empty() && !first.is_empty() {
        super::network::legacy_range("spec.podCIDRs[0]", first, errors);
    }
}

/// Finalizers of a namespace's specification.
pub fn namespace(value: &Json, errors: &mut Errors) {
    for one in spec(value).items("finalizers") {
        finalizer("spec.finalizers", one.as_text(), errors);
    }
}

/// What a subresource makes of a namespace: it is active until it is deleted, and
/// finalizers have upstream's names or a domain.
pub fn namespace_kept(sub: Sub, value: &Json, current: &Json, errors: &mut Errors) {
    match sub {
        Sub::Status => {
            let phase = object::str_at(value, &["status", "phase"]);
            let (wanted, why) = if object::is_deleting(value) || object::is_deleting(current) {
                let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
                ("Terminating", why)
            } else {
                (
                    "Active",
                    "may only be 'Active' if `deletionTimestamp` is empty",
                )
            };
            if phase != wanted {
                errors.push(FieldError::invalid("status.Phase", &phase.into(), why));
            }
        }
        Sub::Finalize => {
            for one in spec(value).items("finalizers") {
                finalizer(&one.path, one.as_text(), errors);
            }
        }
        _ => {}
    }
}

fn finalizer(path: &str, text: &str, errors: &mut Errors) {
    all(path, text, names::qualified(text), errors);
    if !text.contains('/') && !matches!(text, "kubernetes" | "orphan" | "foregroundDeletion") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, &text.into(), why));
    }
}
