//! What webhooks and policies of admission must be. Expressions are not
//! compiled: there is no compiler of CEL here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Errors,
    check::{At, all, label_selector},
    names,
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// Those that can change what is written.
const MUTATING: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const REINVOCATIONS: [&str; 2] = ["IfNeeded", "Never"];

/// A configuration of webhooks.
pub fn webhooks(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let mut seen = BTreeSet::new();
    for hook in At::new(&whole, "").items("webhooks") {
        webhook(&hook, errors);
        review_versions(&hook, errors);
        let name = hook.text("name");
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(hook.child("name"), &name.into()));
        }
    }
}

fn webhook(at: &At<'_>, errors: &mut Errors) {
    let name = at.text("name");
    let wrong = names::subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(at.child("name"), ""));
    } else if !wrong.is_empty() {
        let why = wrong.join(",");
        errors.push(FieldError::invalid(at.child("name"), &name.into(), &why));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(at.child("name"), &name.into(), why));
    }
    for rule in at.items("rules") {
        operations(&rule, errors);
    }
    at.one_of("failurePolicy", &["Fail", "Ignore"], errors);
    at.one_of("matchPolicy", &["Equivalent", "Exact"], errors);
    if at.get("sideEffects").is_none() {
        let why = "must specify one of None, NoneOnDryRun";
        errors.push(FieldError::required(at.child("sideEffects"), why));
    }
    at.one_of("sideEffects", &SIDE_EFFECTS, errors);
    let why = "the timeout value must be between 1 and 30 seconds";
    at.within("timeoutSeconds", 1, 30, why, errors);
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = at.get(field) {
            label_selector(&selector, errors);
        }
    }
    at.one_of("reinvocationPolicy", &REINVOCATIONS, errors);
    if let Some(client) = at.get("clientConfig") {
        match (client.get("url"), client.get("service")) {
            (None, None) | (Some(_), Some(_)) => {
                let why = "exactly one of url or service is required";
                errors.push(FieldError::required(client.path, why));
            }
            (Some(url), None) => self::url(&url, errors),
            (None, Some(service)) => self::service(&service, errors),
        }
    }
    conditions(at, errors);
}

const URL_FORM: &str = "; desired format: https://host[/path]";

fn url(at: &At<'_>, errors: &mut Errors) {
    let url = at.as_text();
    let mut wrong = |shown: &str, why: &str| {
        errors.push(FieldError::invalid(&at.path, &shown.into(), why));
    };
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{URL_FORM}");
        wrong(&scheme.to_ascii_lowercase(), &why);
    }
    let authority = rest.strip_prefix("//").unwrap_or("");
    let authority = authority.split('/').next().unwrap_or("");
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        wrong("", &format!("host must be specified{URL_FORM}"));
    }
    if !user.is_empty() {
        wrong(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL");
    }
}

fn service(at: &At<'_>, errors: &mut Errors) {
    // Upstream's caller gives both in the other order.
    let (name, namespace) = (at.text("namespace"), at.text("name"));
    if name.is_empty() {
        errors.push(FieldError::required(at.child("name"), ""));
    }
    if namespace.is_empty() {
        errors.push(FieldError::required(at.child("namespace"), ""));
    }
    let port = at.number("port").unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(at.child("port"), &port.into(), why));
    }
    let path = at.text("path");
    let mut wrong = |why: &str| {
        errors.push(FieldError::invalid(at.child("path"), &path.into(), why));
    };
    match path {
        "" | "/" => return,
        "//" => return wrong("segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        wrong("must start with a '/'");
    }
    let rest: String = path.chars().skip(1).collect();
    let rest = rest.strip_suffix('/').unwrap_or(&rest);
    for (index, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            wrong(&format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in names::subdomain(step) {
            wrong(&format!("segment[{index}]: {why}"));
        }
    }
}

fn review_versions(at: &At<'_>, errors: &mut Errors) {
    let versions = at.items("admissionReviewVersions");
    let path = at.child("admissionReviewVersions");
    if versions.is_empty() {
        let why = format!("must specify one of {}", REVIEWS.join(", "));
        errors.push(FieldError::required(path, &why));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in &versions {
        let text = version.as_text();
        if seen.insert(text) {
            all(&version.path, text, names::label_1035(text), errors);
        } else {
            let why = "duplicate version";
            errors.push(FieldError::invalid(&version.path, &text.into(), why));
        }
    }
    if !REVIEWS.iter().any(|known| seen.contains(known)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        let shown = at
            .value
            .get("admissionReviewVersions")
            .unwrap_or(&Value::Null);
        errors.push(FieldError::invalid(path, shown, &why));
    }
}

/// A rule and the operations that it is about.
fn operations(at: &At<'_>, errors: &mut Errors) {
    let given = at.items("operations");
    let path = at.child("operations");
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if given.len() > 1 && given.iter().any(|one| one.as_text() == "*") {
        let shown = at.value.get("operations").unwrap_or(&Value::Null);
        let why = "if '*' is present, must not specify other operations";
        errors.push(FieldError::invalid(path, shown, why));
    }
    for one in given {
        if !OPERATIONS.contains(&one.as_text()) {
            errors.push(FieldError::unsupported(
                one.path.clone(),
                one.as_text(),
                &OPERATIONS,
            ));
        }
    }
    rule(at, errors);
}

fn rule(at: &At<'_>, errors: &mut Errors) {
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let given = at.items(field);
        let path = at.child(field);
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if given.len() > 1 && given.iter().any(|one| one.as_text() == "*") {
            let shown = at.value.get(field).unwrap_or(&Value::Null);
            let why = format!("if '*' is present, must not specify other {what}");
            errors.push(FieldError::invalid(path, shown, &why));
        }
        if field == "apiVersions" {
            for one in given.iter().filter(|one| one.as_text().is_empty()) {
                errors.push(FieldError::required(&one.path, ""));
            }
        }
    }
    resources(at, errors);
    at.one_of("scope", &["*", "Cluster", "Namespaced"], errors);
}

fn resources(at: &At<'_>, errors: &mut Errors) {
    let given = at.items("resources");
    let path = at.child("resources");
    if given.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    let (mut wild_subs, mut wild_resources) = (BTreeSet::new(), BTreeSet::new());
    let (mut all_of_all, mut every, mut plain) = (false, false, false);
    for one in &given {
        let text = one.as_text();
        if text.is_empty() {
            errors.push(FieldError::required(&one.path, ""));
            continue;
        }
        all_of_all |= text == "*/*";
        every |= text == "*";
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if wild_subs.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&one.path, &text.into(), &why));
        }
        if wild_resources.contains(sub) {
            let why = format!("if '*/{sub}' is present, must not specify {text}");
            errors.push(FieldError::invalid(&one.path, &text.into(), &why));
        }
        if sub == "*" {
            wild_subs.insert(resource);
        }
        if resource == "*" {
            wild_resources.insert(sub);
        }
    }
    let shown = at.value.get("resources").unwrap_or(&Value::Null);
    if given.len() > 1 && all_of_all {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(&path, shown, why));
    }
    if every && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(&path, shown, why));
    }
}

/// Conditions under which a webhook or a policy is asked at all.
fn conditions(at: &At<'_>, errors: &mut Errors) {
    let given = at.items("matchConditions");
    if given.len() > 64 {
        errors.push(FieldError::too_many(
            at.child("matchConditions"),
            given.len(),
            64,
        ));
    }
    let mut seen = BTreeSet::new();
    for one in given {
        expression(&one, "expression", "", errors);
        let name = one.text("name");
        if name.is_empty() {
            errors.push(FieldError::required(one.child("name"), ""));
        } else {
            one.named("name", names::qualified, errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(one.child("name"), &name.into()));
            }
        }
    }
}

/// An expression must say something.
fn expression(at: &At<'_>, field: &str, why: &str, errors: &mut Errors) {
    if at.text(field).trim().is_empty() {
        errors.push(FieldError::required(at.child(field), why));
    }
}

/// What both kinds of policies say.
fn policy(at: &At<'_>, errors: &mut Errors) {
    at.one_of("failurePolicy", &["Fail", "Ignore"], errors);
    if let Some(kind) = at.get("paramKind") {
        parameter_kind(&kind, errors);
    }
    match at.get("matchConstraints") {
        None => errors.push(FieldError::required(at.child("matchConstraints"), "")),
        Some(matched) => {
            match_resources(&matched, errors);
            if matched.items("resourceRules").is_empty() {
                errors.push(FieldError::required(matched.child("resourceRules"), ""));
            }
        }
    }
}

/// Rules of a policy that changes what is written.
fn mutating(at: &At<'_>, errors: &mut Errors) {
    for rule in at.items("resourceRules") {
        for one in rule.items("operations") {
            if !MUTATING.contains(&one.as_text()) {
                let path = at.child("resourceRules.operations");
                errors.push(FieldError::unsupported(path, one.as_text(), &MUTATING));
            }
        }
    }
}

fn variables(at: &At<'_>, errors: &mut Errors) {
    for one in at.items("variables") {
        let name = one.text("name");
        if name.trim().is_empty() {
            errors.push(FieldError::required(
                one.child("name"),
                "name is not specified",
            ));
        } else if !is_identifier(name) {
            let why = "must be a valid CEL identifier";
            errors.push(FieldError::invalid(one.child("name"), &name.into(), why));
        }
        expression(&one, "expression", "expression is not specified", errors);
    }
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 20] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
    ];
    let first = |byte: u8| byte == b'_' || byte.is_ascii_alphabetic();
    name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|byte| first(byte) || byte.is_ascii_digit())
        && !RESERVED.contains(&name)
        && name != "while"
}

/// A policy that refuses.
pub fn validating_policy(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let spec = At::new(spec, "spec");
    policy(&spec, errors);
    conditions(&spec, errors);
    variables(&spec, errors);
    let (checks, notes) = (spec.items("validations"), spec.items("auditAnnotations"));
    if checks.is_empty() && notes.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        for field in ["validations", "auditAnnotations"] {
            errors.push(FieldError::required(spec.child(field), why));
        }
    }
    for one in checks {
        expression(&one, "expression", "expression is not specified", errors);
        for field in ["messageExpression", "message"] {
            let text = one.text(field);
            let why = if !text.is_empty() && text.trim().is_empty() {
                "must be non-empty if specified"
            } else if field == "message" && text.trim().contains(['\n', '\r']) {
                "must not contain line breaks"
            } else {
                continue;
            };
            errors.push(FieldError::invalid(one.child(field), &text.into(), why));
        }
        one.one_of(
            "reason",
            &["Forbidden", "Invalid", "RequestEntityTooLarge"],
            errors,
        );
    }
    if notes.len() > 20 {
        let shown = spec.value.get("auditAnnotations").unwrap_or(&Value::Null);
        let why = "must not have more than 20 auditAnnotations";
        errors.push(FieldError::invalid(
            spec.child("auditAnnotations"),
            shown,
            why,
        ));
    }
    let mut seen = BTreeSet::new();
    let name = object::meta_str(value, "name");
    for one in notes {
        let key = one.text("key");
        if name.is_empty() {
            let why = "requires metadata.name be non-empty";
            errors.push(FieldError::invalid(one.child("key"), &key.into(), why));
        } else {
            let whole = format!("{name}/{key}");
            all(&one.child("key"), &whole, names::qualified(&whole), errors);
        }
        let why = "valueExpression is not specified";
        expression(&one, "valueExpression", why, errors);
        if one.text("valueExpression").trim().len() > 5 << 10 {
            let why = "must not exceed 5120 bytes in length";
            errors.push(FieldError::required(one.child("valueExpression"), why));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(one.child("key"), &key.into()));
        }
    }
}

/// A policy that changes what is written.
pub fn mutating_policy(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let spec = At::new(spec, "spec");
    policy(&spec, errors);
    if let Some(matched) = spec.get("matchConstraints") {
        mutating(&matched, errors);
    }
    conditions(&spec, errors);
    variables(&spec, errors);
    let mutations = spec.items("mutations");
    if mutations.is_empty() {
        let why = "mutations must contain at least one item";
        errors.push(FieldError::required(spec.child("mutations"), why));
    }
    for one in mutations {
        let kinds = [
            ("ApplyConfiguration", "applyConfiguration"),
            ("JSONPatch", "jsonPatch"),
        ];
        one.word("patchType", &kinds.map(|(kind, _)| kind), errors);
        let chosen = one.text("patchType");
        let Some((kind, field)) = kinds.into_iter().find(|(kind, _)| *kind == chosen) else {
            continue;
        };
        match one.get(field) {
            Some(patch) => expression(&patch, "expression", "", errors),
            None => {
                let why = format!("must be specified when patchType is {kind}");
                errors.push(FieldError::required(one.child(field), &why));
            }
        }
        let others = kinds.into_iter().filter(|(kind, _)| *kind != chosen);
        for (_, other) in others.filter(|(_, other)| one.get(other).is_some()) {
            let why = format!("must not be specified when patchType is {kind}");
            let shown = format!("{{{other}}}").into();
            errors.push(FieldError::invalid(one.child(other), &shown, &why));
        }
    }
    spec.word("reinvocationPolicy", &REINVOCATIONS, errors);
}

fn parameter_kind(at: &At<'_>, errors: &mut Errors) {
    let version = at.text("apiVersion");
    let path = at.child("apiVersion");
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    if version.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if short.contains('/') {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&path, &version.into(), &why));
    } else {
        let joined = |text: &str, wrong: Vec<String>, errors: &mut Errors| {
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(&path, &text.into(), &wrong.join(",")));
            }
        };
        if !group.is_empty() {
            joined(group, names::subdomain(group), errors);
        }
        if short.is_empty() {
            let why = "version must be specified";
            errors.push(FieldError::invalid(&path, &version.into(), why));
        } else {
            joined(short, names::label_1035(short), errors);
        }
    }
    let kind = at.text("kind");
    let wrong = names::label_1035(&kind.to_lowercase());
    if kind.is_empty() {
        errors.push(FieldError::required(at.child("kind"), ""));
    } else if !wrong.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            wrong.join(",")
        );
        errors.push(FieldError::invalid(at.child("kind"), &kind.into(), &why));
    }
}

fn match_resources(at: &At<'_>, errors: &mut Errors) {
    if at.get("matchPolicy").is_none() {
        errors.push(FieldError::required(at.child("matchPolicy"), ""));
    }
    at.one_of("matchPolicy", &["Equivalent", "Exact"], errors);
    for field in ["namespaceSelector", "objectSelector"] {
        match at.get(field) {
            Some(selector) => label_selector(&selector, errors),
            None => errors.push(FieldError::required(at.child(field), "")),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for rule in at.items(field) {
            let mut seen = BTreeSet::new();
            for name in rule.items("resourceNames") {
                let text = name.as_text();
                all(&name.path, text, names::path_segment(text), errors);
                if !seen.insert(text) {
                    errors.push(FieldError::duplicate(&name.path, &text.into()));
                }
            }
            operations(&rule, errors);
        }
    }
}

/// What both kinds of bindings say.
fn binding(at: &At<'_>, errors: &mut Errors) {
    if !at.text("policyName").is_empty() {
        at.named("policyName", names::SUBDOMAIN_RULE, errors);
    }
    if let Some(parameters) = at.get("paramRef") {
        parameter_ref(&parameters, errors);
    }
    if let Some(matched) = at.get("matchResources") {
        match_resources(&matched, errors);
    }
}

fn parameter_ref(at: &At<'_>, errors: &mut Errors) {
    let name = at.text("name");
    let selector = at.get("selector");
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        at.named("name", names::PATH_SEGMENT_RULE, errors);
        if selector.is_some() {
            errors.push(FieldError::forbidden(at.child("name"), both));
        }
    }
    if let Some(selector) = &selector {
        label_selector(selector, errors);
        if !name.is_empty() {
            errors.push(FieldError::forbidden(at.child("selector"), both));
        }
    }
    if name.is_empty() && selector.is_none() {
        let why = "one of name or selector must be specified";
        errors.push(FieldError::required(&at.path, why));
    }
    at.word("parameterNotFoundAction", &["Deny", "Allow"], errors);
}

/// A binding of a policy that refuses.
pub fn validating_binding(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let spec = At::new(spec, "spec");
    binding(&spec, errors);
    let actions = spec.items("validationActions");
    let mut seen = BTreeSet::new();
    for one in &actions {
        let text = one.as_text();
        let known = ["Audit", "Deny", "Warn"];
        if !known.contains(&text) {
            errors.push(FieldError::unsupported(one.path.clone(), text, &known));
        }
        if !seen.insert(text) {
            errors.push(FieldError::duplicate(&one.path, &text.into()));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        let shown = spec.value.get("validationActions").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid(
            spec.child("validationActions"),
            shown,
            why,
        ));
    }
    // Declared: after the rest.
    spec.required("policyName", errors);
    if actions.is_empty() {
        errors.push(FieldError::required(spec.child("validationActions"), ""));
    }
}

/// A binding of a policy that changes what is written.
pub fn mutating_binding(value: &Json, errors: &mut Errors) {
    let spec = value.get("spec").unwrap_or(&Value::Null);
    let spec = At::new(spec, "spec");
    spec.required("policyName", errors);
    binding(&spec, errors);
    if let Some(matched) = spec.get("matchResources") {
        mutating(&matched, errors);
    }
}
