//! Pods and the templates of pods.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Errors, affinity,
    check::{self, At},
    container::{self, Pod},
    names, resources, security, volume,
};
use crate::{field::FieldError, object::Json};

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

/// Checks the specification of a pod.
pub fn spec(spec: Option<&Value>, at: &str, errors: &mut Errors) {
    let nothing = Value::Object(Json::new());
    let at = At::new(spec.unwrap_or(&nothing), at);
    let volumes = volume::volumes(&at, errors);
    let claims = resource_claims(&at, errors);
    let pod = Pod {
        volumes,
        grace: at.number("terminationGracePeriodSeconds"),
        restart: at.text("restartPolicy"),
        claims,
    };
    container::containers(&at, &pod, errors);
    host_network(&at, errors);
    at.one_of("restartPolicy", &["Always", "OnFailure", "Never"], errors);
    at.one_of(
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    super::meta::labels(
        at.value.get("nodeSelector"),
        &at.child("nodeSelector"),
        errors,
    );
    if let Some(context) = at.get("securityContext") {
        security::pod(&context, errors);
    }
    if at.flag("shareProcessNamespace") && at.flag("hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        let at = at.child("shareProcessNamespace");
        errors.push(FieldError::invalid(at, &true.into(), why));
    }
    if let Some(affinity) = at.get("affinity") {
        affinity::affinity(&affinity, errors);
    }
    dns(&at, errors);
    gates(&at, errors);
    affinity::spread(&at, errors);
    security::host_processes(&at, errors);
    host_users(&at, errors);
    names_of(&at, errors);
    affinity::tolerations(&at, errors);
    for alias in at.items("hostAliases") {
        check::address(&alias.child("ip"), alias.text("ip"), errors);
        for name in alias.items("hostnames") {
            let text = name.as_text();
            check::all(&name.path, text, names::subdomain(text), errors);
        }
    }
    if !at.text("priorityClassName").is_empty() {
        at.named("priorityClassName", names::subdomain, errors);
    }
    if at.get("runtimeClassName").is_some() {
        at.named("runtimeClassName", names::subdomain, errors);
    }
    if at.get("preemptionPolicy").is_some() {
        at.word(
            "preemptionPolicy",
            &["PreemptLowerPriority", "Never"],
            errors,
        );
    }
    if let Some(overhead) = at.get("overhead") {
        for (name, amount) in at.entries("overhead") {
            let path = format!("{}.limits[{name}]", overhead.path);
            resources::name(name, &path, errors);
            resources::quantity(name, amount, &path, errors);
        }
    }
    if let Some(amounts) = at.get("resources") {
        if !amounts.items("claims").is_empty() {
            let why = "claims may not be set for Resources at pod-level";
            errors.push(FieldError::forbidden(amounts.child("claims"), why));
        }
        resources::of_pod(&amounts, &pod.claims, errors);
    }
    system(&at, errors);
    container::files(&at, errors);
}

/// Names of the claims of resources that the pod has.
fn resource_claims<'a>(at: &At<'a>, errors: &mut Errors) -> Vec<&'a str> {
    let mut known = Vec::new();
    for claim in at.items("resourceClaims") {
        let name = claim.text("name");
        if name.is_empty() {
            claim.required("name", errors);
        } else {
            if known.contains(&name) {
                errors.push(FieldError::duplicate(claim.child("name"), &name.into()));
            }
            claim.named("name", names::label, errors);
            known.push(name);
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let shown = serde_json::json!({
            "Name": name,
            "ResourceClaimName": claim.value.get(sources[0]),
            "ResourceClaimTemplateName": claim.value.get(sources[1]),
        });
        match sources.iter().filter(|one| claim.get(one).is_some()).count() {
            0 => errors.push(FieldError::invalid(
                claim.path.clone(),
                &shown,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )),
            1 => {}
            _ => errors.push(FieldError::invalid(
                claim.path.clone(),
                &shown,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
        }
        for source in sources.iter().filter(|one| claim.get(one).is_some()) {
            claim.named(source, names::subdomain, errors);
        }
    }
    known
}

/// On the node's own network a container's port is the node's.
fn host_network(at: &At<'_>, errors: &mut Errors) {
    if !at.flag("hostNetwork") {
        return;
    }
    let containers = at.items("containers");
    for port in containers.iter().flat_map(|one| one.items("ports")) {
        let (host, own) = (port.number("hostPort"), port.number("containerPort"));
        if host.unwrap_or(0) != own.unwrap_or(0) {
            let why = "must match `containerPort` when `hostNetwork` is true";
            let given = host.unwrap_or(0).into();
            errors.push(FieldError::invalid(port.child("hostPort"), &given, why));
        }
    }
}

fn dns(at: &At<'_>, errors: &mut Errors) {
    let config = at.get("dnsConfig");
    let servers = config
        .as_ref()
        .map_or(0, |one| one.items("nameservers").len());
    if at.text("dnsPolicy") == "None" && servers == 0 {
        let (path, why) = match &config {
            None => (
                at.child("dnsConfig"),
                "must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            Some(config) => (
                config.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ),
        };
        errors.push(FieldError::required(path, why));
    }
    let Some(config) = config else {
        return;
    };
    if servers > 3 {
        let why = "must not have more than 3 nameservers";
        let shown = &config.value["nameservers"];
        errors.push(FieldError::invalid(config.child("nameservers"), shown, why));
    }
    for server in config.items("nameservers") {
        check::address(&server.path, server.as_text(), errors);
    }
    for search in config.items("searches") {
        let text = search.as_text();
        let plain = text.strip_suffix('.').unwrap_or(text);
        if text != "." {
            let wrong = names::subdomain(&plain.replace('_', "-"));
            let wrong = wrong
                .into_iter()
                .map(|why| why.replace(names::SUBDOMAIN, UNDERSCORED));
            check::all(&search.path, plain, wrong.collect(), errors);
        }
    }
    for option in config.items("options") {
        if option.text("name").is_empty() {
            errors.push(FieldError::required(option.path, "must not be empty"));
        }
    }
}

/// Upstream's words for a domain that may have underscores.
const UNDERSCORED: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";

/// What holds a pod back until somebody says that it is ready.
fn gates(at: &At<'_>, errors: &mut Errors) {
    for gate in at.items("readinessGates") {
        gate.named("conditionType", names::qualified, errors);
    }
    let mut seen = HashSet::new();
    for gate in at.items("schedulingGates") {
        let name = gate.text("name");
        check::all(&gate.path, name, names::qualified(name), errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(gate.path, &name.into()));
        }
    }
}

fn host_users(at: &At<'_>, errors: &mut Errors) {
    if at.value.get("hostUsers") == Some(&Value::Bool(false)) {
        for (field, shown) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if at.flag(field) {
                let why = "when `hostUsers` is false";
                errors.push(FieldError::forbidden(at.child(shown), why));
            }
        }
    }
}

/// What the pod is called, and what it names.
fn names_of(at: &At<'_>, errors: &mut Errors) {
    if at.get("hostnameOverride").is_some() {
        for (field, why) in [
            (
                "setHostnameAsFQDN",
                "may not be specified when setHostnameAsFQDN is true",
            ),
            (
                "hostNetwork",
                "may not be specified when hostNetwork is true",
            ),
        ] {
            if at.flag(field) {
                errors.push(FieldError::forbidden(at.child("hostnameOverride"), why));
            }
        }
        if at.text("hostnameOverride").len() > 64 {
            errors.push(FieldError::too_long(at.child("hostnameOverride"), 64));
        }
        at.named("hostnameOverride", names::subdomain, errors);
    }
    for field in ["serviceAccountName", "nodeName"] {
        if !at.text(field).is_empty() {
            at.named(field, names::subdomain, errors);
        }
    }
    let why = "must be between 1 and 2147483647, inclusive";
    at.within("activeDeadlineSeconds", 1, i64::from(i32::MAX), why, errors);
    for field in ["hostname", "subdomain"] {
        if !at.text(field).is_empty() {
            at.named(field, names::label, errors);
        }
    }
}

fn system(at: &At<'_>, errors: &mut Errors) {
    let Some(system) = at.get("os") else {
        return;
    };
    let name = system.text("name");
    if name.is_empty() {
        system.required("name", errors);
    } else if !matches!(name, "linux" | "windows") {
        errors.push(FieldError::unsupported(
            system.path,
            name,
            &["linux", "windows"],
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

/// What a new pod cannot have: containers that are added later.
pub fn created(value: &Json, errors: &mut Errors) {
    no_ephemeral(value.get("spec"), "spec", "cannot be set on create", errors);
    let nothing = Value::Null;
    let spec = At::new(value.get("spec").unwrap_or(&nothing), "spec");
    if !spec.text("serviceAccountName").is_empty() {
        return;
    }
    for volume in spec.items("volumes") {
        let Some(projected) = volume.get("projected") else {
            continue;
        };
        for source in projected.items("sources") {
            if let Some(token) = source.get("serviceAccountToken") {
                let why = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(token.path, why));
            }
        }
    }
}

/// No container that is added later.
pub fn no_ephemeral(spec: Option<&Value>, at: &str, why: &str, errors: &mut Errors) {
    if spec.is_some_and(|spec| !list(spec, "ephemeralContainers").is_empty()) {
        let at = format!("{at}.ephemeralContainers");
        errors.push(FieldError::forbidden(at, why));
    }
}
