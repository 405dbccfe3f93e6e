//! The last step of a request: it goes to what answers it. Answers itself what
//! is about the server and not about objects.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::{
    Api, accept,
    chain::Context,
    request::{Request, header_text},
    resource,
    respond::{self, Answer},
    review,
    route::Route,
};
use crate::{
    admission::{Gatekeeper, Options},
    authz::Granted,
    catalog::Catalog,
    discovery,
    error::ApiError,
    limits,
    registry::{Gate, Target},
    token as tokens,
};

/// Answers a request that every step before let through.
pub async fn answer(
    api: &Api,
    parts: &Parts,
    context: &Context,
    route: Option<Route>,
    body: Incoming,
) -> Result<Answer, ApiError> {
    let route = route.ok_or_else(ApiError::no_page)?;
    let (target, by_path) = match route {
        Route::Object(target) => (Ok(target), false),
        Route::Watch(target) => (Ok(target), true),
        Route::Review(review, namespace) => (Err((review, namespace)), false),
        Route::Beyond(target) => return resource::unserved(api, &target).await,
        other => return about(api, other, parts).await,
    };
    let keeper = match &target {
        Ok(target) => keeper(api, context, target, &parts.method).await?,
        Err(_) => None,
    };
    let request = Request {
        gate: keeper.as_ref().map(|keeper| keeper as &dyn Gate),
        method: &parts.method,
        headers: &parts.headers,
        context,
        body: read(body).await?,
    };
    match target {
        Ok(target) => resource::answer(api, target, &request, by_path).await,
        Err((review, namespace)) => review::answer(api, review, &namespace, &request).await,
    }
}

/// Who has a say in a write. Of those that give rights there are few: they are
/// worth a look at what the store holds.
async fn keeper<'a>(
    api: &'a Api,
    context: &'a Context,
    target: &Target,
    method: &Method,
) -> Result<Option<Gatekeeper<'a>>, ApiError> {
    if !matches!(
        *method,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    ) {
        return Ok(None);
    }
    let granted = Granted::of(&api.authorizer, &context.identity);
    if granted
        .as_ref()
        .is_some_and(|_| Granted::gives_rights(target) && *method != Method::DELETE)
    {
        api.authorizer.fresh(&api.registry).await?;
    }
    Ok(Some(Gatekeeper {
        admission: &api.admission,
        authorizer: &api.authorizer,
        identity: &context.identity,
        served: target.resource.clone(),
        options: Options {
            field_manager: context.query.get("fieldManager"),
            field_validation: context.query.get("fieldValidation"),
        },
        granted,
    }))
}

/// Reads a body up to the limit.
async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, limits::BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(&format!(
            "limit is {}",
            limits::BODY_BYTES_MAX
        ))),
        Err(error) => Err(ApiError::bad_request(format!(
            "the body cannot be read: {error}"
        ))),
    }
}

/// Answers what is not about objects.
async fn about(api: &Api, route: Route, parts: &Parts) -> Result<Answer, ApiError> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method());
    }
    let catalog = &*api.registry.catalog();
    let accept = header_text(&parts.headers, header::ACCEPT);
    let found = |value: Option<Value>| {
        value
            .map(|value| respond::json(StatusCode::OK, &value))
            .ok_or_else(ApiError::no_page)
    };
    match route {
        Route::Root => found(Some(discovery::paths(catalog))),
        Route::Version => found(Some(discovery::version())),
        Route::OpenId => found(Some(tokens::openid_configuration())),
        Route::Keys => found(Some(api.authenticators.accounts.keys().jwks())),
        Route::Health => health(api, parts.uri.path()).await,
        Route::Metrics => {
            let mut text = api.metrics.text();
            if let Some(audit) = &api.audit {
                audit.metrics(&mut text);
            }
            Ok(respond::bytes(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            ))
        }
        Route::CoreVersions => Ok(groups(api, catalog, true, accept)),
        Route::Groups => Ok(groups(api, catalog, false, accept)),
        Route::Group(name) => found(discovery::group(catalog, &name)),
        Route::Resources(group, version) => {
            found(discovery::resource_list(catalog, &group, &version))
        }
        Route::OpenApiV2 => {
            let documents = api.documents(catalog);
            let form = documents.v2(accept);
            let mut answer = respond::bytes(StatusCode::OK, form.content, form.bytes.clone());
            respond::set(&mut answer, header::ETAG, &format!("\"{}\"", form.hash));
            respond::set(&mut answer, header::VARY, "Accept");
            Ok(answer)
        }
        Route::OpenApi => found(Some(api.documents(catalog).index())),
        Route::OpenApiOf(path) => {
            let documents = api.documents(catalog);
            let document = documents.get(&path).ok_or_else(ApiError::no_page)?;
            let mut answer =
                respond::bytes(StatusCode::OK, "application/json", document.json.clone());
            respond::set(&mut answer, header::ETAG, &format!("\"{}\"", document.hash));
            Ok(answer)
        }
        _ => Err(ApiError::no_page()),
    }
}

fn groups(api: &Api, catalog: &Catalog, core: bool, accept: &str) -> Answer {
    match accept::aggregated(accept) {
        Some(version) => {
            let content = format!(
                "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            );
            let mut answer = respond::bytes(
                StatusCode::OK,
                &content,
                discovery::aggregated(catalog, core, version).to_string(),
            );
            respond::set(&mut answer, header::VARY, "Accept");
            answer
        }
        None if core => respond::json(StatusCode::OK, &discovery::core_versions(&api.address)),
        None => respond::json(StatusCode::OK, &discovery::group_list(catalog)),
    }
}

/// Healthy is who reaches the store, and ready who is not about to stop.
async fn health(api: &Api, path: &str) -> Result<Answer, ApiError> {
    if path.starts_with("/readyz") && api.is_stopping() {
        return Ok(respond::bytes(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            "[-]shutdown failed: the server is about to stop\n",
        ));
    }
    let reached =
        tokio::time::timeout(Duration::from_secs(2), api.registry.store().revision()).await;
    match reached {
        Ok(Ok(_)) => Ok(respond::bytes(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            "ok",
        )),
        _ => Ok(respond::bytes(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            "[-]etcd failed: the store does not answer\n",
        )),
    }
}
