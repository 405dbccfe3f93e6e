//! What runs pods, and what leads to them.

use serde_json::{Value, json};

use super::{Errors, check::At, meta, names, pod};
use crate::{field::FieldError, object::Json};

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

/// A deployment.
pub fn deployment(value: &Json, errors: &mut Errors) {
    let none = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    spec.not_negative("replicas", errors);
    if selecting(&spec, "deployment", "invalid label selector", errors) {
        selected(&spec, spec.value, "ReplicaSet", errors);
    }
    let strategy = At::new(spec.value.get("strategy").unwrap_or(&none), "spec.strategy");
    let rolling = strategy.get("rollingUpdate");
    match (strategy.text("type"), rolling) {
        ("Recreate", Some(rolling)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(rolling.path, detail));
        }
        ("RollingUpdate", Some(rolling)) => {
            count_or_percent(&rolling, "maxUnavailable", errors);
            count_or_percent(&rolling, "maxSurge", errors);
            if amount(&rolling, "maxUnavailable") == 0 && amount(&rolling, "maxSurge") == 0 {
                let shown = &rolling.value["maxUnavailable"];
                let why = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(
                    rolling.child("maxUnavailable"),
                    shown,
                    why,
                ));
            }
            at_most_all(&rolling, "maxUnavailable", errors);
        }
        ("RollingUpdate" | "Recreate", None) => {}
        _ => {
            let shown = strategy_shown(&strategy, &["maxUnavailable", "maxSurge"]);
            let known = ["Recreate", "RollingUpdate"];
            errors.push(FieldError::unsupported_shown(strategy.path, &shown, &known));
        }
    }
    spec.not_negative("minReadySeconds", errors);
    spec.not_negative("revisionHistoryLimit", errors);
    spec.not_negative("progressDeadlineSeconds", errors);
    let ready = spec.number("minReadySeconds").unwrap_or(0);
    if let Some(deadline) = spec.number("progressDeadlineSeconds")
        && deadline <= ready
    {
        let why = "must be greater than minReadySeconds";
        let path = spec.child("progressDeadlineSeconds");
        errors.push(FieldError::invalid(path, &deadline.into(), why));
    }
}

/// A replica set.
pub fn replica_set(value: &Json, errors: &mut Errors) {
    let none = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    spec.not_negative("replicas", errors);
    spec.not_negative("minReadySeconds", errors);
    // Upstream says so.
    if selecting(&spec, "deployment", "invalid label selector", errors) {
        selected(&spec, spec.value, "ReplicaSet", errors);
    }
}

/// A daemon set.
pub fn daemon_set(value: &Json, errors: &mut Errors) {
    let none = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    let before = errors.len();
    let selector = spec.get("selector");
    if let Some(selector) = &selector {
        super::check::label_selector(selector, errors);
    }
    if errors.len() == before && !fits(&spec) {
        misfit(spec.value, errors);
    }
    if let Some(selector) = selector.filter(|selector| is_empty(selector.value)) {
        let why = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(selector.path, selector.value, why));
    }
    template(spec.value, "spec", &["Always"], errors);
    no_deadline(&spec, "DaemonSet", errors);
    spec.not_negative("minReadySeconds", errors);
    let strategy = At::new(
        spec.value.get("updateStrategy").unwrap_or(&none),
        "spec.updateStrategy",
    );
    match (strategy.text("type"), strategy.get("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => {
            errors.push(FieldError::required(strategy.child("rollingUpdate"), ""));
        }
        ("RollingUpdate", Some(rolling)) => daemon_rolling(&rolling, errors),
        _ => {
            let shown = strategy_shown(&strategy, &["maxUnavailable", "maxSurge"]);
            let known = ["RollingUpdate", "OnDelete"];
            errors.push(FieldError::unsupported_shown(strategy.path, &shown, &known));
        }
    }
    spec.not_negative("revisionHistoryLimit", errors);
}

/// What a daemon set selects stays.
pub fn selector_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let mut found = Errors::new();
    super::fixed(&[&["spec", "selector"]], value, current, &mut found);
    super::before(errors, found);
}

fn daemon_rolling(rolling: &At<'_>, errors: &mut Errors) {
    let fields = ["maxUnavailable", "maxSurge"];
    for field in fields {
        count_or_percent(rolling, field, errors);
    }
    for field in fields {
        at_most_all(rolling, field, errors);
    }
    match fields.map(|field| amount(rolling, field) != 0) {
        [true, true] => {
            let why = "may not be set when maxUnavailable is non-zero";
            let shown = &rolling.value["maxSurge"];
            errors.push(FieldError::invalid(rolling.child("maxSurge"), shown, why));
        }
        [false, false] => {
            let why = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::required(rolling.child("maxUnavailable"), why));
        }
        _ => {}
    }
}

/// A stateful set.
pub fn stateful_set(value: &Json, errors: &mut Errors) {
    let none = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    match spec.text("podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(FieldError::required("spec.podManagementPolicy", "")),
        other => errors.push(FieldError::invalid(
            "spec.podManagementPolicy",
            &other.into(),
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    stateful_strategy(&spec, errors);
    if let Some(policy) = spec.get("persistentVolumeClaimRetentionPolicy") {
        for field in ["whenDeleted", "whenScaled"] {
            let given = policy.text(field);
            let known = ["Retain", "Delete"];
            if !known.contains(&given) {
                errors.push(FieldError::unsupported(policy.child(field), given, &known));
            }
        }
    }
    for (index, claim) in pod::list(spec.value, "volumeClaimTemplates")
        .iter()
        .enumerate()
    {
        let at = format!("spec.volumeClaimTemplates[{index}].spec");
        let inner = claim.get("spec").unwrap_or(&Value::Null);
        super::claim::spec(&At::new(inner, at), errors);
    }
    spec.not_negative("replicas", errors);
    spec.not_negative("minReadySeconds", errors);
    if let Some(ordinals) = spec.get("ordinals") {
        ordinals.not_negative("start", errors);
    }
    if !spec.text("serviceName").is_empty() {
        spec.named("serviceName", names::LABEL_RULE, errors);
    }
    if selecting(&spec, "statefulset", "", errors) {
        let whole = claimed(spec.value);
        selected(
            &spec,
            whole.as_ref().unwrap_or(spec.value),
            "StatefulSet",
            errors,
        );
    }
}

fn stateful_strategy(spec: &At<'_>, errors: &mut Errors) {
    let none = Value::Null;
    let strategy = At::new(
        spec.value.get("updateStrategy").unwrap_or(&none),
        "spec.updateStrategy",
    );
    let fields = ["partition", "maxUnavailable"];
    match (strategy.text("type"), strategy.get("rollingUpdate")) {
        ("", _) => errors.push(FieldError::required(strategy.path, "")),
        ("RollingUpdate", Some(rolling)) => {
            rolling.not_negative("partition", errors);
            if let Some(most) = rolling.get("maxUnavailable") {
                count_or_percent(&rolling, "maxUnavailable", errors);
                if amount(&rolling, "maxUnavailable") == 0 {
                    errors.push(FieldError::invalid(most.path, most.value, "cannot be 0"));
                }
                at_most_all(&rolling, "maxUnavailable", errors);
            }
        }
        ("RollingUpdate" | "OnDelete", None) => {}
        ("OnDelete", Some(rolling)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            let shown = rolling_shown(&rolling, &fields);
            errors.push(FieldError::invalid_shown(rolling.path, &shown, why));
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            let shown = strategy_shown(&strategy, &fields);
            errors.push(FieldError::invalid_shown(strategy.path, &shown, why));
        }
    }
}

/// How pods are replaced, as Go shows it.
fn strategy_shown(strategy: &At<'_>, fields: &[&str]) -> String {
    let rolling = strategy.get("rollingUpdate");
    format!(
        "{{\"Type\":{},\"RollingUpdate\":{}}}",
        Value::from(strategy.text("type")),
        rolling.map_or("null".to_owned(), |rolling| rolling_shown(&rolling, fields))
    )
}

fn rolling_shown(rolling: &At<'_>, fields: &[&str]) -> String {
    let one = |field: &&str| {
        let value = rolling.get(field).map_or(&Value::Null, |one| one.value);
        let value = match value {
            Value::Null if *field == "partition" => "0".to_owned(),
            value => value.to_string(),
        };
        let (first, rest) = field.split_at(1);
        format!("\"{}{rest}\":{value}", first.to_uppercase())
    };
    let all: Vec<String> = fields.iter().map(one).collect();
    format!("{{{}}}", all.join(","))
}

/// A number of pods or a share of them.
fn count_or_percent(at: &At<'_>, field: &str, errors: &mut Errors) {
    if let Some(Value::String(text)) = at.value.get(field)
        && percent(text).is_none()
    {
        errors.push(FieldError::invalid(
            at.child(field),
            &text.as_str().into(),
            super::check::NO_PERCENT,
        ));
    }
    at.not_negative(field, errors);
}

fn at_most_all(at: &At<'_>, field: &str, errors: &mut Errors) {
    let share = at.text(field);
    if percent(share).is_some_and(|share| share > 100) {
        let why = "must not be greater than 100%";
        errors.push(FieldError::invalid(at.child(field), &share.into(), why));
    }
}

fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// What a number or a share is, roughly: nothing or something.
fn amount(at: &At<'_>, field: &str) -> i64 {
    match at.value.get(field) {
        Some(Value::String(text)) => match percent(text) {
            Some(share) => i64::try_from(share).unwrap_or(i64::MAX),
            None => text.parse().unwrap_or(0),
        },
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    }
}

/// Checks a selector that must be there. Whether it selects at all.
fn selecting(spec: &At<'_>, owner: &str, why: &str, errors: &mut Errors) -> bool {
    let Some(selector) = spec.get("selector") else {
        errors.push(FieldError::required("spec.selector", ""));
        // Nothing is selected by none.
        return true;
    };
    let before = errors.len();
    super::check::label_selector(&selector, errors);
    if errors.len() > before {
        let shown = selector_shown(selector.value);
        errors.push(FieldError::invalid_shown("spec.selector", &shown, why));
        return false;
    }
    if is_empty(selector.value) {
        let why = format!("empty selector is invalid for {owner}");
        errors.push(FieldError::invalid("spec.selector", selector.value, &why));
    }
    true
}

/// Checks a template beside the selector of `spec`.
fn selected(spec: &At<'_>, whole: &Value, owner: &str, errors: &mut Errors) {
    if !fits(spec) {
        misfit(spec.value, errors);
    }
    template(whole, "spec", &["Always"], errors);
    no_deadline(spec, owner, errors);
}

/// Pods that are to run for good have no deadline.
fn no_deadline(spec: &At<'_>, owner: &str, errors: &mut Errors) {
    let field = "activeDeadlineSeconds";
    let pods = spec
        .get("template")
        .and_then(|template| template.get("spec"));
    if let Some(deadline) = pods.and_then(|pods| pods.get(field)) {
        let why = format!("{field} in {owner} is not Supported");
        errors.push(FieldError::forbidden(deadline.path, &why));
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

fn is_empty(selector: &Value) -> bool {
    let empty = |field: &str| match selector.get(field) {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        _ => true,
    };
    empty("matchLabels") && empty("matchExpressions")
}

/// As Go shows it.
fn selector_shown(selector: &Value) -> String {
    let parts = ["matchLabels", "matchExpressions"].into_iter();
    let parts = parts.filter(|field| match selector.get(*field) {
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    });
    let parts: Vec<String> = parts
        .map(|field| format!("\"{field}\":{}", selector[field]))
        .collect();
    format!("{{{}}}", parts.join(","))
}

/// Whether a selector, which is one, fits the labels of the template. None fits
/// nothing.
fn fits(spec: &At<'_>) -> bool {
    let Some(selector) = spec.get("selector") else {
        return false;
    };
    let labels = object_at(spec.value, &["template", "metadata", "labels"]);
    let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    let alike = selector
        .entries("matchLabels")
        .all(|(key, value)| label(key) == value.as_str());
    alike
        && selector.items("matchExpressions").iter().all(|one| {
            let found = label(one.text("key"));
            let values = one.items("values");
            let named = found.is_some_and(|found| values.iter().any(|one| one.as_text() == found));
            match one.text("operator") {
                "In" => named,
                "NotIn" => !named,
                "Exists" => found.is_some(),
                _ => found.is_none(),
            }
        })
}

fn object_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// A replication controller.
pub fn controller(value: &Json, errors: &mut Errors) {
    let none = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    let mut declared = Errors::new();
    spec.not_negative("minReadySeconds", &mut declared);
    spec.not_negative("replicas", &mut declared);
    let mut selector = spec.entries("selector").peekable();
    if selector.peek().is_none() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    if spec.get("template").is_none() {
        errors.push(FieldError::required("spec.template", ""));
    } else {
        let labels = object_at(spec.value, &["template", "metadata", "labels"]);
        if selector.any(|(key, value)| labels.and_then(|all| all.get(key)) != Some(value)) {
            misfit(spec.value, errors);
        }
        template(spec.value, "spec", &["Always"], errors);
        no_deadline(&spec, "ReplicationController", errors);
    }
    errors.extend(declared);
}
