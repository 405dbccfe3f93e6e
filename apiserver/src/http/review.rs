//! Reviews: questions that are answered, not stored. Until requests are
//! authorized, everybody may do everything, and that is what they say.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    resource::Request,
    respond::{self, Answer},
};
use crate::{error::ApiError, registry::sub, schema::package};

/// Who asks, until requests are authenticated.
const USER: &str = "system:admin";
const GROUPS: &[&str] = &["system:masters", "system:authenticated"];

pub fn answer(group: &str, kind: &str, request: &Request<'_>) -> Result<Answer, ApiError> {
    if request.method != Method::POST {
        return Err(ApiError::method(request.method.as_str()));
    }
    let body = request.decode(sub::message(&format!(
        "io.k8s.api.{}.v1.{kind}",
        package(group)
    )))?;
    if body.kind != kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({}) does not match the expected kind ({kind})",
            body.kind
        )));
    }
    let mut value = Value::Object(body.value);
    value["kind"] = kind.into();
    value["apiVersion"] = format!("{group}/v1").into();
    value["status"] = match kind {
        "SelfSubjectReview" => json!({"userInfo": {"username": USER, "groups": GROUPS}}),
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        _ => json!({"allowed": true, "reason": "requests are not authorized yet"}),
    };
    Ok(respond::json(StatusCode::CREATED, &value))
}
