//! `AdmissionReview`: what a webhook is told of a write, and what it may answer.
//!
//! Source: upstream's `pkg/admission/plugin/webhook/request`. Must not know how
//! the review travels.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::hook::Hook;
use crate::{
    admission::Asked,
    catalog::Resource,
    kind::Sub,
    object::{self, Json},
    registry::Doing,
};

/// What a webhook says.
#[derive(Default, Debug)]
pub struct ReviewAnswer {
    pub allowed: bool,
    /// A JSON patch, as text.
    pub patch: Vec<u8>,
    /// The `Status` of a refusal.
    pub status: Option<Map<String, Value>>,
    pub warnings: Vec<String>,
}

/// The write as the webhook sees it.
pub struct Told<'a> {
    /// In the version that the rules name; none for a deletion.
    pub object: Option<&'a Json>,
    pub old: Option<&'a Json>,
    pub resource: &'a Resource,
}

/// The kind of what is written: a part of an object may be one of its own.
pub fn kind(resource: &Resource, sub: Option<Sub>) -> (&str, &str, &str) {
    match sub {
        Some(Sub::Scale) => ("autoscaling", "v1", "Scale"),
        Some(Sub::Binding) => ("", "v1", "Binding"),
        Some(Sub::Eviction) => ("policy", "v1", "Eviction"),
        Some(Sub::Token) => ("authentication.k8s.io", "v1", "TokenRequest"),
        _ => (&resource.group, &resource.version, &resource.kind),
    }
}

/// The request for a webhook, whose id is `uid`.
pub fn request(hook: &Hook, version: &str, uid: &str, asked: &Asked<'_>, told: &Told<'_>) -> Value {
    let (target, served) = (asked.target(), asked.served);
    let kind_of = |resource| {
        let (group, version, kind) = kind(resource, target.sub);
        json!({"group": group, "version": version, "kind": kind})
    };
    let resource_of = |one: &Resource| json!({"group": one.group, "version": one.version, "resource": one.plural});
    let mut request = json!({
        "uid": uid,
        "kind": kind_of(told.resource),
        "resource": resource_of(told.resource),
        "requestKind": kind_of(served),
        "requestResource": resource_of(served),
        "operation": match asked.attempt.operation {
            Doing::Create => "CREATE",
            Doing::Update => "UPDATE",
            Doing::Delete => "DELETE",
        },
        "userInfo": asked.identity.info(),
        "object": told.object,
        "oldObject": told.old,
        "dryRun": asked.attempt.dry_run,
        "options": asked.options(),
    });
    if let Some(sub) = target.sub {
        request["subResource"] = sub.name().into();
        request["requestSubResource"] = sub.name().into();
    }
    let name = match &*target.name {
        "" => object::meta_str(asked.object(), "name"),
        name => name,
    };
    let namespace = match (&*target.namespace, asked.is_about("namespaces")) {
        ("", true) => name,
        (namespace, _) => namespace,
    };
    for (field, value) in [("name", name), ("namespace", namespace)] {
        if !value.is_empty() {
            request[field] = value.into();
        }
    }
    tracing::debug!(webhook = hook.name, uid, "a webhook is asked");
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{version}"),
        "request": request,
    })
}

/// Reads an answer.
///
/// # Errors
/// It is none, in upstream's words.
pub fn answer(
    text: &[u8],
    version: &str,
    uid: &str,
    mutating: bool,
) -> Result<ReviewAnswer, String> {
    let review: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let response = review
        .get("response")
        .filter(|response| response.is_object())
        .ok_or("webhook response was absent")?;
    let given = |field: &str| response[field].as_str();
    let patch = given("patch").unwrap_or("");
    let patch_type = given("patchType");
    if version == "v1" {
        let said = given("uid").unwrap_or("");
        if said != uid {
            return Err(format!("expected response.uid={uid:?}, got {said:?}"));
        }
        let said = |field: &str| review[field].as_str().unwrap_or("").to_owned();
        let (api, kind) = (said("apiVersion"), said("kind"));
        if (&*api, &*kind) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api}, Kind={kind}"
            ));
        }
        match (mutating, patch, patch_type) {
            (true, "", None) | (false, "", None) => {}
            (true, "", Some(_)) => {
                return Err("webhook returned response.patchType but not response.patch".to_owned());
            }
            (true, _, None) => {
                return Err("webhook returned response.patch but not response.patchType".to_owned());
            }
            (true, _, Some("JSONPatch")) => {}
            (true, _, Some(other)) => {
                return Err(format!(
                    "webhook returned invalid response.patchType of {other:?}"
                ));
            }
            (false, "", Some(_)) => {
                return Err("validating webhook may not return response.patchType".to_owned());
            }
            (false, ..) => {
                return Err("validating webhook may not return response.patch".to_owned());
            }
        }
    }
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(ReviewAnswer {
        allowed: response["allowed"].as_bool().unwrap_or(false),
        patch: match mutating {
            true => STANDARD.decode(patch).map_err(|error| error.to_string())?,
            false => Vec::new(),
        },
        status: response["status"].as_object().cloned(),
        warnings: warnings
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(response: &Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn answers_are_checked_as_upstream_does() {
        let patch = STANDARD.encode("[]");
        for (mutating, response, why) in [
            (true, json!({"uid": "u", "allowed": true}), None),
            (false, json!({"uid": "u", "allowed": true}), None),
            (true, json!(null), Some("webhook response was absent")),
            (
                true,
                json!({"uid": "v"}),
                Some("expected response.uid=\"u\", got \"v\""),
            ),
            (
                true,
                json!({"uid": "u", "patch": patch}),
                Some("webhook returned response.patch but not response.patchType"),
            ),
            (
                true,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                Some("webhook returned response.patchType but not response.patch"),
            ),
            (
                false,
                json!({"uid": "u", "patch": patch, "patchType": "JSONPatch"}),
                Some("validating webhook may not return response.patch"),
            ),
            (
                false,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                Some("validating webhook may not return response.patchType"),
            ),
        ] {
            let read = answer(&review(&response), "v1", "u", mutating);
            assert_eq!(read.err().as_deref(), why, "{response}");
        }
        let other = br#"{"kind":"AdmissionReview","apiVersion":"v2","response":{"uid":"u"}}"#;
        let read = answer(other, "v1", "u", true).expect_err("another version");
        assert_eq!(
            read,
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v2, Kind=AdmissionReview"
        );
    }
}
