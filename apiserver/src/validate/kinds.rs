//! Kinds with a few rules of their own.

use serde_json::Value;

use super::{
    Errors, meta, names,
    pod::{self, list, text},
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

/// An event of `events.k8s.io` says when, who and what.
pub fn new_event(value: &Json) -> Errors {
    let mut errors = Errors::new();
    if object::str_at(value, &["eventTime"]).is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    for (field, most) in [
        ("reportingController", 253),
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
    ] {
        let text = object::str_at(value, &[field]);
        if text.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if text.len() > most {
            errors.push(FieldError::too_long(field, most));
        }
    }
    if object::str_at(value, &["note"]).len() > 1_024 {
        errors.push(FieldError::too_long("note", 1_024));
    }
    let kind = object::str_at(value, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::unsupported(
            "type",
            kind,
            &["Normal", "Warning"],
        ));
    }
    errors
}

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
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let at = format!("rules[{index}]");
        if list(rule, "verbs").is_empty() {
            let detail = "verbs must contain at least one value";
            errors.push(FieldError::required(format!("{at}.verbs"), detail));
        }
        let urls = list(rule, "nonResourceURLs");
        if !urls.is_empty() {
            let at = format!("{at}.nonResourceURLs");
            let shown = Value::Array(urls.to_vec());
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(at, &shown, detail));
            } else if ["apiGroups", "resources", "resourceNames"]
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
}

/// A node.
pub fn node(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
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

/// An ingress.
pub fn ingress(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let rules = list(spec, "rules");
    match spec.get("defaultBackend").filter(|one| !one.is_null()) {
        Some(backend) => self::backend(backend, "spec.defaultBackend", errors),
        None if rules.is_empty() => errors.push(FieldError::invalid(
            "spec",
            spec,
            "either `defaultBackend` or `rules` must be specified",
        )),
        None => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        let host = text(rule, "host");
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if !host.is_empty() && !names::is_subdomain(plain) {
            errors.push(FieldError::invalid(
                format!("{at}.host"),
                &host.into(),
                names::SUBDOMAIN,
            ));
        }
        let Some(http) = rule.get("http").filter(|http| !http.is_null()) else {
            continue;
        };
        let paths = list(http, "paths");
        if paths.is_empty() {
            errors.push(FieldError::required(format!("{at}.http.paths"), ""));
        }
        for (index, path) in paths.iter().enumerate() {
            self::path(path, &format!("{at}.http.paths[{index}]"), errors);
        }
    }
}

fn path(path: &Value, at: &str, errors: &mut Errors) {
    let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
    if text(path, "pathType").is_empty() {
        let detail = "pathType must be specified";
        errors.push(FieldError::required(format!("{at}.pathType"), detail));
    }
    pod::one_of(path, "pathType", at, &kinds, errors);
    let given = text(path, "path");
    let free = text(path, "pathType") == "ImplementationSpecific" && given.is_empty();
    if !free && !given.starts_with('/') {
        errors.push(FieldError::invalid(
            format!("{at}.path"),
            &given.into(),
            "must be an absolute path",
        ));
    }
    backend(
        path.get("backend").unwrap_or(&Value::Null),
        &format!("{at}.backend"),
        errors,
    );
}

fn backend(backend: &Value, at: &str, errors: &mut Errors) {
    let given = |field: &str| backend.get(field).filter(|one| !one.is_null());
    match (given("service"), given("resource")) {
        (None, None) => errors.push(FieldError::invalid(
            at,
            &"".into(),
            "resource or service backend is required",
        )),
        (Some(_), Some(_)) => errors.push(FieldError::invalid(
            at,
            &"".into(),
            "cannot set both resource and service backends",
        )),
        (Some(service), None) => {
            let name = text(service, "name");
            if name.is_empty() {
                errors.push(FieldError::required(format!("{at}.service.name"), ""));
            } else if !names::is_label_1035(name) {
                errors.push(FieldError::invalid(
                    format!("{at}.service.name"),
                    &name.into(),
                    names::LABEL_1035,
                ));
            }
            service_port(service, at, errors);
        }
        (None, Some(_)) => {}
    }
}

/// A port of a service, by name or by number.
fn service_port(service: &Value, at: &str, errors: &mut Errors) {
    let port = service.get("port").unwrap_or(&Value::Null);
    let name = text(port, "name");
    let number = port.get("number").and_then(Value::as_i64).unwrap_or(0);
    match (name.is_empty(), number) {
        (true, 0) => errors.push(FieldError::required(at, "port name or number is required")),
        (false, 0) => {
            for why in super::check::port_name(name) {
                let at = format!("{at}.service.port.name");
                errors.push(FieldError::invalid(at, &name.into(), &why));
            }
        }
        (true, number) => pod::port(number, format!("{at}.service.port.number"), errors),
        (false, _) => errors.push(FieldError::invalid(
            at,
            &"".into(),
            "cannot set both port name & port number",
        )),
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
    let labels = object::at(value, &["spec", "selector", "matchLabels"]);
    meta::labels(labels, "spec.selector.matchLabels", errors);
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
