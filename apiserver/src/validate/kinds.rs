//! Kinds with a few rules of their own.

use serde_json::Value;

use super::{
    Errors,
    check::{At, label_selector},
    names,
    pod::{self, list, text},
};
use crate::{field::FieldError, object::Json};

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
            &["NoExecute", "NoSchedule", "PreferNoSchedule"],
            errors,
        );
    }
}

/// A disruption budget.
pub fn budget(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let given = |field: &str| spec.get(field).filter(|one| !one.is_null());
    if given("minAvailable").is_some() && given("maxUnavailable").is_some() {
        errors.push(FieldError::invalid(
            "spec",
            spec,
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = given(field) {
            number_or_percent(value, &format!("spec.{field}"), errors);
        }
    }
    if let Some(selector) = given("selector") {
        label_selector(&At::new(selector, "spec.selector"), errors);
    }
}

fn number_or_percent(value: &Value, at: &str, errors: &mut Errors) {
    let why = match value {
        Value::String(text) => match text.strip_suffix('%').map(str::parse::<u32>) {
            Some(Ok(0..=100)) => return,
            Some(Ok(_)) => "must not be greater than 100%",
            _ => {
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            }
        },
        value if value.as_i64().is_some_and(|number| number >= 0) => return,
        _ => "must be greater than or equal to 0",
    };
    errors.push(FieldError::invalid(at, value, why));
}
