//! Reviews: questions about who somebody is and what he may do, that are
//! answered, not stored.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Api,
    request::Request,
    respond::{self, Answer},
};
use crate::{
    authn::Identity,
    authz::{Attributes, together},
    catalog::{Review, package},
    error::{ApiError, FieldError},
    object::{self, Json},
    registry::sub,
    token::ISSUER,
};

pub async fn answer(
    api: &Api,
    review: &Review,
    namespace: &str,
    request: &Request<'_>,
) -> Result<Answer, ApiError> {
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
    let mut value = body.value;
    let identity = &*request.context.identity;
    let status = match kind {
        "SelfSubjectReview" => {
            object::set_meta(&mut value, "creationTimestamp", Some(object::now()));
            json!({"userInfo": identity.info()})
        }
        "TokenReview" => token(api, &value).await?,
        "SelfSubjectRulesReview" => {
            let status = rules(
                api,
                identity,
                object::str_at(&value, &["spec", "namespace"]),
            )?;
            value.insert("spec".to_owned(), json!({}));
            status
        }
        "SelfSubjectAccessReview" => {
            valid(kind, &value, namespace)?;
            access(api, identity, &value)
        }
        _ => {
            place(kind, &mut value, namespace)?;
            valid(kind, &value, namespace)?;
            access(api, &named(&value), &value)
        }
    };
    value.insert("kind".to_owned(), kind.into());
    value.insert("apiVersion".to_owned(), format!("{group}/v1").into());
    value.insert("status".to_owned(), status);
    Ok(respond::json(StatusCode::CREATED, &Value::Object(value)))
}

fn texts(value: &Json, path: &[&str]) -> Vec<String> {
    let list = object::at(value, path).and_then(Value::as_array);
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    list.map(str::to_owned).collect()
}

/// Whose token it is.
async fn token(api: &Api, value: &Json) -> Result<Value, ApiError> {
    let token = object::str_at(value, &["spec", "token"]);
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let mut wanted = texts(value, &["spec", "audiences"]);
    if wanted.is_empty() {
        wanted.push(ISSUER.to_owned());
    }
    let authenticators = &api.authenticators;
    Ok(
        match authenticators.token(&api.registry, token, &wanted).await {
            Ok(reviewed) => json!({
                "authenticated": true,
                "user": reviewed.identity.info(),
                "audiences": reviewed.audiences,
            }),
            Err(why) => json!({"user": {}, "error": why}),
        },
    )
}

/// All rules of who asks.
fn rules(api: &Api, identity: &Identity, namespace: &str) -> Result<Value, ApiError> {
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (rules, mut errors) = api.authorizer.rules(identity, namespace);
    let untold = api.authorizer.untold(identity);
    let mut status =
        json!({"resourceRules": [], "nonResourceRules": [], "incomplete": untold.is_some()});
    errors.splice(0..0, untold.map(str::to_owned));
    for mut rule in rules {
        let urls = std::mem::take(&mut rule.urls);
        if !rule.resources.is_empty()
            && let Some(list) = status["resourceRules"].as_array_mut()
        {
            list.push(json!(rule));
        }
        if !urls.is_empty()
            && let Some(list) = status["nonResourceRules"].as_array_mut()
        {
            list.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
        }
    }
    if !errors.is_empty() {
        status["evaluationError"] = together(&errors).into();
    }
    Ok(status)
}

/// Whether somebody may.
fn access(api: &Api, identity: &Identity, value: &Json) -> Value {
    let resource = object::at(value, &["spec", "resourceAttributes"]).is_some();
    let of = match resource {
        true => "resourceAttributes",
        false => "nonResourceAttributes",
    };
    let text = |field: &str| object::str_at(value, &["spec", of, field]);
    let asked = Attributes {
        verb: text("verb"),
        path: text("path"),
        is_resource: resource,
        group: text("group"),
        version: text("version"),
        namespace: text("namespace"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name").into(),
        fields: selected(value).into(),
    };
    let decision = api.authorizer.decide(identity, &asked);
    let mut status = json!({"allowed": decision.is_allowed()});
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    status
}

/// The field selector that is asked about, as a text.
fn selected(value: &Json) -> String {
    let path = ["spec", "resourceAttributes", "fieldSelector"];
    let Some(selector) = object::at(value, &path) else {
        return String::new();
    };
    if let Some(raw) = selector["rawSelector"]
        .as_str()
        .filter(|raw| !raw.is_empty())
    {
        return raw.to_owned();
    }
    let escaped = |text: &str| {
        let text = text.replace('\\', "\\\\");
        text.replace(',', "\\,").replace('=', "\\=")
    };
    let listed = selector["requirements"].as_array().into_iter().flatten();
    let terms = listed.filter_map(|one| {
        let key = one["key"].as_str()?;
        let [value] = &one["values"].as_array()?[..] else {
            return None;
        };
        let value = escaped(value.as_str()?);
        match one["operator"].as_str()? {
            "In" => Some(format!("{key}={value}")),
            "NotIn" => Some(format!("{key}!={value}")),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}

/// Whom a review asks about.
fn named(value: &Json) -> Identity {
    let extra = object::at(value, &["spec", "extra"]);
    Identity {
        user: object::str_at(value, &["spec", "user"]).to_owned(),
        uid: object::str_at(value, &["spec", "uid"]).to_owned(),
        groups: texts(value, &["spec", "groups"]),
        extra: extra
            .and_then(|extra| serde_json::from_value(extra.clone()).ok())
            .unwrap_or_default(),
    }
}

/// Puts a review that is of a namespace into that of the URL.
fn place(kind: &str, value: &mut Json, namespace: &str) -> Result<(), ApiError> {
    if kind != "LocalSubjectAccessReview" {
        return Ok(());
    }
    let given = object::meta_str(value, "namespace");
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object::set_meta(value, "namespace", Some(namespace.into()));
    Ok(())
}

/// What is wrong with a question, as upstream says it.
fn valid(kind: &str, value: &Json, namespace: &str) -> Result<(), ApiError> {
    let part = |field: &str| object::at(value, &["spec", field]);
    let (resource, path) = (part("resourceAttributes"), part("nonResourceAttributes"));
    let mut errors = Vec::new();
    // As Go shows its own type.
    let shown = path.map_or(Value::Null, |path| {
        json!({"Path": path["path"].as_str().unwrap_or(""), "Verb": path["verb"].as_str().unwrap_or("")})
    });
    if resource.is_some() == path.is_some() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid("spec", &shown, why));
    }
    if kind != "SelfSubjectAccessReview"
        && object::str_at(value, &["spec", "user"]).is_empty()
        && texts(value, &["spec", "groups"]).is_empty()
    {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", &"".into(), why));
    }
    for selector in ["fieldSelector", "labelSelector"] {
        let Some(selected) = resource.and_then(|resource| resource.get(selector)) else {
            continue;
        };
        let field = format!("spec.resourceAttributes.{selector}");
        let raw = selected["rawSelector"].as_str().unwrap_or("");
        let listed = selected["requirements"].as_array();
        match (raw.is_empty(), listed.is_none_or(Vec::is_empty)) {
            (false, false) => errors.push(FieldError::invalid(
                format!("{field}.rawSelector"),
                &raw.into(),
                "may not specified at the same time as requirements",
            )),
            (true, true) => errors.push(FieldError::required(
                format!("{field}.requirements"),
                &format!("when {field} is specified, requirements or rawSelector is required"),
            )),
            _ => {}
        }
    }
    if kind == "LocalSubjectAccessReview" {
        let given = resource.map(|resource| resource["namespace"].as_str().unwrap_or(""));
        if let Some(given) = given.filter(|given| *given != namespace) {
            let field = "spec.resourceAttributes.namespace";
            let why = "must match metadata.namespace";
            errors.push(FieldError::invalid(field, &given.into(), why));
        }
        if path.is_some() {
            let why = "disallowed on this kind of request";
            errors.push(FieldError::invalid(
                "spec.nonResourceAttributes",
                &shown,
                why,
            ));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream has lost the kind by then.
    Err(ApiError::invalid_kind(
        "authorization.k8s.io",
        "",
        "",
        &errors,
    ))
}
