//! What drivers of storage, their capacities and classes must be; and classes
//! of runtimes.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use super::{
    Errors, affinity,
    check::{At, all, label_selector},
    meta, names, resources, volume,
};
use crate::{codec, field::FieldError, object::Json};

/// A driver.
pub fn driver(value: &Json, errors: &mut Errors) {
    let spec = At::new(value.get("spec").unwrap_or(&Value::Null), "spec");
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if spec.get(field).is_none() {
            errors.push(FieldError::required(spec.child(field), ""));
        }
    }
    spec.one_of(
        "fsGroupPolicy",
        &["File", "None", "ReadWriteOnceWithFSType"],
        errors,
    );
    let mut seen = BTreeSet::new();
    let requests = spec.items("tokenRequests");
    for one in &requests {
        if !seen.insert(one.text("audience")) {
            let path = one.child("audience");
            errors.push(FieldError::duplicate(path, &one.text("audience").into()));
        }
        let field = "expirationSeconds";
        let why = "may not specify a duration less than 10 minutes";
        one.within(field, 600, i64::MAX, why, errors);
        let why = "may not specify a duration larger than 2^32 seconds";
        one.within(field, i64::MIN, 1 << 32, why, errors);
    }
    if let Some(secrets) = spec
        .get("serviceAccountTokenInSecrets")
        .filter(|_| requests.is_empty())
    {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(FieldError::invalid(secrets.path, secrets.value, why));
    }
    for one in spec.items("volumeLifecycleModes") {
        let known = ["Persistent", "Ephemeral"];
        if !known.contains(&one.as_text()) {
            let path = spec.child("volumeLifecycleModes");
            errors.push(FieldError::unsupported(path, one.as_text(), &known));
        }
    }
    let why = "must be greater than or equal to 10 seconds";
    spec.within(
        "nodeAllocatableUpdatePeriodSeconds",
        10,
        i64::MAX,
        why,
        errors,
    );
}

/// The drivers of a node.
pub fn node(value: &Json, errors: &mut Errors) {
    let none = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    let mut names = BTreeSet::new();
    for one in spec.items("drivers") {
        volume::driver(&one, "name", errors);
        one.required("nodeID", errors);
        if let Some(count) = one.get("allocatable") {
            count.not_negative("count", errors);
        }
        if !names.insert(one.text("name").to_owned()) {
            let name = one.text("name").into();
            errors.push(FieldError::duplicate(one.child("name"), &name));
        }
        let mut keys = BTreeSet::new();
        for key in one.items("topologyKeys") {
            let key = key.as_text();
            if key.is_empty() {
                errors.push(FieldError::required(&one.path, ""));
            }
            if !keys.insert(key.to_owned()) {
                errors.push(FieldError::duplicate(&one.path, &key.into()));
            }
            all(&one.path, key, names::qualified(key), errors);
        }
    }
}

/// A class of volumes: who makes them, and where.
pub fn class(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    let provisioner = whole.text("provisioner").to_ascii_lowercase();
    let mut declared = Errors::new();
    if provisioner.is_empty() {
        declared.push(FieldError::required("provisioner", ""));
    } else {
        let wrong = names::qualified(&provisioner);
        all("provisioner", &provisioner, wrong, errors);
    }
    if whole.entries("parameters").any(|(key, _)| key.is_empty()) {
        let why = "field can not be empty.";
        errors.push(FieldError::invalid("parameters", &"".into(), why));
    }
    if !whole.text("reclaimPolicy").is_empty() {
        whole.one_of("reclaimPolicy", &["Delete", "Retain"], errors);
    }
    let modes = ["Immediate", "WaitForFirstConsumer"];
    whole.one_of("volumeBindingMode", &modes, errors);
    topologies(&whole, errors);
    errors.extend(declared);
}

fn topologies(class: &At<'_>, errors: &mut Errors) {
    let terms = class.items("allowedTopologies");
    // Upstream compares with as many empty ones besides.
    let mut seen = vec![BTreeMap::new(); terms.len()];
    for term in terms {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for one in term.items("matchLabelExpressions") {
            let key = one.text("key");
            let values = one.items("values");
            let mut set = BTreeSet::new();
            let mut wrong = Errors::new();
            if values.is_empty() {
                wrong.push(FieldError::required(one.child("values"), ""));
            }
            for value in values {
                if !set.insert(value.as_text().to_owned()) {
                    wrong.push(FieldError::duplicate(value.path, value.value));
                }
            }
            all(&one.child("key"), key, names::qualified(key), &mut wrong);
            if found.contains_key(key) {
                errors.push(FieldError::duplicate(one.child("key"), &key.into()));
            } else {
                found.insert(key.to_owned(), set);
            }
            errors.extend(wrong);
        }
        for _ in seen.iter().filter(|other| **other == found) {
            let path = term.child("matchLabelExpressions");
            errors.push(FieldError::duplicate(path, &"".into()));
        }
        seen.push(found);
    }
}

/// How much a class has where.
pub fn capacity(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    whole.named("storageClassName", names::SUBDOMAIN_RULE, errors);
    if let Some(topology) = whole.get("nodeTopology") {
        label_selector(&topology, errors);
    }
    if let Some(amount) = whole.get("capacity")
        && codec::compare_quantities(amount.as_text(), "0") == Some(Ordering::Less)
    {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(amount.path, amount.value, why));
    }
}

/// A class of attributes of volumes.
pub fn attributes(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    let name = whole.text("driverName");
    if name.is_empty() {
        errors.push(FieldError::required("driverName", ""));
    } else {
        let lower = name.to_ascii_lowercase();
        let wrong = names::qualified(&lower);
        super::check::all("driverName", &lower, wrong, errors);
    }
    let mut entries = whole.entries("parameters").peekable();
    if entries.peek().is_none() {
        let why = "must contain at least one key/value pair";
        errors.push(FieldError::required("parameters", why));
    }
    if entries.any(|(key, _)| key.is_empty()) {
        let why = "field can not be empty.";
        errors.push(FieldError::invalid("parameters", &"".into(), why));
    }
}

/// Neither of them changes.
pub fn attributes_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let changed = ["driverName", "parameters"]
        .into_iter()
        .filter(|field| value.get(*field) != current.get(*field));
    let found = changed
        .map(|field| FieldError::forbidden(field, &format!("updates to {field} are forbidden.")));
    super::before(errors, found.collect());
}

/// A class of runtimes.
pub fn runtime(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    if let Some(overhead) = whole.get("overhead") {
        for (name, amount) in overhead.entries("podFixed") {
            let path = format!("overhead.limits[{name}]");
            resources::name(name, &path, errors);
            resources::quantity(name, amount, &path, errors);
        }
    }
    if let Some(scheduling) = whole.get("scheduling") {
        let labels = scheduling.value.get("nodeSelector");
        meta::labels(labels, "scheduling.nodeSelector", errors);
        affinity::tolerations(&scheduling, errors);
    }
    // Declared: after the rest.
    if whole.text("handler").is_empty() {
        errors.push(FieldError::required("handler", ""));
    } else {
        whole.named("handler", names::LABEL_RULE, errors);
    }
}

/// A migration of stored objects.
pub fn migration(value: &Json, errors: &mut Errors) {
    let spec = At::new(value.get("spec").unwrap_or(&Value::Null), "spec");
    let none = Value::Null;
    let resource = spec.value.get("resource").unwrap_or(&none);
    let resource = At::new(resource, "spec.resource");
    if resource.text("resource").is_empty() {
        let why = "resource is required to be set";
        errors.push(FieldError::required(resource.child("resource"), why));
    } else {
        resource.named("resource", names::LABEL_1035_RULE, errors);
    }
    if !resource.text("group").is_empty() {
        resource.named("group", names::SUBDOMAIN_RULE, errors);
    }
}

/// What is migrated stays.
pub fn migration_kept(value: &Json, current: &Json, errors: &mut Errors) {
    if value.get("spec") != current.get("spec") {
        let of = |field: &str| {
            let resource = value.get("spec").and_then(|spec| spec.get("resource"));
            let text = resource
                .and_then(|one| one.get(field))
                .and_then(Value::as_str);
            text.unwrap_or("").to_owned()
        };
        let shown =
            serde_json::json!({"Resource": {"group": of("group"), "resource": of("resource")}});
        errors.push(FieldError::invalid("spec", &shown, "field is immutable"));
    }
}
