//! Reviews: questions that are answered, not stored. Until requests are
//! authorized, everybody may do everything, and that is what they say.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    request::Request,
    respond::{self, Answer},
};
use crate::{
    catalog::{Review, package},
    error::ApiError,
    registry::sub,
};

pub fn answer(review: &Review, request: &Request<'_>) -> Result<Answer, ApiError> {
    let (group, kind) = (review.group, review.kind);
    if request.method != Method::POST {
        return Err(ApiError::method());
    }
    let body = request.decode(sub::message(&format!(
        "io.k8s.api.{}.v1.{kind}",
        package(group)
    )))?;
    if !body.kind.is_empty() && body.kind != kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({}) does not match the expected kind ({kind})",
            body.kind
        )));
    }
    let mut value = Value::Object(body.value);
    value["kind"] = kind.into();
    value["apiVersion"] = format!("{group}/v1").into();
    value["status"] = match kind {
        "SelfSubjectReview" => {
            let identity = &request.context.identity;
            json!({"userInfo": {
                "username": identity.user, "uid": identity.uid,
                "groups": identity.groups, "extra": identity.extra,
            }})
        }
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        _ => json!({"allowed": true, "reason": "requests are not authorized yet"}),
    };
    Ok(respond::json(StatusCode::CREATED, &value))
}
