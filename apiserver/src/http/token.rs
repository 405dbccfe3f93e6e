//! `serviceaccounts/token`: a token for an account, perhaps for as long as
//! some object is there.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Api,
    request::Request,
    resource::admitted,
    respond::{self, Answer},
};
use crate::{
    codec::{self, Precision},
    error::{ApiError, FieldError},
    object::{self, Json},
    registry::{Target, sub},
    token::{Bound, Claims, ISSUER},
};

/// Upstream's lifetime of a token that asks for none, in seconds.
const LIFETIME: i64 = 3_600;
const LIFETIME_MIN: i64 = 600;
const LIFETIME_MAX: i64 = 1 << 32;

/// Answers a request for a token of the account that `target` names.
pub async fn answer(api: &Api, target: &Target, request: &Request<'_>) -> Result<Answer, ApiError> {
    let body = request.decode(sub::message(sub::TOKEN_REQUEST))?;
    if body.kind != "TokenRequest" || body.api_version != "authentication.k8s.io/v1" {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({}, {}) does not match the expected kind (TokenRequest, authentication.k8s.io/v1)",
            body.kind, body.api_version
        )));
    }
    let mut value = body.value;
    for (field, of) in [("name", &target.name), ("namespace", &target.namespace)] {
        let given = object::meta_str(&value, field);
        if !given.is_empty() && given != of {
            return Err(ApiError::bad_request(format!(
                "the {field} of the object ({given}) does not match the {field} on the URL ({of})"
            )));
        }
        object::set_meta(&mut value, field, Some(of.as_str().into()));
    }
    let warnings = admitted(api, target, request, &mut value).await?;
    let account = read(api, target).await?;
    let lifetime = lifetime(&value)?;
    let audiences = audiences(&value);
    let bound = bound(api, target, &value).await?;
    let (issued, nanos) = codec::now();
    let claims = Claims {
        namespace: target.namespace.clone(),
        account: target.name.clone(),
        account_uid: object::meta_str(&account, "uid").to_owned(),
        audiences: audiences.clone(),
        issued,
        expires: issued.saturating_add(lifetime),
        bound,
    };
    let token = api
        .signer
        .sign(&claims, &object::uid())
        .map_err(|error| ApiError::internal(error.to_string()))?;
    object::set_meta(&mut value, "creationTimestamp", Some(object::now()));
    object::set_meta(&mut value, "uid", Some(object::uid().into()));
    value.insert("kind".to_owned(), "TokenRequest".into());
    value.insert("apiVersion".to_owned(), "authentication.k8s.io/v1".into());
    if let Some(Value::Object(spec)) = value.get_mut("spec") {
        spec.insert("audiences".to_owned(), json!(audiences));
        spec.insert("expirationSeconds".to_owned(), lifetime.into());
    }
    let expires = codec::format_time(claims.expires, nanos, Precision::Seconds);
    value.insert(
        "status".to_owned(),
        json!({"token": token, "expirationTimestamp": expires}),
    );
    let answer = respond::json(StatusCode::CREATED, &Value::Object(value));
    Ok(respond::warned(answer, &warnings))
}

async fn read(api: &Api, target: &Target) -> Result<Json, ApiError> {
    let one = Target {
        sub: None,
        ..target.clone()
    };
    let object = api.registry.get(&one, None).await?;
    serde_json::from_slice(&object.json).map_err(|error| ApiError::internal(error.to_string()))
}

fn lifetime(value: &Json) -> Result<i64, ApiError> {
    let Some(asked) = object::at(value, &["spec", "expirationSeconds"]).and_then(Value::as_i64)
    else {
        return Ok(LIFETIME);
    };
    let why = if asked < LIFETIME_MIN {
        "may not specify a duration less than 10 minutes"
    } else if asked > LIFETIME_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(asked);
    };
    Err(ApiError::invalid_kind(
        "authentication.k8s.io",
        "TokenRequest",
        "",
        &[FieldError::invalid(
            "spec.expirationSeconds",
            &asked.into(),
            why,
        )],
    ))
}

fn audiences(value: &Json) -> Vec<String> {
    let given = object::at(value, &["spec", "audiences"]).and_then(Value::as_array);
    let given: Vec<String> = given
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if given.is_empty() {
        vec![ISSUER.to_owned()]
    } else {
        given
    }
}

/// The object that the token ends with, which must be there.
async fn bound(api: &Api, target: &Target, value: &Json) -> Result<Option<Bound>, ApiError> {
    let Some(Value::Object(reference)) = object::at(value, &["spec", "boundObjectRef"]) else {
        return Ok(None);
    };
    let kind = object::str_at(reference, &["kind"]);
    let version = object::str_at(reference, &["apiVersion"]);
    let (claim, plural, namespaced) = match (version, kind) {
        ("v1", "Pod") => ("pod", "pods", true),
        ("v1", "Secret") => ("secret", "secrets", true),
        ("v1", "Node") => ("node", "nodes", false),
        _ => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let one = Target {
        resource: api.registry.catalog().own("", "v1", plural).clone(),
        namespace: if namespaced {
            target.namespace.clone()
        } else {
            String::new()
        },
        name: object::str_at(reference, &["name"]).to_owned(),
        sub: None,
    };
    if one.name.is_empty() || one.name.contains('/') {
        let error = FieldError::required("spec.boundObjectRef.name", "");
        return Err(ApiError::invalid_kind(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            &[error],
        ));
    }
    let found = read(api, &one).await?;
    let uid = object::meta_str(&found, "uid").to_owned();
    let wanted = object::str_at(reference, &["uid"]);
    if !wanted.is_empty() && wanted != uid {
        return Err(ApiError::conflict(
            &one.resource,
            &one.name,
            &format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    if claim == "pod" && object::str_at(&found, &["spec", "serviceAccountName"]) != target.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        )));
    }
    Ok(Some(Bound {
        claim,
        name: one.name,
        uid,
    }))
}
