//! What runs pods, and what leads to them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Errors, check::At, meta, names, pod};
use crate::{
    field::FieldError,
    object::{self, Json},
};

/// A template of pods, whose owner takes some restart policies alone.
pub fn template(spec: &Value, at: &str, restart: &[&str], errors: &mut Errors) {
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
    let mut broken = false;
    match spec.get("selector").filter(|selector| !selector.is_null()) {
        None => {
            errors.push(FieldError::required("spec.selector", ""));
            // Nothing is selected by none.
            misfit(spec, errors);
        }
        Some(selector) => broken = !fits(selector, spec, kind, errors),
    }
    match claimed(spec) {
        // Upstream looks no further, but for daemon sets.
        _ if broken && kind != "DaemonSet" => {}
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

/// Checks that a selector fits the labels of the template. Whether it is one at
/// all.
fn fits(selector: &Value, spec: &Value, kind: &str, errors: &mut Errors) -> bool {
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
        return true;
    }
    let before = errors.len();
    super::check::label_selector(&At::new(selector, "spec.selector"), errors);
    if errors.len() > before {
        let why = match kind {
            "DaemonSet" => return false,
            "StatefulSet" => "",
            _ => "invalid label selector",
        };
        let parts = ["matchLabels", "matchExpressions"].into_iter();
        let parts = parts.filter(|field| !empty(field));
        let parts: Vec<String> = parts
            .map(|field| format!("\"{field}\":{}", selector[field]))
            .collect();
        let shown = format!("{{{}}}", parts.join(","));
        errors.push(FieldError::invalid_shown("spec.selector", &shown, why));
        return false;
    }
    let labels = object_at(spec, &["template", "metadata", "labels"]);
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let missing = wanted
        .into_iter()
        .flatten()
        .any(|(key, value)| labels.and_then(|labels| labels.get(key)) != Some(value));
    if missing {
        misfit(spec, errors);
    }
    true
}

fn object_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// A replication controller.
pub fn controller(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    pod::negative(spec, "replicas", "spec", errors);
    let labels = object_at(spec, &["template", "metadata", "labels"]);
    match spec.get("selector").and_then(Value::as_object) {
        Some(selector) if !selector.is_empty() => {
            let mut wanted = selector.iter();
            if wanted.any(|(key, value)| labels.and_then(|all| all.get(key)) != Some(value)) {
                misfit(spec, errors);
            }
        }
        _ => errors.push(FieldError::required("spec.selector", "")),
    }
    if spec.get("template").is_none_or(Value::is_null) {
        errors.push(FieldError::required("spec.template", ""));
        return;
    }
    template(spec, "spec", &["Always"], errors);
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
    super::network::service_addresses(&At::new(spec, "spec"), errors);
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
