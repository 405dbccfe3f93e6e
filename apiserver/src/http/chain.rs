//! The way of a request, step by step, in upstream's order: panic, request
//! info, deadline, authentication, audit, impersonation, fairness,
//! authorization, endpoint. Admission has its place inside the endpoint,
//! between decoding with defaults and validation.
//!
//! Knows what each step hands to the next, the [`Context`]. Must not know any
//! resource, any object, or how an endpoint answers.
//!
//! Steps that are not built yet are functions that decide nothing and cost
//! nothing: they are the places where what is to come will stand.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt as _;
use http::{HeaderName, Method, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use tokio::sync::SemaphorePermit;

use super::{
    Api, Remote, audited, compress, endpoint, impersonate, labels,
    request::header_text,
    respond::{self, Answer},
    route::{self, Query, Route},
};
use crate::{
    audit::{AuditLevel, Record},
    authn::Identity,
    authz::{Attributes, Decision, refusal},
    error::ApiError,
    fairness::Turn,
    limits,
    metrics::Labels,
};

/// The schema and the level of a request, as upstream tells them.
const SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// What the steps before found out about a request.
pub struct Context {
    /// How it is counted: verb, resource, scope.
    pub labels: Labels,
    /// Empty when it is malformed.
    pub query: Query,
    pub malformed: bool,
    pub identity: Arc<Identity>,
    /// Whose turn it was by priority and fairness.
    pub turn: Option<Turn>,
    /// What goes into the audit log, if anything does.
    pub record: Option<Record>,
    /// When the client is told that it took too long; a watch that began goes
    /// on.
    pub deadline: tokio::time::Instant,
}

impl Context {
    /// Whether what is answered is recorded as a whole.
    pub fn records_answers(&self) -> bool {
        let level = self.record.as_ref().map(Record::level);
        level.is_some_and(|level| level >= AuditLevel::RequestResponse)
    }
}

/// Answers a request.
pub async fn serve(api: &Api, remote: &Remote, request: http::Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    // In a box: the future of a request is moved several times before it runs,
    // and when it ends.
    let steps = Box::pin(steps(api, remote, &parts, body));
    let answer = recovered(steps, &parts).await;
    leave(answer, &parts)
}

/// Panic: one request's fault is not another's.
async fn recovered(steps: impl Future<Output = Answer> + Unpin, parts: &Parts) -> Answer {
    match AssertUnwindSafe(steps).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            let why = panic_text(&*panic);
            tracing::error!(method = %parts.method, path = parts.uri.path(), why, "a request caused a panic");
            respond::bytes(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain; charset=utf-8",
                "This request caused apiserver to panic. Look in the logs for details.\n",
            )
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("")
}

/// Every step after panic recovery, each with what it needs of those before.
async fn steps(api: &Api, remote: &Remote, parts: &Parts, body: Incoming) -> Answer {
    let started = Instant::now();
    let (route, mut context) = request_info(api, parts);
    let watch = context.labels.verb == "WATCH";
    let under_way = (!watch).then(|| api.metrics.flying(&context.labels));
    let deadline = context.deadline;
    let rest = async {
        match authenticate(api, remote, parts).await {
            Ok(identity) => context.identity = identity,
            Err(error) => {
                audited::unknown(api, remote, parts, &context.query, &error);
                return Err(error);
            }
        }
        context.record = audited::begin(api, remote, parts, &context.query, &context.identity);
        impersonate(parts, &mut context)?;
        let _place = fairness(api, route.as_ref(), parts, &mut context).await?;
        if let Err(denied) = authorize(api, parts, &context) {
            return Ok(denied_answer(&denied));
        }
        if context.malformed {
            return Err(ApiError::bad_request("the query is malformed"));
        }
        endpoint::answer(api, parts, &context, route, body).await
    };
    let answer = match tokio::time::timeout_at(deadline, rest).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::timeout("the request did not end in time")),
    };
    drop(under_way);
    let mut answer = answer.unwrap_or_else(|error| respond::failure(&error));
    if let Some((schema, level)) = context.turn.take().and_then(|turn| turn.uids) {
        answer.headers_mut().insert(SCHEMA, schema);
        answer.headers_mut().insert(LEVEL, level);
    }
    if let Some(record) = context.record.take() {
        answer = audited::end(record, answer, watch).await;
    }
    // A watch that began is counted at its end.
    if !watch || !answer.status().is_success() {
        let code = answer.status().as_u16();
        api.metrics.done(&context.labels, code, started.elapsed());
    }
    answer
}

/// Request info and deadline: what the request is about, and until when.
fn request_info(api: &Api, parts: &Parts) -> (Option<Route>, Context) {
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let route = route::route(&api.registry.catalog(), parts.uri.path());
    let labels = labels::of(route.as_ref(), query.as_ref(), &parts.method);
    let context = Context {
        labels,
        malformed: query.is_none(),
        query: query.unwrap_or_default(),
        identity: api.nobody.clone(),
        turn: None,
        record: None,
        deadline: tokio::time::Instant::now() + limits::REQUEST,
    };
    (route, context)
}

/// Authentication: who asks.
async fn authenticate(
    api: &Api,
    remote: &Remote,
    parts: &Parts,
) -> Result<Arc<Identity>, ApiError> {
    let authorization = header_text(&parts.headers, header::AUTHORIZATION);
    let shown = remote.shown.as_ref();
    let identity =
        api.authenticators
            .identify(&api.registry, shown, authorization, parts.uri.path());
    identity.await.ok_or_else(ApiError::unauthorized)
}

/// Impersonation: whom who asks wants to be taken for.
fn impersonate(parts: &Parts, context: &mut Context) -> Result<(), ApiError> {
    if let Some(identity) = impersonate::wanted(&parts.headers, &context.identity)? {
        if let Some(record) = &context.record {
            record.impersonated(&identity);
        }
        context.identity = Arc::new(identity);
    }
    Ok(())
}

/// Fairness: so many requests at once, and whose turn it is. Whether the server is
/// healthy is answered beyond it, or an overload would have it killed.
async fn fairness<'a>(
    api: &'a Api,
    route: Option<&Route>,
    parts: &Parts,
    context: &mut Context,
) -> Result<Option<SemaphorePermit<'a>>, ApiError> {
    if matches!(route, Some(Route::Health)) {
        return Ok(None);
    }
    if let Some(fairness) = &api.fairness {
        let path = route::decoded(parts.uri.path());
        let parameter = |name: &str| context.query.first(name);
        let asked = Attributes::of(&parts.method, &path, &parameter);
        let turn = fairness.turn(&context.identity, &asked).await?;
        context.turn = Some(turn);
        return Ok(None);
    }
    match api.requests.try_acquire() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) => Err(ApiError::too_many()),
    }
}

/// Authorization: whether who asks may.
fn authorize(api: &Api, parts: &Parts, context: &Context) -> Result<(), ApiError> {
    let path = route::decoded(parts.uri.path());
    let parameter = |name: &str| context.query.first(name);
    let asked = Attributes::of(&parts.method, &path, &parameter);
    let decision = api.authorizer.decide(&context.identity, &asked);
    if let Some(record) = &context.record {
        record.decided(decision.is_allowed(), decision.reason());
    }
    match decision {
        Decision::Allowed(_) => Ok(()),
        Decision::Refused(reason) => Err(refusal(&context.identity, &asked, &reason)),
    }
}

/// What it says comes from who asks: no browser is to guess what it is.
fn denied_answer(denied: &ApiError) -> Answer {
    let mut answer = respond::failure(denied);
    respond::set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// What every answer gets on its way out.
fn leave(mut answer: Answer, parts: &Parts) -> Answer {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        answer = compress::gzip(answer, header_text(&parts.headers, header::ACCEPT_ENCODING));
    }
    if parts.method == Method::HEAD {
        *answer.body_mut() = respond::streamed(futures::stream::empty());
    }
    respond::set(&mut answer, header::CACHE_CONTROL, "no-cache, private");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_and_others_go_on() {
        let request = http::Request::get("/api/v1/pods").body(());
        let (parts, ()) = request.expect("a request").into_parts();
        let panics = Box::pin(async { panic!("on purpose") });
        let answer = recovered(panics, &parts).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let works = Box::pin(async { respond::bytes(StatusCode::OK, "text/plain", "ok") });
        assert_eq!(recovered(works, &parts).await.status(), StatusCode::OK);
    }
}
