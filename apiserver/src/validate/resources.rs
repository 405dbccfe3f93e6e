//! Amounts of resources. Source: upstream's `pkg/apis/core/validation`.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    Errors,
    check::{At, all},
    names,
};
use crate::{codec, field::FieldError};

/// What a container asks for and what it may take.
pub fn resources(at: &At<'_>, claims: &[&str], errors: &mut Errors) {
    amounts(at, self::name, errors);
    claimed(at, claims, errors);
}

/// The same of the containers of a pod together.
pub fn of_pod(at: &At<'_>, claims: &[&str], errors: &mut Errors) {
    amounts(at, pod_name, errors);
    claimed(at, claims, errors);
}

fn amounts(at: &At<'_>, named: fn(&str, &str, &mut Errors), errors: &mut Errors) {
    for (name, amount) in at.entries("limits") {
        let path = format!("{}[{name}]", at.child("limits"));
        named(name, &path, errors);
        quantity(name, amount, &path, errors);
    }
    let requests = at.child("requests");
    for (name, amount) in at.entries("requests") {
        let path = format!("{requests}[{name}]");
        named(name, &path, errors);
        quantity(name, amount, &path, errors);
        let limit = at
            .value
            .pointer("/limits")
            .and_then(|limits| limits.get(name));
        let overcommitted = !name.contains('/') && !name.starts_with("hugepages-")
            || name.starts_with("kubernetes.io/");
        let (Some(limit), Some(asked)) = (limit.and_then(Value::as_str), amount.as_str()) else {
            if !overcommitted {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(at.child("limits"), why));
            }
            continue;
        };
        let why = match codec::compare_quantities(asked, limit) {
            Some(Ordering::Equal) => continue,
            _ if !overcommitted => format!("must be equal to {name} limit of {limit}"),
            Some(Ordering::Greater) => {
                format!("must be less than or equal to {name} limit of {limit}")
            }
            _ => continue,
        };
        errors.push(FieldError::invalid(requests.clone(), amount, &why));
    }
    let named = ["limits", "requests"]
        .iter()
        .flat_map(|list| at.entries(list).map(|(name, _)| name.as_str()));
    let (mut huge, mut common) = (false, false);
    for name in named {
        huge |= name.starts_with("hugepages-");
        common |= matches!(name, "cpu" | "memory");
    }
    if huge && !common {
        let why = "HugePages require cpu or memory";
        errors.push(FieldError::forbidden(at.path.clone(), why));
    }
}

pub fn claimed(at: &At<'_>, claims: &[&str], errors: &mut Errors) {
    let mut seen = std::collections::HashSet::new();
    for claim in at.items("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.push(FieldError::required(claim.path.clone(), ""));
            continue;
        }
        let key = match request {
            "" => name.to_owned(),
            request => format!("{name}/{request}"),
        };
        if !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(claim.path.clone(), &key.into()));
        } else if !claims.contains(&name) {
            let known = match claims {
                [] => " which is empty".to_owned(),
                claims => format!(": {}", claims.join(", ")),
            };
            let why = format!("must be one of the names in pod.spec.resourceClaims{known}");
            errors.push(FieldError::not_among(claim.path.clone(), name, &why));
        }
    }
}

/// Objects that a quota counts by the names of their resources.
pub const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// An amount that is not below nothing, whole where parts make no sense.
pub fn quantity(name: &str, amount: &Value, path: &str, errors: &mut Errors) {
    let text = amount.as_str().unwrap_or("");
    if codec::compare_quantities(text, "0") == Some(Ordering::Less) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path, amount, why));
    }
    let whole =
        COUNTED.contains(&name) || name.contains('/') && !name.starts_with("kubernetes.io/");
    if whole && text.ends_with(['m', 'u', 'n']) {
        errors.push(FieldError::invalid(path, amount, "must be an integer"));
    }
}

/// Whether a name is well formed; without a domain it must be a standard one.
pub fn standard(name: &str, path: &str, errors: &mut Errors) -> bool {
    let wrong = names::qualified(name);
    let good = wrong.is_empty();
    all(path, name, wrong, errors);
    let known = matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "storage"
            | "pods"
            | "services"
            | "replicationcontrollers"
            | "resourcequotas"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "requests.storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
    ) || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-");
    if good && !name.contains('/') && !known {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, &name.into(), why));
    }
    good
}

/// A name that a pod may ask for.
fn pod_name(name: &str, path: &str, errors: &mut Errors) {
    let before = errors.len();
    standard(name, path, errors);
    let known = matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    if errors.len() == before && !known {
        let all = ["cpu", "hugepages-", "memory"];
        errors.push(FieldError::unsupported(path, name, &all));
    }
}

/// A name that a container may ask for.
pub fn name(name: &str, path: &str, errors: &mut Errors) {
    let container =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if standard(name, path, errors) && !name.contains('/') && !container {
        let why = "must be a standard resource for containers";
        errors.push(FieldError::invalid(path, &name.into(), why));
    }
}
