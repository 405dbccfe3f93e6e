//! Pods and the templates of pods.

use std::{cmp::Ordering, collections::HashSet};

use serde_json::Value;

use super::{Errors, names};
use crate::{
    codec,
    field::FieldError,
    object::{self, Json},
};

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

pub fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// One of a few words.
pub fn one_of(value: &Value, field: &str, at: &str, supported: &[&str], errors: &mut Errors) {
    let given = text(value, field);
    if !given.is_empty() && !supported.contains(&given) {
        errors.push(FieldError::unsupported(
            format!("{at}.{field}"),
            given,
            supported,
        ));
    }
}

/// Checks the specification of a pod; `restart` names the only restart
/// policies that its owner takes.
pub fn spec(spec: Option<&Value>, at: &str, restart: Option<&[&str]>, errors: &mut Errors) {
    let Some(spec) = spec else {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
        return;
    };
    if list(spec, "containers").is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut volumes = HashSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = format!("{at}.volumes[{index}]");
        name(volume, &at, &mut volumes, errors);
        if volume.as_object().is_some_and(|map| map.len() > 2) {
            errors.push(FieldError::forbidden(
                at,
                "may not specify more than 1 volume type",
            ));
        }
    }
    let mut seen = HashSet::new();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, one) in list(spec, field).iter().enumerate() {
            container(
                one,
                &format!("{at}.{field}[{index}]"),
                &mut seen,
                &volumes,
                errors,
            );
        }
    }
    one_of(
        spec,
        "restartPolicy",
        at,
        restart.unwrap_or(&["Always", "OnFailure", "Never"]),
        errors,
    );
    one_of(
        spec,
        "dnsPolicy",
        at,
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        errors,
    );
    negative(spec, "terminationGracePeriodSeconds", at, errors);
    super::meta::labels(
        spec.get("nodeSelector"),
        &format!("{at}.nodeSelector"),
        errors,
    );
    let account = text(spec, "serviceAccountName");
    if !account.is_empty() && !names::is_subdomain(account) {
        errors.push(FieldError::invalid(
            format!("{at}.serviceAccountName"),
            &account.into(),
            names::SUBDOMAIN,
        ));
    }
}

/// A number that must not be below zero.
pub fn negative(value: &Value, field: &str, at: &str, errors: &mut Errors) {
    if let Some(number) = value
        .get(field)
        .and_then(Value::as_i64)
        .filter(|number| *number < 0)
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            format!("{at}.{field}"),
            &number.into(),
            detail,
        ));
    }
}

fn name<'a>(value: &'a Value, at: &str, seen: &mut HashSet<&'a str>, errors: &mut Errors) {
    let name = text(value, "name");
    let at = format!("{at}.name");
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if !names::is_label(name) {
        errors.push(FieldError::invalid(at, &name.into(), names::LABEL));
    } else if !seen.insert(name) {
        errors.push(FieldError::duplicate(at, &name.into()));
    }
}

fn container<'a>(
    one: &'a Value,
    at: &str,
    seen: &mut HashSet<&'a str>,
    volumes: &HashSet<&str>,
    errors: &mut Errors,
) {
    name(one, at, seen, errors);
    if text(one, "image").is_empty() {
        errors.push(FieldError::required(format!("{at}.image"), ""));
    }
    one_of(
        one,
        "imagePullPolicy",
        at,
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    one_of(
        one,
        "terminationMessagePolicy",
        at,
        &["FallbackToLogsOnError", "File"],
        errors,
    );
    for (index, port) in list(one, "ports").iter().enumerate() {
        let at = format!("{at}.ports[{index}]");
        match port.get("containerPort").and_then(Value::as_i64) {
            None | Some(0) => errors.push(FieldError::required(format!("{at}.containerPort"), "")),
            Some(number) => self::port(number, format!("{at}.containerPort"), errors),
        }
        if let Some(number) = port
            .get("hostPort")
            .and_then(Value::as_i64)
            .filter(|number| *number != 0)
        {
            self::port(number, format!("{at}.hostPort"), errors);
        }
        one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"], errors);
    }
    for (index, env) in list(one, "env").iter().enumerate() {
        let at = format!("{at}.env[{index}]");
        let name = text(env, "name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if name.contains(|c: char| c == '=' || !(' '..='~').contains(&c)) {
            errors.push(FieldError::invalid(
                format!("{at}.name"),
                &name.into(),
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            ));
        }
        if !text(env, "value").is_empty()
            && env.get("valueFrom").is_some_and(|from| !from.is_null())
        {
            errors.push(FieldError::invalid(
                format!("{at}.valueFrom"),
                &"".into(),
                "may not be specified when `value` is not empty",
            ));
        }
    }
    let mut paths = HashSet::new();
    for (index, mount) in list(one, "volumeMounts").iter().enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        let volume = text(mount, "name");
        if volume.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if !volumes.contains(volume) {
            errors.push(FieldError::not_found(format!("{at}.name"), &volume.into()));
        }
        let path = text(mount, "mountPath");
        if path.is_empty() {
            errors.push(FieldError::required(format!("{at}.mountPath"), ""));
        } else if !paths.insert(path) {
            errors.push(FieldError::invalid(
                format!("{at}.mountPath"),
                &path.into(),
                "must be unique",
            ));
        }
    }
    resources(one.get("resources"), &format!("{at}.resources"), errors);
    within_limits(one.get("resources"), &format!("{at}.resources"), errors);
}

fn resources(resources: Option<&Value>, at: &str, errors: &mut Errors) {
    for list in ["limits", "requests"] {
        let quantities = resources
            .and_then(|resources| resources.get(list))
            .and_then(Value::as_object);
        for (name, quantity) in quantities.into_iter().flatten() {
            if quantity.as_str().is_some_and(|text| text.starts_with('-')) {
                errors.push(FieldError::invalid(
                    format!("{at}.{list}[{name}]"),
                    quantity,
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
}

fn within_limits(resources: Option<&Value>, at: &str, errors: &mut Errors) {
    let of = |list: &str| {
        resources
            .and_then(|resources| resources.get(list))
            .and_then(Value::as_object)
    };
    let (Some(limits), Some(requests)) = (of("limits"), of("requests")) else {
        return;
    };
    for (name, requested) in requests {
        let limit = limits.get(name).and_then(Value::as_str);
        let (Some(limit), Some(text)) = (limit, requested.as_str()) else {
            continue;
        };
        if codec::compare_quantities(text, limit) == Some(Ordering::Greater) {
            errors.push(FieldError::invalid(
                format!("{at}.requests"),
                requested,
                &format!("must be less than or equal to {name} limit of {limit}"),
            ));
        }
    }
}

/// The number of a port.
pub fn port(number: i64, at: String, errors: &mut Errors) {
    if !(1..=65_535).contains(&number) {
        errors.push(FieldError::invalid(
            at,
            &number.into(),
            "must be between 1 and 65535, inclusive",
        ));
    }
}

/// What of a pod's specification can change: images, deadlines, tolerations.
pub fn update(value: &Json, current: &Json, errors: &mut Errors) {
    let masked = |pod: &Json| {
        let mut spec = pod.get("spec").cloned().unwrap_or(Value::Null);
        if let Some(map) = spec.as_object_mut() {
            for field in [
                "activeDeadlineSeconds",
                "tolerations",
                "schedulingGates",
                "terminationGracePeriodSeconds",
            ] {
                map.remove(field);
            }
            for field in ["containers", "initContainers"] {
                for container in map
                    .get_mut(field)
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    if let Some(container) = container.as_object_mut() {
                        container.remove("image");
                    }
                }
            }
            // Only a pod that is held back may still be sent elsewhere.
            if object::at(current, &["spec", "schedulingGates"])
                .is_some_and(|gates| !gates.is_null())
            {
                map.remove("nodeSelector");
                map.remove("affinity");
            }
        }
        spec
    };
    if masked(value) != masked(current) {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}
