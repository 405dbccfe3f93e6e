//! What runs pods, and what leads to them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Errors, check::At, meta, names, pod};
use crate::{
    field::FieldError,
    object::{self, Json},
};

fn template(spec: &Value, at: &str, restart: &[&str], errors: &mut Errors) {
    let template = spec.get("template").unwrap_or(&Value::Null);
    let labels = template.get("metadata").and_then(|meta| meta.get("labels"));
    meta::labels(labels, &format!("{at}.template.labels"), errors);
    let (spec, at) = (template.get("spec"), format!("{at}.template.spec"));
    pod::spec(spec, &at, errors);
    pod::no_ephemeral(spec, &at, NO_EPHEMERAL, errors);
    // An owner that takes only some policies says so last.
    if restart.len() < 3 {
        let spec = spec.unwrap_or(&Value::Null);
        pod::one_of(spec, "restartPolicy", &at, restart, errors);
    }
}

const NO_EPHEMERAL: &str = "ephemeral containers not allowed in pod template";

/// A template that stands alone: its pods may end.
pub fn pod_template(value: &Json, errors: &mut Errors) {
    let template = value.get("template").unwrap_or(&Value::Null);
    let labels = template.get("metadata").and_then(|meta| meta.get("labels"));
    meta::labels(labels, "template.labels", errors);
    let spec = template.get("spec");
    pod::spec(spec, "template.spec", errors);
    pod::no_ephemeral(spec, "template.spec", NO_EPHEMERAL, errors);
}

/// A workload whose selector must fit its template.
pub fn selected(kind: &str, value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    for (index, claim) in pod::list(spec, "volumeClaimTemplates").iter().enumerate() {
        let at = format!("spec.volumeClaimTemplates[{index}].spec");
        let inner = claim.get("spec").unwrap_or(&Value::Null);
        super::claim::spec(&At::new(inner, at), errors);
    }
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        pod::negative(spec, field, "spec", errors);
    }
    match spec.get("selector").filter(|selector| !selector.is_null()) {
        None => {
            errors.push(FieldError::required("spec.selector", ""));
            // Nothing is selected by none.
            misfit(spec, errors);
        }
        Some(selector) => fits(selector, spec, kind, errors),
    }
    match claimed(spec) {
        Some(whole) => template(&whole, "spec", &["Always"], errors),
        None => template(spec, "spec", &["Always"], errors),
    }
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
        standing_still(strategy, errors);
    }
}

/// A rollout that may neither add a pod nor take one away never moves.
fn standing_still(strategy: &Value, errors: &mut Errors) {
    let zero = |field: &str| {
        let value = strategy.get("rollingUpdate").and_then(|one| one.get(field));
        value.is_some_and(|value| value == 0 || value == "0%")
    };
    if zero("maxUnavailable") && zero("maxSurge") {
        let at = "spec.strategy.rollingUpdate.maxUnavailable";
        let shown = &strategy["rollingUpdate"]["maxUnavailable"];
        let why = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(at, shown, why));
    }
}

/// A stateful set's specification whose pods have the volumes of its claims.
fn claimed(spec: &Value) -> Option<Value> {
    let claims = pod::list(spec, "volumeClaimTemplates");
    if claims.is_empty() {
        return None;
    }
    let name = |claim: &Value| claim.pointer("/metadata/name").cloned().unwrap_or_default();
    let mut volumes: Vec<Value> = claims
        .iter()
        .map(name)
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let pods = spec.pointer("/template/spec").unwrap_or(&Value::Null);
    let own = pod::list(pods, "volumes").iter();
    let own = own.filter(|volume| !claims.iter().any(|claim| name(claim) == volume["name"]));
    volumes.extend(own.cloned());
    let mut whole = spec.clone();
    whole["template"]["spec"]["volumes"] = volumes.into();
    Some(whole)
}

/// The labels of a template that its selector does not fit.
fn misfit(spec: &Value, errors: &mut Errors) {
    let labels = object_at(spec, &["template", "metadata", "labels"]);
    let shown = labels.cloned().unwrap_or(Value::Null);
    errors.push(FieldError::invalid(
        "spec.template.metadata.labels",
        &shown,
        "`selector` does not match template `labels`",
    ));
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
    super::check::label_selector(&At::new(selector, "spec.selector"), errors);
    let labels = object_at(spec, &["template", "metadata", "labels"]);
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let missing = wanted
        .into_iter()
        .flatten()
        .any(|(key, value)| labels.and_then(|labels| labels.get(key)) != Some(value));
    if missing {
        misfit(spec, errors);
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
