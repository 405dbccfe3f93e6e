//! What a client is told of an object that is taken though something about it
//! is old or does nothing. Source: upstream's `pkg/api/*/warnings.go` and the
//! strategies' `WarningsOnCreate`.

use serde_json::{Value, json};

use crate::{
    codec,
    object::{self, Json},
};

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// A name that pods have and hosts should not.
fn name(value: &Json, of: &str, warnings: &mut Vec<String>) {
    if object::meta_str(value, "name").contains('.') {
        warnings.push(format!(
            "metadata.name: this is used in {of}, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
        ));
    }
}

pub fn pod(value: &Json) -> Vec<String> {
    let mut warnings = Vec::new();
    name(value, "the Pod's hostname", &mut warnings);
    let spec = value.get("spec").unwrap_or(&Value::Null);
    pods(spec, "spec", &mut warnings);
    warnings
}

/// Owners of pods: their names become those of pods.
pub fn owner(value: &Json) -> Vec<String> {
    let mut warnings = Vec::new();
    name(value, "Pod names and hostnames", &mut warnings);
    let (template, at) = match object::at(value, &["spec", "jobTemplate", "spec", "template"]) {
        Some(template) => (Some(template), "spec.jobTemplate.spec.template.spec"),
        None => (
            object::at(value, &["spec", "template"]),
            "spec.template.spec",
        ),
    };
    if let Some(spec) = template.and_then(|template| template.get("spec")) {
        pods(spec, at, &mut warnings);
    }
    warnings
}

/// The same where names stay within the set.
pub fn template_owner(value: &Json) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(spec) = object::at(value, &["spec", "template", "spec"]) {
        pods(spec, "spec.template.spec", &mut warnings);
    }
    warnings
}

/// The same, and what of its revisions.
pub fn stateful_set(value: &Json) -> Vec<String> {
    let mut warnings = template_owner(value);
    let kept = object::at(value, &["spec", "revisionHistoryLimit"]).and_then(Value::as_i64);
    if kept.is_some_and(|kept| kept < 0) {
        warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
    }
    warnings
}

pub fn pod_template(value: &Json) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(spec) = object::at(value, &["template", "spec"]) {
        pods(spec, "template.spec", &mut warnings);
    }
    warnings
}

/// What is told of the specification of pods.
fn pods(spec: &Value, at: &str, warnings: &mut Vec<String>) {
    for (index, secret) in list(spec, "/imagePullSecrets").iter().enumerate() {
        if secret
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("")
            .is_empty()
        {
            warnings.push(format!(
                "{at}.imagePullSecrets[{index}].name: invalid empty name \"\""
            ));
        }
    }
    let grace = spec
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    if grace.is_some_and(|grace| grace < 0) {
        warnings.push(format!(
            "{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        const HARD: &str = "requiredDuringSchedulingIgnoredDuringExecution";
        const SOFT: &str = "preferredDuringSchedulingIgnoredDuringExecution";
        for (terms, below, deeper) in [
            (HARD, "", ""),
            (SOFT, "/podAffinityTerm", ".podAffinityTerm"),
        ] {
            let all = list(spec, &format!("/affinity/{kind}/{terms}"))
                .iter()
                .enumerate();
            for (index, term) in all {
                let selector = term.pointer(&format!("{below}/labelSelector"));
                if selector.is_none_or(Value::is_null) {
                    warnings.push(format!(
                        "{at}.affinity.{kind}.{terms}[{index}]{deeper}.labelSelector: a null labelSelector results in matching no pod"
                    ));
                }
            }
        }
    }
}

pub fn volume(value: &Json) -> Vec<String> {
    let mut warnings = Vec::new();
    if object::str_at(value, &["spec", "persistentVolumeReclaimPolicy"]) == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let capacity = object::str_at(value, &["spec", "capacity", "storage"]);
    fraction("spec.capacity[storage]", capacity, &mut warnings);
    warnings
}

pub fn claim(value: &Json) -> Vec<String> {
    let mut warnings = Vec::new();
    let asked = object::str_at(value, &["spec", "resources", "requests", "storage"]);
    fraction("spec.resources.requests[storage]", asked, &mut warnings);
    warnings
}

/// Bytes come whole.
fn fraction(at: &str, amount: &str, warnings: &mut Vec<String>) {
    if amount.ends_with('m') && codec::compare_quantities(amount, "0").is_some() {
        warnings.push(format!(
            "{at}: fractional byte value {amount:?} is invalid, must be an integer"
        ));
    }
}

pub fn driver(value: &Json) -> Vec<String> {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let unset = spec
        .get("serviceAccountTokenInSecrets")
        .is_none_or(Value::is_null);
    if !list(spec, "/tokenRequests").is_empty() && unset {
        return vec!["spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".to_owned()];
    }
    Vec::new()
}

pub fn slice(value: &Json) -> Vec<String> {
    if value.get("addressType") == Some(&json!("FQDN")) {
        return vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()];
    }
    Vec::new()
}

pub fn node(value: &Json) -> Vec<String> {
    if object::str_at(value, &["spec", "externalID"]).is_empty() {
        return Vec::new();
    }
    vec!["spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned()]
}

pub fn service(value: &Json) -> Vec<String> {
    let of = |field| object::str_at(value, &["spec", field]);
    if of("type") != "ExternalName" && !of("externalName").is_empty() {
        return vec![
            "spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned(),
        ];
    }
    Vec::new()
}
