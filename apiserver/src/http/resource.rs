//! Requests for objects: verbs, options, bodies.

use bytes::Bytes;
use http::{Method, StatusCode, header};

use super::{
    Api,
    accept::Form,
    request::{Request, deletion, valid_options},
    respond::{self, Answer, InJson, Rows},
    watch::{self, Hold, Start, WatchOptions},
};
use crate::{
    error::{ApiError, FieldError},
    kind::{Requester, Sub},
    object::Json,
    registry::{DeleteOptions, Deleted, Listed, Match, Object, Registry, Target, sub},
    select::{Fields, Selector},
    table,
    versions::View,
};

/// The version in which an answer leaves. Rows and columns are made of the
/// stored one.
fn leaving(view: &View, form: Form) -> View {
    match form {
        Form::Table => View::of(&view.stored),
        _ => view.clone(),
    }
}

fn shown(view: &View, json: &Bytes) -> Result<Bytes, ApiError> {
    view.shown(json)
        .map_err(|error| ApiError::internal(error.to_string()))
}

fn answer_object(
    code: StatusCode,
    view: &View,
    mut object: Object,
    request: &Request<'_>,
) -> Result<Answer, ApiError> {
    let form = request.form_of(&view.served, false)?;
    let left = leaving(view, form);
    object.json = shown(&left, &object.json)?;
    let rows = Rows {
        include: request.include()?,
        shown: &|value| respond::in_row(view, value),
    };
    let mut answer = respond::object(code, form, &left.served, &object, rows)?;
    if form == Form::Protobuf && request.context.records_answers() {
        answer.extensions_mut().insert(InJson(object.json));
    }
    Ok(answer)
}

fn answer_list(view: &View, mut listed: Listed, request: &Request<'_>) -> Result<Answer, ApiError> {
    let form = request.form_of(&view.served, true)?;
    let left = leaving(view, form);
    if !left.is_plain() {
        let items = listed.items.iter().map(|item| shown(&left, item));
        listed.items = items.collect::<Result<_, _>>()?;
    }
    let recorded = form == Form::Protobuf && request.context.records_answers();
    let recorded = recorded.then(|| respond::list_in_json(&left.served, &listed));
    let rows = Rows {
        include: request.include()?,
        shown: &|value| respond::in_row(view, value),
    };
    let mut answer = respond::list(form, &left.served, listed, rows)?;
    if let Some(json) = recorded {
        answer.extensions_mut().insert(InJson(json));
    }
    Ok(answer)
}

/// Answers a request about stored objects, and warns of what clients should not
/// use any more.
pub async fn answer(
    api: &Api,
    target: Target,
    request: &Request<'_>,
    by_path: bool,
) -> Result<Answer, ApiError> {
    let rules = target.resource.rules;
    let told = rules.deletion.warning.filter(|_| {
        let silent = |options: DeleteOptions| options.propagation.is_none();
        *request.method == Method::DELETE && request.deletion().is_ok_and(silent)
    });
    let view = View::of(&target.resource);
    let answer = answered(api, target, request, by_path).await;
    let mut answer = answer.map_err(|error| error.served_as(&view.served, &view.stored));
    if matches!(request.form(), Ok(Form::Yaml)) {
        let whole = answer.unwrap_or_else(|error| respond::failure(&error));
        answer = respond::in_yaml(whole).await;
    }
    if rules.deprecated.is_none() && told.is_none() {
        return answer;
    }
    // What never came to the resource is told nothing of its version.
    let turned_away = answer.as_ref().is_err_and(ApiError::is_turned_away);
    let mut answer = answer.unwrap_or_else(|error| respond::failure(&error));
    // What is not understood or not done at all is told nothing of it.
    let refused = matches!(answer.status().as_u16(), 400 | 405);
    if let Some(text) = told.filter(|_| !refused) {
        respond::warn(&mut answer, text);
    }
    if let Some(text) = rules.deprecated.filter(|_| !turned_away) {
        respond::warn_first(&mut answer, text);
    }
    Ok(answer)
}

async fn answered(
    api: &Api,
    mut target: Target,
    request: &Request<'_>,
    by_path: bool,
) -> Result<Answer, ApiError> {
    // What was authorized is a watch.
    if by_path && *request.method != Method::GET {
        return Err(ApiError::method());
    }
    let view = View::of(&target.resource);
    target.resource = view.stored.clone();
    let named = !target.name.is_empty();
    let watch = by_path || !named && request.context.query.asks_to_watch();
    match (request.method, target.sub) {
        (&Method::GET, None) if watch => {
            let mut selector = request.selector(&view)?;
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
                    Fields::parse(&one, &target.resource).map_err(ApiError::bad_request)?;
                target.name.clear();
            }
            watched(api, &target, &view, request, selector).await
        }
        (&Method::GET, None) if !named => {
            request.form_of(&view.served, true)?;
            let listed = api.registry.list(&target, &request.list(&view)?).await?;
            answer_list(&view, listed, request)
        }
        (&Method::POST, None) => {
            let mut body = request.object(&view, &target.namespace)?;
            if let Some(asked_by) = target.resource.rules.asked_by {
                let who = &*request.context.identity;
                asked_by(
                    &mut body.value,
                    &Requester {
                        user: &who.user,
                        uid: &who.uid,
                        groups: &who.groups,
                        extra: &who.extra,
                    },
                );
            }
            if named {
                return Err(ApiError::method());
            }
            if target.resource.namespaced && target.namespace.is_empty() {
                return Err(ApiError::method());
            }
            let object = api
                .registry
                .create(&target, body, request.write(&view)?)
                .await?;
            answer_object(StatusCode::CREATED, &view, object, request)
        }
        (&Method::DELETE, None) if !named => {
            if !target.resource.verbs().contains(&"deletecollection") {
                return Err(ApiError::method());
            }
            let selector = request.selector(&view)?;
            let options = request.deletion()?;
            let listed = api
                .registry
                .delete_collection(&target, &selector, &options, request.gate)
                .await?;
            answer_list(&view, listed, request)
        }
        _ if named => one(api, &target, &view, request).await,
        _ => Err(ApiError::method()),
    }
}

/// Whose status upstream shows in no table.
const NO_STATUS_TABLE: [&str; 2] = ["devicetaintrules", "resourceclaims"];

fn refuse_table(request: &Request<'_>) -> Result<(), ApiError> {
    match request.form()? {
        Form::Table => Err(ApiError::not_transformed()),
        _ => Ok(()),
    }
}

/// Answers a request about one object.
async fn one(
    api: &Api,
    target: &Target,
    view: &View,
    request: &Request<'_>,
) -> Result<Answer, ApiError> {
    let registry = &api.registry;
    let mut warnings = Vec::new();
    let mut object = match (request.method, target.sub) {
        (&Method::POST, Some(Sub::Binding)) => {
            let mut body = request.decode(sub::message(sub::BINDING))?;
            let warnings = admitted(api, target, request, &mut body.value).await?;
            registry.bind(target, &body, request.write(view)?).await?;
            return Ok(respond::warned(success(StatusCode::CREATED), &warnings));
        }
        (&Method::POST, Some(Sub::Eviction)) => {
            let mut body = request.decode(sub::message(sub::EVICTION))?;
            let mut options = match body.value.get("deleteOptions") {
                Some(serde_json::Value::Object(given)) => deletion(given)?,
                _ => DeleteOptions::default(),
            };
            options.dry_run |= request.write(view)?.dry_run;
            let warnings = admitted(api, target, request, &mut body.value).await?;
            registry.evict(target, &body, options).await?;
            return Ok(respond::warned(success(StatusCode::CREATED), &warnings));
        }
        (&Method::POST, Some(Sub::Token)) => {
            return super::token::answer(api, target, request).await;
        }
        (_, Some(Sub::Binding | Sub::Eviction | Sub::Token)) => {
            return Err(ApiError::method());
        }
        (&Method::GET, Some(Sub::Scale)) => {
            return scale(&registry.scale(target).await?, request);
        }
        (&Method::PUT, Some(Sub::Scale)) => {
            let body = request.decode(sub::message(sub::SCALE))?;
            let options = request.write(view)?;
            let object = registry.update_scale(target, &body, options).await?;
            return scale(&object, request);
        }
        (&Method::PATCH, Some(Sub::Scale)) => {
            let (patch, options) = (request.patch()?, request.write(view)?);
            let object = registry.patch_scale(target, &patch, options).await?;
            return scale(&object, request);
        }
        (&Method::GET, Some(Sub::Finalize)) => return Err(ApiError::method()),
        (&Method::GET, sub) => {
            if sub == Some(Sub::Status) && NO_STATUS_TABLE.contains(&&*view.served.plural) {
                refuse_table(request)?;
            }
            let cached = target.resource.rules.lifetime.is_none();
            registry
                .get(target, request.version_of_one(cached)?)
                .await?
        }
        (&Method::PUT, _) => {
            let body = request.object(view, &target.namespace)?;
            registry.update(target, body, request.write(view)?).await?
        }
        (&Method::PATCH, _) if request.applies() => {
            applied(registry, target, view, request).await?
        }
        (&Method::PATCH, _) => {
            registry
                .patch(target, &request.patch()?, view, request.write(view)?)
                .await?
        }
        (&Method::DELETE, None) => {
            let options = request.deletion()?;
            if let Some(gate) = request.gate {
                warnings = gate.may_delete(registry, target, &options).await?;
            }
            match registry.delete(target, &options).await? {
                Deleted::Pending(object) => object,
                Deleted::Gone(object) if target.resource.rules.deletion.object => object,
                Deleted::Gone(object) => {
                    let answer = deleted(target, view, &object.json)?;
                    return Ok(respond::warned(answer, &warnings));
                }
            }
        }
        _ => return Err(ApiError::method()),
    };
    object.warnings.extend(warnings);
    let code = if object.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    answer_object(code, view, object, request)
}

/// Applies a body to an object, or to a part of it.
async fn applied(
    registry: &Registry,
    target: &Target,
    view: &View,
    request: &Request<'_>,
) -> Result<Object, ApiError> {
    let options = request.write(view)?;
    let (configuration, told) = request.configuration(options.validation)?;
    let mut object = registry.apply(target, &configuration, options).await?;
    object.warnings.extend(told);
    Ok(object)
}

/// Asks who has a say in a part of an object that is created as an object of its
/// own, and may change it; gives what the client is warned of.
pub async fn admitted(
    api: &Api,
    target: &Target,
    request: &Request<'_>,
    body: &mut Json,
) -> Result<Vec<String>, ApiError> {
    let dry_run = request.context.query.all("dryRun").next().is_some();
    let registry = &api.registry;
    registry
        .admit_part(target, body, request.gate, dry_run)
        .await
}

fn scale(object: &Object, request: &Request<'_>) -> Result<Answer, ApiError> {
    if request.form()? != Form::Table {
        let json = object.json.clone();
        return Ok(respond::bytes(StatusCode::OK, "application/json", json));
    }
    let value: Json = serde_json::from_slice(&object.json)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let meta = serde_json::json!({"resourceVersion": object.revision.to_string()});
    let whole = |value: &Json| serde_json::Value::Object(value.clone());
    let include = request.include()?;
    let rows = table::with(table::SCALE, &[value], &meta, include, &whole, true);
    Ok(respond::json(StatusCode::OK, &rows))
}

/// What is asked of a node, a pod or a service by way of this server, which
/// speaks to none of them: it can say no more than whether the object is there.
pub async fn unserved(api: &Api, target: &Target) -> Result<Answer, ApiError> {
    if target.resource.plural == "services" {
        return Err(ApiError::unavailable_service(&target.name));
    }
    api.registry.get(target, None).await?;
    Err(ApiError::no_page())
}

fn success(code: StatusCode) -> Answer {
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16()});
    respond::json(code, &status)
}

fn deleted(target: &Target, view: &View, object: &[u8]) -> Result<Answer, ApiError> {
    let value: crate::object::Json =
        serde_json::from_slice(object).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut details = serde_json::json!({
        "name": target.name, "kind": target.resource.plural, "uid": crate::object::meta_str(&value, "uid"),
    });
    if !view.served.group.is_empty() {
        details["group"] = view.served.group.clone().into();
    }
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(respond::json(StatusCode::OK, &status))
}

async fn watched(
    api: &Api,
    target: &Target,
    view: &View,
    request: &Request<'_>,
    selector: Selector,
) -> Result<Answer, ApiError> {
    let form = request.form()?;
    if form == Form::Yaml {
        return Err(ApiError::not_acceptable());
    }
    let start = start(api, request).await?;
    let options = WatchOptions {
        selector,
        scope: target.scope(),
        form,
        include: request.include()?,
        row: view.clone(),
        bookmarks: request.context.query.flag("allowWatchBookmarks"),
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
    let from = match start {
        Start::After(revision) => revision,
        _ => 0,
    };
    let cache = api.registry.cache_from(&target.resource, from);
    let content = match form {
        Form::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let hold = Hold {
        counted: api.metrics.watching(&request.context.labels),
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
    let initial = match request.context.query.get("sendInitialEvents") {
        "" => None,
        text => Some(!matches!(text, "false" | "0")),
    };
    let mut errors = Vec::new();
    let field = "resourceVersionMatch";
    match (initial, matched) {
        (None, Some(_)) => errors.push(FieldError::forbidden(
            field,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), None | Some(Match::Exact)) => errors.push(FieldError::forbidden(
            field,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        _ => {}
    }
    if matched == Some(Match::Exact) {
        errors.push(FieldError::unsupported(field, "Exact", &["NotOlderThan"]));
    }
    valid_options("ListOptions", &errors)?;
    match (initial, matched) {
        (Some(true), Some(Match::NotOlderThan)) => {
            Ok(Start::StateThenMark(least(api, version).await?))
        }
        (Some(false), Some(Match::NotOlderThan)) => match version {
            Some(version) if version > 0 => Ok(Start::After(version)),
            version => Ok(Start::Now(least(api, version).await?)),
        },
        // The rest was refused.
        _ => match version {
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
