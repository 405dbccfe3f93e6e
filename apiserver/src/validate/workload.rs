//! What runs pods, and what leads to them.

use std::collections::HashSet;

use serde_json::Value;

use super::{Errors, meta, names, pod};
use crate::{
    field::FieldError,
    object::{self, Json},
};

fn template(spec: &Value, at: &str, restart: &[&str], errors: &mut Errors) {
    let template = spec.get("template").unwrap_or(&Value::Null);
    let labels = template.get("metadata").and_then(|meta| meta.get("labels"));
    meta::labels(labels, &format!("{at}.template.labels"), errors);
    pod::spec(
        template.get("spec"),
        &format!("{at}.template.spec"),
        Some(restart),
        errors,
    );
}

/// A template that stands alone: its pods may end.
pub fn pod_template(value: &Json, errors: &mut Errors) {
    let template = value.get("template").unwrap_or(&Value::Null);
    let labels = template.get("metadata").and_then(|meta| meta.get("labels"));
    meta::labels(labels, "template.labels", errors);
    pod::spec(template.get("spec"), "template.spec", None, errors);
}

/// A workload whose selector must fit its template.
pub fn selected(kind: &str, value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        pod::negative(spec, field, "spec", errors);
    }
    match spec.get("selector").filter(|selector| !selector.is_null()) {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => fits(selector, spec, kind, errors),
    }
    template(spec, "spec", &["Always"], errors);
    if kind == "Deployment" {
        let strategy = spec.get("strategy").unwrap_or(&Value::Null);
        pod::one_of(
            strategy,
            "type",
            "spec.strategy",
            &["Recreate", "RollingUpdate"],
            errors,
        );
        let rolling = strategy
            .get("rollingUpdate")
            .is_some_and(|update| !update.is_null());
        if strategy.get("type").and_then(Value::as_str) == Some("Recreate") && rolling {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", detail));
        }
    }
}

fn fits(selector: &Value, spec: &Value, kind: &str, errors: &mut Errors) {
    let empty = |field: &str| match selector.get(field) {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        _ => true,
    };
    if empty("matchLabels") && empty("matchExpressions") {
        let name = kind.to_ascii_lowercase();
        errors.push(FieldError::invalid(
            "spec.selector",
            selector,
            &format!("empty selector is invalid for {name}"),
        ));
        return;
    }
    expressions(pod::list(selector, "matchExpressions"), errors);
    let labels = object_at(spec, &["template", "metadata", "labels"]);
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let missing = wanted
        .into_iter()
        .flatten()
        .any(|(key, value)| labels.and_then(|labels| labels.get(key)) != Some(value));
    if missing {
        let shown = labels.cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(
            "spec.template.metadata.labels",
            &shown,
            "`selector` does not match template `labels`",
        ));
    }
}

fn expressions(all: &[Value], errors: &mut Errors) {
    for (index, one) in all.iter().enumerate() {
        let at = format!("spec.selector.matchExpressions[{index}]");
        let given = !pod::list(one, "values").is_empty();
        match pod::text(one, "operator") {
            "In" | "NotIn" if !given => errors.push(FieldError::required(
                format!("{at}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if given => errors.push(FieldError::forbidden(
                format!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                format!("{at}.operator"),
                &other.into(),
                "not a valid selector operator",
            )),
        }
    }
}

fn object_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// A replication controller.
pub fn controller(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    pod::negative(spec, "replicas", "spec", errors);
    if spec
        .get("selector")
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty)
    {
        errors.push(FieldError::required("spec.selector", ""));
    }
    template(spec, "spec", &["Always"], errors);
}

/// A job's specification.
pub fn job(spec: Option<&Value>, at: &str, errors: &mut Errors) {
    let spec = spec.unwrap_or(&Value::Null);
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        pod::negative(spec, field, at, errors);
    }
    pod::one_of(
        spec,
        "completionMode",
        at,
        &["Indexed", "NonIndexed"],
        errors,
    );
    let restart = object_at(spec, &["template", "spec", "restartPolicy"]).and_then(Value::as_str);
    if restart == Some("Always") {
        errors.push(FieldError::required(
            format!("{at}.template.spec.restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        ));
    }
    template(spec, at, &["Always", "OnFailure", "Never"], errors);
}

/// A cron job.
pub fn cron_job(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let schedule = spec.get("schedule").and_then(Value::as_str).unwrap_or("");
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let detail = format!(
            "expected exactly 5 fields, found {}: [{schedule}]",
            schedule.split_whitespace().count()
        );
        errors.push(FieldError::invalid(
            "spec.schedule",
            &schedule.into(),
            &detail,
        ));
    }
    pod::one_of(
        spec,
        "concurrencyPolicy",
        "spec",
        &["Allow", "Forbid", "Replace"],
        errors,
    );
    job(
        object_at(spec, &["jobTemplate", "spec"]),
        "spec.jobTemplate.spec",
        errors,
    );
}

/// A service.
pub fn service(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("");
    pod::one_of(
        spec,
        "type",
        "spec",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        errors,
    );
    pod::one_of(
        spec,
        "sessionAffinity",
        "spec",
        &["ClientIP", "None"],
        errors,
    );
    let ports = spec
        .get("ports")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let headless = object::str_at(value, &["spec", "clusterIP"]) == "None";
    if kind == "ExternalName" {
        let name = spec
            .get("externalName")
            .and_then(Value::as_str)
            .unwrap_or("")
            .trim_end_matches('.');
        if name.is_empty() {
            errors.push(FieldError::required("spec.externalName", ""));
        } else if !names::is_subdomain(name) {
            errors.push(FieldError::invalid(
                "spec.externalName",
                &name.into(),
                names::SUBDOMAIN,
            ));
        }
    } else if ports.is_empty() && !headless {
        errors.push(FieldError::required("spec.ports", ""));
    }
    meta::labels(spec.get("selector"), "spec.selector", errors);
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = port.get("name").and_then(Value::as_str).unwrap_or("");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(format!("{at}.name"), ""));
            }
        } else if !names::is_label(name) {
            errors.push(FieldError::invalid(
                format!("{at}.name"),
                &name.into(),
                names::LABEL,
            ));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), &name.into()));
        }
        pod::port(
            port.get("port").and_then(Value::as_i64).unwrap_or(0),
            format!("{at}.port"),
            errors,
        );
        pod::one_of(port, "protocol", &at, &["SCTP", "TCP", "UDP"], errors);
        if let Some(number) = port.get("targetPort").and_then(Value::as_i64) {
            pod::port(number, format!("{at}.targetPort"), errors);
        }
    }
}
