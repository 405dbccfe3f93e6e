//! What requests for certificates and bundles of anchors of trust must be.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Errors,
    check::{At, all},
    names, trust,
};
use crate::{
    field::FieldError,
    kind::Sub,
    object::{self, Json},
};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn spec(value: &Json) -> At<'_> {
    At::new(value.get("spec").unwrap_or(&Value::Null), "spec")
}

/// A request for a certificate.
pub fn request(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let asked = spec.text("request");
    let decoded = STANDARD.decode(asked).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    if !text.contains("-----BEGIN CERTIFICATE REQUEST-----") {
        let shown = spec.value.get("request").unwrap_or(&Value::Null);
        let why = "PEM block type must be CERTIFICATE REQUEST";
        errors.push(FieldError::invalid(spec.child("request"), shown, why));
    }
    let usages = spec.items("usages");
    if usages.is_empty() {
        errors.push(FieldError::required(spec.child("usages"), ""));
    }
    let mut seen = BTreeSet::new();
    for one in &usages {
        if !USAGES.contains(&one.as_text()) {
            errors.push(FieldError::unsupported(
                one.path.clone(),
                one.as_text(),
                &USAGES,
            ));
        }
        if !seen.insert(one.as_text()) {
            errors.push(FieldError::duplicate(&one.path, one.value));
        }
    }
    trust::signer(&spec, errors);
    let why = "may not specify a duration less than 600 seconds (10 minutes)";
    spec.within("expirationSeconds", 600, i64::MAX, why, errors);
}

/// What of a request for a certificate a subresource may change: approval says
/// whether it is approved, whoever signs it says the certificate.
pub fn request_kept(sub: Sub, value: &Json, current: &Json, errors: &mut Errors) {
    let meta: Errors = std::mem::take(errors);
    request(value, errors);
    let status = |value: &Json| value.get("status").cloned().unwrap_or(Value::Null);
    let (new, old) = (status(value), status(current));
    let (new, old) = (At::new(&new, "status"), At::new(&old, "status"));
    conditions(&new, &old, errors);
    let of = |status: &At<'_>, kind: &str| -> Vec<Value> {
        let all = status.items("conditions").into_iter();
        all.filter(|one| one.text("type") == kind)
            .map(|one| one.value.clone())
            .collect()
    };
    let path = new.child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if of(&new, kind).len() < of(&old, kind).len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path, &why));
        }
    }
    for kind in ["Approved", "Denied"]
        .into_iter()
        .filter(|_| sub != Sub::Approval)
    {
        let (now, before) = (of(&new, kind), of(&old, kind));
        let what = if now.len() > before.len() {
            "add"
        } else if now.len() == before.len() && now != before {
            "modify"
        } else {
            continue;
        };
        let why = format!("updates may not {what} a condition of type {kind:?}");
        errors.push(FieldError::forbidden(&path, &why));
    }
    let (now, before) = (new.text("certificate"), old.text("certificate"));
    if now != before {
        let why = match sub {
            Sub::Status if before.is_empty() => None,
            Sub::Status => Some("updates may not modify existing certificate content"),
            _ => Some("updates may not set certificate content"),
        };
        if let Some(why) = why {
            errors.push(FieldError::forbidden(new.child("certificate"), why));
        }
    }
    errors.extend(meta);
}

fn conditions(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    let path = new.child("conditions");
    let kinds = |status: &At<'_>| -> Vec<String> {
        let all = status.items("conditions").into_iter();
        all.map(|one| one.text("type").to_owned()).collect()
    };
    let before = kinds(old);
    let distinct: BTreeSet<&String> = before.iter().collect();
    let had = |kind: &str| before.iter().any(|one| one == kind);
    let mut seen = BTreeSet::new();
    for one in new.items("conditions") {
        let kind = one.text("type");
        if kind.is_empty() && !had("") {
            errors.push(FieldError::required(one.child("type"), ""));
        }
        let known: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        one.word("status", known, errors);
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if seen.contains(other) && !other.is_empty() && !(had("Approved") && had("Denied")) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path, &kind.into(), why));
        }
        if !seen.insert(kind.to_owned()) && distinct.len() == before.len() {
            errors.push(FieldError::duplicate(one.child("type"), &kind.into()));
        }
    }
}

/// A request for a certificate of a pod.
pub fn pod_request(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    trust::signer(&spec, errors);
    for who in ["pod", "serviceAccount", "node"] {
        let (name, uid) = (format!("{who}Name"), format!("{who}UID"));
        spec.named(&name, names::SUBDOMAIN_RULE, errors);
        if spec.text(&uid).is_empty() {
            let why = "must not be empty";
            errors.push(FieldError::invalid(spec.child(&uid), &"".into(), why));
        }
        if spec.text(&uid).len() > 128 {
            errors.push(FieldError::too_long(spec.child(&uid), 128));
        }
    }
    let most = if spec.text("signerName").starts_with("kubernetes.io/") {
        86_400
    } else {
        7_862_400
    };
    let why = format!("must be in the range [3600, {most}]");
    spec.within("maxExpirationSeconds", 3_600, most, &why, errors);
    let stub = spec.get("stubPKCS10Request").is_some();
    let keys = ["pkixPublicKey", "proofOfPossession"];
    let keys = keys
        .iter()
        .filter(|field| spec.get(field).is_some())
        .count();
    if stub == (keys > 0) {
        let why =
            "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        errors.push(FieldError::invalid_unseen("spec", why));
    }
    for (key, _) in spec.entries("unverifiedUserAnnotations") {
        let path = spec.child("unverifiedUserAnnotations");
        let lower = key.to_ascii_lowercase();
        if key.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if names::qualified(&lower).is_empty() && !key.contains('/') {
            let why = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(&path, &lower.into(), why));
        } else {
            all(&path, &lower, names::qualified(&lower), errors);
        }
    }
}

/// What a pod asks for stays.
pub fn pod_request_kept(value: &Json, current: &Json, errors: &mut Errors) {
    if value.get("spec") == current.get("spec") {
        return;
    }
    let at = spec(value);
    let text = |field: &str| Value::from(at.text(field)).to_string();
    let any = |field: &str| at.value.get(field).cloned().unwrap_or_default().to_string();
    let fields = [
        ("SignerName", text("signerName")),
        ("PodName", text("podName")),
        ("PodUID", text("podUID")),
        ("ServiceAccountName", text("serviceAccountName")),
        ("ServiceAccountUID", text("serviceAccountUID")),
        ("NodeName", text("nodeName")),
        ("NodeUID", text("nodeUID")),
        ("MaxExpirationSeconds", any("maxExpirationSeconds")),
        ("PKIXPublicKey", any("pkixPublicKey")),
        ("ProofOfPossession", any("proofOfPossession")),
        ("StubPKCS10Request", any("stubPKCS10Request")),
        (
            "UnverifiedUserAnnotations",
            any("unverifiedUserAnnotations"),
        ),
    ];
    let shown: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name:?}:{value}"))
        .collect();
    let shown = format!("{{{}}}", shown.join(","));
    // Nothing else is looked at.
    errors.retain(|error| error.field.starts_with("metadata"));
    errors.push(FieldError::invalid_shown(
        "spec",
        &shown,
        "field is immutable",
    ));
}

/// A bundle of anchors of trust.
pub fn bundle(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let (name, signer) = (object::meta_str(value, "name"), spec.text("signerName"));
    let prefix = format!("{}:", signer.replace('/', ":"));
    let wrong = match name.strip_prefix(&prefix) {
        // That is told of every kind.
        _ if name.is_empty() => Vec::new(),
        _ if signer.is_empty() && name.contains(':') => {
            vec![
                "ClusterTrustBundle without signer name must not have \":\" in its name".to_owned(),
            ]
        }
        _ if signer.is_empty() => names::subdomain(name),
        Some(rest) => names::subdomain(rest),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    };
    all("metadata.name", name, wrong, errors);
    if !signer.is_empty() {
        trust::signer(&spec, errors);
    }
    if !spec
        .text("trustBundle")
        .contains("-----BEGIN CERTIFICATE-----")
    {
        let why = "at least one trust anchor must be provided";
        let shown = "<value omitted>".into();
        errors.push(FieldError::invalid(spec.child("trustBundle"), &shown, why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conditions_of(kinds: &[&str]) -> Json {
        let all: Vec<Value> = kinds
            .iter()
            .map(|kind| json!({"type": kind, "status": "True"}))
            .collect();
        let value = json!({"status": {"conditions": all}});
        value.as_object().expect("an object").clone()
    }

    /// What a subresource may not make of the conditions.
    fn refused(sub: Sub, now: &[&str], before: &[&str]) -> bool {
        let mut errors = Errors::new();
        request_kept(
            sub,
            &conditions_of(now),
            &conditions_of(before),
            &mut errors,
        );
        errors
            .iter()
            .any(|error| error.field.starts_with("status.conditions"))
    }

    #[test]
    fn who_reports_a_status_approves_nothing() {
        for kind in ["Approved", "Denied"] {
            assert!(refused(Sub::Status, &[kind], &[]), "{kind}");
            assert!(!refused(Sub::Approval, &[kind], &[]), "{kind}");
            assert!(refused(Sub::Approval, &[], &[kind]), "{kind} goes");
            assert!(!refused(Sub::Status, &["Failed", kind], &[kind]));
        }
        assert!(refused(Sub::Approval, &["Approved", "Denied"], &[]));
    }
}
