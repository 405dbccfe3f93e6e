//! Requests for objects: verbs, options, bodies.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

use super::{
    Api,
    accept::{self, Form},
    respond::{self, Answer},
    route::Query,
    watch::{self, Hold, Start, WatchOptions},
};
use crate::{
    codec::{
        json::{self, Decoded, Source},
        proto::{self, Envelope},
    },
    error::{ApiError, FieldError},
    metrics::Labels as Counted,
    object::{self, Json},
    patch::{Patch, PatchError},
    registry::{
        DeleteOptions, Deleted, ListOptions, Listed, Match, Object, Propagation, Target,
        Validation, WriteOptions, expect_kind, sub,
    },
    schema::{MessageId, Sub},
    select::{Fields, Labels, Selector},
    table::Include,
    validate,
    versions::View,
};

/// A request, with its body read.
pub struct Request<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub query: &'a Query,
    /// What it is counted as.
    pub labels: Counted,
    pub body: Bytes,
}

impl Request<'_> {
    fn header(&self, name: header::HeaderName) -> &str {
        super::header_text(self.headers, name)
    }

    fn form(&self) -> Result<Form, ApiError> {
        accept::form(self.header(header::ACCEPT)).ok_or_else(ApiError::not_acceptable)
    }

    fn include(&self) -> Result<Include, ApiError> {
        match self.query.get("includeObject") {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::None),
            "Object" => Ok(Include::Object),
            other => Err(ApiError::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            ))),
        }
    }

    fn dry_run(&self) -> Result<bool, ApiError> {
        let mut dry = false;
        for value in self.query.all("dryRun") {
            match value {
                "All" => dry = true,
                "" => {}
                other => {
                    let error = FieldError::unsupported("dryRun", other, &["All"]);
                    return Err(ApiError::invalid_kind(
                        "meta.k8s.io",
                        "CreateOptions",
                        "",
                        &[error],
                    ));
                }
            }
        }
        Ok(dry)
    }

    fn write(&self) -> Result<WriteOptions, ApiError> {
        let validation = match self.query.get("fieldValidation") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                let error = FieldError::unsupported(
                    "fieldValidation",
                    other,
                    &["Ignore", "Strict", "Warn"],
                );
                return Err(ApiError::invalid_kind(
                    "meta.k8s.io",
                    "CreateOptions",
                    "",
                    &[error],
                ));
            }
        };
        Ok(WriteOptions {
            dry_run: self.dry_run()?,
            validation,
        })
    }

    fn version(&self) -> Result<Option<i64>, ApiError> {
        match self.query.get("resourceVersion") {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(version) if version >= 0 => Ok(Some(version)),
                _ => Err(ApiError::bad_request(format!(
                    "Invalid value: {text:?}: invalid resource version"
                ))),
            },
        }
    }

    fn version_match(&self) -> Result<Option<Match>, ApiError> {
        match self.query.get("resourceVersionMatch") {
            "" => Ok(None),
            "Exact" => Ok(Some(Match::Exact)),
            "NotOlderThan" => Ok(Some(Match::NotOlderThan)),
            other => {
                let error = FieldError::unsupported(
                    "resourceVersionMatch",
                    other,
                    &["Exact", "NotOlderThan", ""],
                );
                Err(ApiError::invalid_kind(
                    "meta.k8s.io",
                    "ListOptions",
                    "",
                    &[error],
                ))
            }
        }
    }

    fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.query.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("invalid {name}: {text:?}"))),
        }
    }

    /// The selector in the words of the stored version.
    fn selector(&self, view: View) -> Result<Selector, ApiError> {
        let labels =
            Labels::parse(self.query.get("labelSelector")).map_err(ApiError::bad_request)?;
        let fields = Fields::parse(self.query.get("fieldSelector"), view.served)
            .map_err(ApiError::bad_request)?
            .renamed(view.served, view.stored);
        Ok(Selector { labels, fields })
    }

    fn list(&self, view: View) -> Result<ListOptions, ApiError> {
        Ok(ListOptions {
            selector: self.selector(view)?,
            limit: self.number("limit")?.unwrap_or(0).max(0),
            token: self.query.get("continue").to_owned(),
            version: self.version()?,
            version_match: self.version_match()?,
        })
    }

    /// Decodes the body as message `id`.
    pub fn decode(&self, id: MessageId) -> Result<Decoded, ApiError> {
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        match media.as_str() {
            "" | "application/json" => {
                json::decode(&self.body, id, Source::Client).map_err(|error| {
                    ApiError::bad_request(format!("the object provided is unrecognized: {error}"))
                })
            }
            "application/vnd.kubernetes.protobuf" => {
                let malformed = |error: &dyn std::fmt::Display| {
                    ApiError::bad_request(format!("the object provided is unrecognized: {error}"))
                };
                let envelope = Envelope::open(&self.body).map_err(|error| malformed(&error))?;
                let text =
                    proto::to_plain_json(id, envelope.raw).map_err(|error| malformed(&error))?;
                let mut decoded =
                    json::decode(&text, id, Source::Client).map_err(|error| malformed(&error))?;
                decoded.kind = envelope.kind.into_owned();
                decoded.api_version = envelope.api_version.into_owned();
                Ok(decoded)
            }
            other => Err(ApiError::unsupported_media(
                other,
                "application/json, application/vnd.kubernetes.protobuf",
            )),
        }
    }

    /// Decodes the body as an object of the served version and gives it in the
    /// stored one.
    fn object(&self, view: View) -> Result<Decoded, ApiError> {
        let mut body = self.decode(view.served.message)?;
        if view.is_plain() {
            return Ok(body);
        }
        expect_kind(view.served, &body)?;
        let errors = validate::other_version(view.served, self.method == Method::POST, &body.value);
        if !errors.is_empty() {
            let name = object::meta_str(&body.value, "name");
            return Err(ApiError::invalid(view.served, name, &errors));
        }
        body.value = view
            .to_stored(body.value)
            .map_err(|error| ApiError::invalid_body(view.served, &error.to_string()))?;
        body.kind = view.stored.kind.to_owned();
        body.api_version = view.stored.api_version();
        Ok(body)
    }

    fn patch(&self) -> Result<Patch, ApiError> {
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        match Patch::read(&media, &self.body) {
            Some(Ok(patch)) => Ok(patch),
            Some(Err(PatchError::Malformed(message) | PatchError::Unfit(message))) => {
                Err(ApiError::bad_request(message))
            }
            None => Err(ApiError::unsupported_media(
                &media,
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            )),
        }
    }

    fn deletion(&self) -> Result<DeleteOptions, ApiError> {
        let mut options = DeleteOptions {
            dry_run: self.dry_run()?,
            grace: self.number("gracePeriodSeconds")?,
            propagation: propagation(self.query.get("propagationPolicy"))?,
            ..DeleteOptions::default()
        };
        if self.query.flag("orphanDependents") {
            options.propagation = Some(Propagation::Orphan);
        }
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(options);
        }
        let id = sub::message("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
        apply_options(&self.decode(id)?.value, &mut options)?;
        Ok(options)
    }
}

/// Takes what a `DeleteOptions` object asks for.
fn apply_options(given: &Json, options: &mut DeleteOptions) -> Result<(), ApiError> {
    let text = |value: Option<&serde_json::Value>| {
        value.and_then(|value| value.as_str()).map(str::to_owned)
    };
    if let Some(grace) = given
        .get("gracePeriodSeconds")
        .and_then(serde_json::Value::as_i64)
    {
        options.grace = Some(grace);
    }
    if let Some(policy) = text(given.get("propagationPolicy")) {
        options.propagation = propagation(&policy)?;
    }
    match given
        .get("orphanDependents")
        .and_then(serde_json::Value::as_bool)
    {
        Some(true) => options.propagation = Some(Propagation::Orphan),
        Some(false) => options.propagation = Some(Propagation::Background),
        None => {}
    }
    if let Some(preconditions) = given.get("preconditions") {
        options.uid = text(preconditions.get("uid"));
        options.version =
            match text(preconditions.get("resourceVersion")) {
                Some(version) => Some(version.parse().map_err(|_| {
                    ApiError::bad_request("invalid resource version in preconditions")
                })?),
                None => None,
            };
    }
    let dry = given
        .get("dryRun")
        .and_then(serde_json::Value::as_array)
        .is_some_and(|list| list.iter().any(|one| one == "All"));
    options.dry_run |= dry;
    Ok(())
}

fn propagation(text: &str) -> Result<Option<Propagation>, ApiError> {
    match text {
        "" => Ok(None),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        other => {
            let error = FieldError::unsupported(
                "propagationPolicy",
                other,
                &["Background", "Foreground", "Orphan"],
            );
            Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                &[error],
            ))
        }
    }
}

/// The version in which an answer leaves. Rows and columns are made of the
/// stored one.
fn leaving(view: View, form: Form) -> View {
    match form {
        Form::Table => View::of(view.stored),
        _ => view,
    }
}

fn shown(view: View, json: &Bytes) -> Result<Bytes, ApiError> {
    view.shown(json)
        .map_err(|error| ApiError::internal(error.to_string()))
}

fn answer_object(
    code: StatusCode,
    view: View,
    mut object: Object,
    request: &Request<'_>,
) -> Result<Answer, ApiError> {
    let form = request.form()?;
    let view = leaving(view, form);
    object.json = shown(view, &object.json)?;
    respond::object(code, form, view.served, &object, request.include()?)
}

fn answer_list(view: View, mut listed: Listed, request: &Request<'_>) -> Result<Answer, ApiError> {
    let form = request.form()?;
    let view = leaving(view, form);
    if !view.is_plain() {
        let items = listed.items.iter().map(|item| shown(view, item));
        listed.items = items.collect::<Result<_, _>>()?;
    }
    respond::list(form, view.served, listed, request.include()?)
}

/// Answers a request about stored objects.
pub async fn answer(
    api: &Api,
    mut target: Target,
    request: &Request<'_>,
    by_path: bool,
) -> Result<Answer, ApiError> {
    let view = View::of(target.resource);
    target.resource = view.stored;
    let named = !target.name.is_empty();
    match (request.method, target.sub) {
        (&Method::GET, None) if by_path || request.query.flag("watch") => {
            let mut selector = request.selector(view)?;
            if named {
                let one = format!(
                    "metadata.name={}",
                    target
                        .name
                        .replace('\\', "\\\\")
                        .replace(',', "\\,")
                        .replace('=', "\\=")
                );
                selector.fields =
                    Fields::parse(&one, target.resource).map_err(ApiError::bad_request)?;
                target.name.clear();
            }
            watched(api, &target, view, request, selector).await
        }
        (&Method::GET, None) if !named => {
            request.form()?;
            let listed = api.registry.list(&target, &request.list(view)?).await?;
            answer_list(view, listed, request)
        }
        (&Method::POST, None) => {
            let body = request.object(view)?;
            if named {
                return Err(ApiError::method("POST to an object"));
            }
            if target.resource.namespaced && target.namespace.is_empty() {
                return Err(ApiError::bad_request(
                    "an empty namespace may not be set during creation",
                ));
            }
            let object = api.registry.create(&target, body, request.write()?).await?;
            answer_object(StatusCode::CREATED, view, object, request)
        }
        (&Method::DELETE, None) if !named => {
            let selector = request.selector(view)?;
            let options = request.deletion()?;
            let gone = api
                .registry
                .delete_collection(&target, &selector, &options)
                .await?;
            let listed = Listed {
                items: gone.into_iter().map(|object| object.json).collect(),
                revision: 0,
                token: String::new(),
                remaining: None,
            };
            answer_list(view, listed, request)
        }
        _ if named => one(api, &target, view, request).await,
        (method, _) => Err(ApiError::method(method.as_str())),
    }
}

/// Answers a request about one object.
async fn one(
    api: &Api,
    target: &Target,
    view: View,
    request: &Request<'_>,
) -> Result<Answer, ApiError> {
    let registry = &api.registry;
    let object = match (request.method, target.sub) {
        (&Method::POST, Some(Sub::Binding)) => {
            let body = request.decode(sub::message(sub::BINDING))?;
            registry.bind(target, &body, request.write()?).await?;
            return Ok(success(StatusCode::CREATED));
        }
        (&Method::POST, Some(Sub::Eviction)) => {
            let body = request.decode(sub::message(sub::EVICTION))?;
            let mut options = DeleteOptions {
                dry_run: request.dry_run()?,
                ..DeleteOptions::default()
            };
            if let Some(serde_json::Value::Object(given)) = body.value.get("deleteOptions") {
                apply_options(given, &mut options)?;
            }
            registry.evict(target, &body, options).await?;
            return Ok(success(StatusCode::CREATED));
        }
        (&Method::POST, Some(Sub::Token)) => {
            return super::token::answer(api, target, request).await;
        }
        (_, Some(Sub::Binding | Sub::Eviction | Sub::Token)) => {
            return Err(ApiError::method(request.method.as_str()));
        }
        (&Method::GET, Some(Sub::Scale)) => return scale(registry.scale(target).await?),
        (&Method::PUT, Some(Sub::Scale)) => {
            let body = request.decode(sub::message(sub::SCALE))?;
            return scale(
                registry
                    .update_scale(target, &body, request.write()?)
                    .await?,
            );
        }
        (&Method::PATCH, Some(Sub::Scale)) => {
            return scale(
                registry
                    .patch_scale(target, &request.patch()?, request.write()?)
                    .await?,
            );
        }
        (&Method::GET, Some(Sub::Finalize)) => return Err(ApiError::method("GET")),
        (&Method::GET, _) => registry.get(target, request.version()?).await?,
        (&Method::PUT, _) => {
            let body = request.object(view)?;
            registry.update(target, &body, request.write()?).await?
        }
        (&Method::PATCH, _) => {
            registry
                .patch(target, &request.patch()?, view, request.write()?)
                .await?
        }
        (&Method::DELETE, None) => match registry.delete(target, &request.deletion()?).await? {
            Deleted::Pending(object) => object,
            Deleted::Gone(object) => return deleted(target, view, &object.json),
        },
        (method, _) => return Err(ApiError::method(method.as_str())),
    };
    answer_object(StatusCode::OK, view, object, request)
}

fn scale(object: Object) -> Result<Answer, ApiError> {
    Ok(respond::bytes(
        StatusCode::OK,
        "application/json",
        object.json,
    ))
}

fn success(code: StatusCode) -> Answer {
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16()});
    respond::json(code, &status)
}

fn deleted(target: &Target, view: View, object: &[u8]) -> Result<Answer, ApiError> {
    let value: crate::object::Json =
        serde_json::from_slice(object).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut details = serde_json::json!({
        "name": target.name, "kind": target.resource.plural, "uid": crate::object::meta_str(&value, "uid"),
    });
    if !view.served.group.is_empty() {
        details["group"] = view.served.group.into();
    }
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(respond::json(StatusCode::OK, &status))
}

async fn watched(
    api: &Api,
    target: &Target,
    view: View,
    request: &Request<'_>,
    selector: Selector,
) -> Result<Answer, ApiError> {
    let form = request.form()?;
    let start = start(api, request).await?;
    let options = WatchOptions {
        selector,
        scope: target.scope(),
        form,
        include: request.include()?,
        bookmarks: request.query.flag("allowWatchBookmarks"),
        timeout: request
            .number("timeoutSeconds")?
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0),
        start,
    };
    let permit = api
        .watches
        .clone()
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many())?;
    let cache = api.registry.cache(target.resource).clone();
    let content = match form {
        Form::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let hold = Hold {
        counted: api.metrics.watching(request.labels),
        _permit: permit,
    };
    let chunks = watch::start(leaving(view, form), cache, options, hold).await?;
    let mut answer = http::Response::new(respond::streamed(chunks));
    respond::set(&mut answer, header::CONTENT_TYPE, content);
    Ok(answer)
}

/// Where a watch begins, by its parameters.
async fn start(api: &Api, request: &Request<'_>) -> Result<Start, ApiError> {
    let version = request.version()?;
    let matched = request.version_match()?;
    let initial = match request.query.get("sendInitialEvents") {
        "" => None,
        text => Some(!matches!(text, "false" | "0")),
    };
    let invalid = |field: &str, why: &str| {
        ApiError::invalid_kind(
            "meta.k8s.io",
            "ListOptions",
            "",
            &[FieldError::forbidden(field, why)],
        )
    };
    match (initial, matched) {
        (None, Some(_)) => Err(invalid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), None | Some(Match::Exact)) => Err(invalid(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (Some(true), Some(Match::NotOlderThan)) => {
            Ok(Start::StateThenMark(least(api, version).await?))
        }
        (Some(false), Some(Match::NotOlderThan)) => match version {
            Some(version) if version > 0 => Ok(Start::After(version)),
            version => Ok(Start::Now(least(api, version).await?)),
        },
        (None, None) => match version {
            Some(version) if version > 0 => Ok(Start::After(version)),
            version => Ok(Start::State(least(api, version).await?)),
        },
    }
}

/// The revision that the cache must show: the store's own when the client
/// names none.
async fn least(api: &Api, version: Option<i64>) -> Result<i64, ApiError> {
    match version {
        Some(version) => Ok(version),
        None => Ok(api.registry.store().revision().await?),
    }
}
