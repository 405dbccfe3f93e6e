//! Sources of volumes that have to do with trust: bundles of anchors and
//! certificates; and names of signers.

use super::{
    Errors,
    check::{At, all, label_selector, unreserved},
    names,
};
use crate::field::FieldError;

/// A bundle of anchors, by its name or by its signer.
pub fn trust_bundle(one: &At<'_>, errors: &mut Errors) {
    match (one.get("name"), one.get("signerName")) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(one.path.clone(), one.value, why));
        }
        (Some(name), None) => {
            let (text, path) = (name.as_text(), one.child("name"));
            if text.is_empty() {
                let why = "must be a valid object name";
                errors.push(FieldError::required(&path, why));
            }
            for why in bundle_name(text) {
                let why = format!("not a valid clustertrustbundlename: {why}");
                errors.push(FieldError::invalid(&path, &text.into(), &why));
            }
            if let Some(selector) = one.get("labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                errors.push(FieldError::invalid(selector.path, selector.value, why));
            }
        }
        (None, Some(name)) => {
            if name.as_text().is_empty() {
                let why = "must be a valid signer name";
                errors.push(FieldError::required(name.path, why));
            }
            signer(one, errors);
            if let Some(selector) = one.get("labelSelector") {
                label_selector(&selector, errors);
            }
        }
        (None, None) => {
            let why = "either name or signerName must be specified";
            errors.push(FieldError::required(one.path.clone(), why));
        }
    }
    one.required("path", errors);
    unreserved(one.text("path"), &one.child("path"), errors);
}

/// What is wrong with the name of a bundle: one of a signer begins with that.
fn bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((_, rest)) => names::subdomain(rest),
        None => names::subdomain(name),
    }
}

/// The name of a signer, `domain/path`.
pub fn signer(at: &At<'_>, errors: &mut Errors) {
    let name = at.text("signerName");
    let path = at.child("signerName");
    if name.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let parts: Vec<_> = name.split('/').collect();
    let [domain, _] = parts[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, &name.into(), why));
    };
    all(&path, domain, names::subdomain(domain), errors);
    if domain.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, &domain.into(), why));
    }
}

/// A key that begins with a domain.
fn prefixed_key(key: &str, path: &str, errors: &mut Errors) {
    if key.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let wrong = names::qualified(key);
    let formed = wrong.is_empty();
    all(path, key, wrong, errors);
    if formed && !key.contains('/') {
        let why = "must be a domain-prefixed key (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, &key.into(), why));
    }
}

/// A certificate of the pod's own.
pub fn pod_certificate(one: &At<'_>, errors: &mut Errors) {
    signer(one, errors);
    let path = one.child("userAnnotations");
    for (key, _) in one.entries("userAnnotations") {
        prefixed_key(&key.to_ascii_lowercase(), &path, errors);
    }
    let known = [
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    let given = one.text("keyType");
    if !known.contains(&given) {
        errors.push(FieldError::unsupported(one.child("keyType"), given, &known));
    }
    let why = "if provided, maxExpirationSeconds must be >= 3600";
    one.within("maxExpirationSeconds", 3_600, i64::MAX, why, errors);
    let why = "if provided, maxExpirationSeconds must be <= 7862400";
    one.within("maxExpirationSeconds", i64::MIN, 7_862_400, why, errors);
}
