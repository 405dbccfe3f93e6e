//! Kinds with a few rules of their own.

use serde_json::Value;

use super::{
    Errors,
    check::{At, NO_PERCENT, label_selector},
    names,
    pod::{self, list, text},
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

/// A lease.
pub fn lease(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_i64);
    if let Some(seconds) = seconds.filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            &seconds.into(),
            "must be greater than 0",
        ));
    }
    pod::negative(spec, "leaseTransitions", "spec", errors);
}

/// A role or a cluster role.
pub fn role(value: &Json, namespaced: bool, errors: &mut Errors) {
    let rules = value.get("rules").and_then(Value::as_array);
    let mut declared = Errors::new();
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let at = format!("rules[{index}]");
        if list(rule, "verbs").is_empty() {
            declared.push(FieldError::required(format!("{at}.verbs"), ""));
        }
        let urls = list(rule, "nonResourceURLs");
        if !urls.is_empty() {
            let at = format!("{at}.nonResourceURLs");
            let shown = Value::Array(urls.to_vec());
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&at, &shown, detail));
            }
            if ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|field| !list(rule, field).is_empty())
            {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(at, &shown, detail));
            }
            continue;
        }
        for (field, detail) in [
            (
                "apiGroups",
                "resource rules must supply at least one api group",
            ),
            (
                "resources",
                "resource rules must supply at least one resource",
            ),
        ] {
            if list(rule, field).is_empty() {
                errors.push(FieldError::required(format!("{at}.{field}"), detail));
            }
        }
    }
    errors.extend(declared);
}

/// A node.
pub fn node(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    super::quota::pod_ranges(spec, errors);
    for (index, taint) in list(spec, "taints").iter().enumerate() {
        // Upstream says where by this name.
        let at = format!("metadata.taints[{index}]");
        let key = text(taint, "key");
        for why in names::qualified(key) {
            errors.push(FieldError::invalid(format!("{at}.key"), &key.into(), &why));
        }
        let given = text(taint, "value");
        if !names::is_label_value(given) {
            errors.push(FieldError::invalid(
                format!("{at}.value"),
                &given.into(),
                names::LABEL_VALUE,
            ));
        }
        if text(taint, "effect").is_empty() {
            errors.push(FieldError::required(format!("{at}.effect"), ""));
        }
        pod::one_of(
            taint,
            "effect",
            &at,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            errors,
        );
    }
}

/// A disruption budget.
pub fn budget(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let given = |field: &str| spec.get(field).filter(|one| !one.is_null());
    if given("minAvailable").is_some() && given("maxUnavailable").is_some() {
        let shown = |field: &str| given(field).map_or("null".to_owned(), Value::to_string);
        // As Go shows it.
        let shown = format!(
            "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
            shown("minAvailable"),
            shown("selector"),
            shown("maxUnavailable"),
            shown("unhealthyPodEvictionPolicy"),
        );
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid_shown("spec", &shown, why));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = given(field) {
            number_or_percent(value, &format!("spec.{field}"), errors);
        }
    }
    if let Some(selector) = given("selector") {
        label_selector(&At::new(selector, "spec.selector"), errors);
    }
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    At::new(spec, "spec").one_of("unhealthyPodEvictionPolicy", &policies, errors);
}

/// The highest priority that is not the system's own.
const PRIORITY_MAX: i64 = 1_000_000_000;
/// Classes of the system: names and values.
const SYSTEM: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// A class of priorities.
pub fn priority(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    let name = object::meta_str(value, "name");
    let number = whole.number("value").unwrap_or(0);
    if name.starts_with("system-") {
        let global = whole.flag("globalDefault");
        let why = match SYSTEM.iter().find(|(known, _)| *known == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, known)) if *known != number => {
                Some(format!("value of {name} PriorityClass must be {known}"))
            }
            Some(_) if global => Some(format!(
                "globalDefault of {name} PriorityClass must be false"
            )),
            Some(_) => None,
        };
        if let Some(why) = why {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.push(FieldError::forbidden("metadata.name", &why));
        }
    } else if number > PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        errors.push(FieldError::forbidden("value", &why));
    }
    if whole.get("preemptionPolicy").is_some() {
        whole.word(
            "preemptionPolicy",
            &["PreemptLowerPriority", "Never"],
            errors,
        );
    }
}

/// What of a class of priorities stays.
pub fn priority_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let of = |value: &Json| value.get("value").and_then(Value::as_i64).unwrap_or(0);
    if of(value) != of(current) {
        let why = "may not be changed in an update.";
        errors.push(FieldError::forbidden("value", why));
    }
    super::fixed(&[&["preemptionPolicy"]], value, current, errors);
}

fn number_or_percent(value: &Value, at: &str, errors: &mut Errors) {
    let why = match value {
        Value::String(text) => match text.strip_suffix('%').map(str::parse::<u32>) {
            Some(Ok(0..=100)) => return,
            Some(Ok(_)) => "must not be greater than 100%",
            _ => NO_PERCENT,
        },
        value if value.as_i64().is_some_and(|number| number >= 0) => return,
        _ => "must be greater than or equal to 0",
    };
    errors.push(FieldError::invalid(at, value, why));
}
