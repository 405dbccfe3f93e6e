//! What a horizontal pod autoscaler must be.

use std::cmp::Ordering;

use super::{
    Errors,
    check::{At, all},
    names,
};
use crate::{codec::compare_quantities, field::FieldError, object::Json};

/// The longest period of a policy, in seconds.
const PERIOD_MAX: i64 = 1_800;
/// The longest look back, in seconds.
const WINDOW_MAX: i64 = 3_600;

/// An autoscaler, in the version that is stored.
pub fn autoscaler(value: &Json, errors: &mut Errors) {
    let Some(spec) = value.get("spec") else {
        return;
    };
    let spec = At::new(spec, "spec");
    // What upstream's declarations say comes last.
    let mut declared = Errors::new();
    let least = spec.number("minReplicas");
    let most = spec.number("maxReplicas").unwrap_or(0);
    spec.not_negative("minReplicas", &mut declared);
    if most == 0 {
        declared.push(FieldError::required(spec.child("maxReplicas"), ""));
    }
    let why = "must be greater than or equal to 1";
    spec.within("maxReplicas", 0, i64::MAX, why, &mut declared);
    if least.is_some_and(|least| most < least) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(
            spec.child("maxReplicas"),
            &most.into(),
            why,
        ));
    }
    if let Some(target) = spec.get("scaleTargetRef") {
        reference(&target, true, errors);
    }
    let metrics = spec.items("metrics");
    for metric in &metrics {
        self::metric(metric, errors);
    }
    let counts = |metric: &At<'_>| matches!(metric.text("type"), "Object" | "External");
    if least == Some(0) && !metrics.iter().any(counts) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(spec.child("metrics"), why));
    }
    if let Some(behavior) = spec.get("behavior") {
        for field in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.get(field) {
                self::rules(&rules, errors);
            }
        }
    }
    errors.extend(declared);
}

/// A reference to an object of any group; of the core one only where that is
/// told.
fn reference(at: &At<'_>, grouped: bool, errors: &mut Errors) {
    for field in ["kind", "name"] {
        at.required(field, errors);
        at.named(field, names::PATH_SEGMENT_RULE, errors);
    }
    let version = at.text("apiVersion");
    let why = match version.matches('/').count() {
        0 if grouped => "apiVersion must specify API group".to_owned(),
        1 if grouped && version.starts_with('/') => "apiVersion must specify API group".to_owned(),
        0 | 1 => return,
        _ => format!("unexpected GroupVersion string: {version}"),
    };
    errors.push(FieldError::invalid(
        at.child("apiVersion"),
        &version.into(),
        &why,
    ));
}

fn rules(at: &At<'_>, errors: &mut Errors) {
    let field = "stabilizationWindowSeconds";
    at.within(
        field,
        0,
        i64::MAX,
        "must be greater than or equal to zero",
        errors,
    );
    let why = format!("must be less than or equal to {WINDOW_MAX}");
    at.within(field, i64::MIN, WINDOW_MAX, &why, errors);
    at.one_of("selectPolicy", &["Disabled", "Max", "Min"], errors);
    let policies = at.items("policies");
    if policies.is_empty() {
        let why = "must specify at least one Policy";
        errors.push(FieldError::required(at.child("policies"), why));
    }
    for policy in &policies {
        let kind = policy.text("type");
        if !matches!(kind, "Pods" | "Percent") {
            let supported = ["Percent", "Pods"];
            errors.push(FieldError::unsupported(
                policy.child("type"),
                kind,
                &supported,
            ));
        }
        for field in ["value", "periodSeconds"] {
            policy.within(field, 1, i64::MAX, "must be greater than zero", errors);
        }
        let why = format!("must be less than or equal to {PERIOD_MAX}");
        policy.within("periodSeconds", i64::MIN, PERIOD_MAX, &why, errors);
    }
    if let Some(tolerance) = at.get("tolerance")
        && sign(&tolerance) == Ordering::Less
    {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(tolerance.path, tolerance.value, why));
    }
}

/// The sign of a quantity.
fn sign(at: &At<'_>) -> Ordering {
    compare_quantities(at.as_text(), "0").unwrap_or(Ordering::Equal)
}

const METRICS: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

fn metric(at: &At<'_>, errors: &mut Errors) {
    let kind = at.text("type");
    if kind.is_empty() {
        let why = "must specify a metric source type";
        errors.push(FieldError::required(at.child("type"), why));
    }
    let known = METRICS.contains(&kind);
    if !known {
        errors.push(FieldError::unsupported(at.child("type"), kind, &METRICS));
    }
    let fields = [
        "object",
        "external",
        "pods",
        "resource",
        "containerResource",
    ];
    let sources: Vec<(&str, At<'_>)> = fields
        .iter()
        .filter_map(|field| Some((*field, at.get(field)?)))
        .collect();
    // The first of several is looked into.
    if let Some((field, first)) = sources.first() {
        source(field, first, errors);
    }
    let expected = fields
        .iter()
        .find(|field| field.eq_ignore_ascii_case(kind) && known);
    match expected {
        Some(expected) if !sources.iter().any(|(field, _)| field == expected) => {
            let why = "must populate information for the given metric source";
            errors.push(FieldError::required(at.child(expected), why));
        }
        _ => {}
    }
    if sources.len() != 1 {
        let others = sources.iter().filter(|(field, _)| Some(field) != expected);
        for (field, _) in others {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(at.child(field), why));
        }
    }
}

fn source(field: &str, at: &At<'_>, errors: &mut Errors) {
    match field {
        "object" => {
            if let Some(object) = at.get("describedObject") {
                reference(&object, false, errors);
            }
            identifier(at, errors);
        }
        "external" | "pods" => identifier(at, errors),
        _ => {
            let name = at.text("name");
            if name.is_empty() {
                let why = "must specify a resource name";
                errors.push(FieldError::required(at.child("name"), why));
            } else if field == "containerResource" {
                super::resources::name(name, &at.child("name"), errors);
            }
        }
    }
    if field == "containerResource" {
        if at.text("container").is_empty() {
            let why = "must specify a container";
            errors.push(FieldError::required(at.child("container"), why));
        } else {
            at.named("container", names::LABEL_RULE, errors);
        }
    }
    let Some(target) = at.get("target") else {
        return;
    };
    self::target(&target, errors);
    let has = |field: &str| target.get(field).is_some();
    let mut absent = |name: &str, why: &str| {
        errors.push(FieldError::required(target.child(name), why));
    };
    match field {
        "object" if !has("value") && !has("averageValue") => {
            absent(
                "averageValue",
                "must set either a target value or averageValue",
            );
        }
        "external" if !has("value") && !has("averageValue") => absent(
            "averageValue",
            "must set either a target value for metric or a per-pod target",
        ),
        "external" if has("value") && has("averageValue") => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(target.child("value"), why));
        }
        "pods" if !has("averageValue") => {
            absent(
                "averageValue",
                "must specify a positive target averageValue",
            );
        }
        "resource" | "containerResource" => {
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => absent(
                    "averageUtilization",
                    "must set either a target raw value or a target utilization",
                ),
                (true, true) => {
                    let why = "may not set both a target raw value and a target utilization";
                    errors.push(FieldError::forbidden(target.child("averageValue"), why));
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn identifier(at: &At<'_>, errors: &mut Errors) {
    let Some(metric) = at.get("metric") else {
        return;
    };
    let name = metric.text("name");
    if name.is_empty() {
        let why = "must specify a metric name";
        errors.push(FieldError::required(metric.child("name"), why));
    }
    all(
        &metric.child("name"),
        name,
        names::path_segment(name),
        errors,
    );
}

fn target(at: &At<'_>, errors: &mut Errors) {
    let kind = at.text("type");
    if kind.is_empty() {
        let why = "must specify a metric target type";
        errors.push(FieldError::required(at.child("type"), why));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(at.child("type"), &kind.into(), why));
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = at.get(field)
            && sign(&value) != Ordering::Greater
        {
            errors.push(FieldError::invalid(
                value.path,
                value.value,
                "must be positive",
            ));
        }
    }
    at.within(
        "averageUtilization",
        1,
        i64::MAX,
        "must be greater than 0",
        errors,
    );
}
