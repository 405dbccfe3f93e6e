//! Answers: bodies, headers, errors, and the forms that a client asked for.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

use super::accept::Form;
use crate::{
    catalog::Resource,
    codec::{
        json::{self, Source},
        proto, yaml,
    },
    error::ApiError,
    limits,
    object::Json,
    registry::{Listed, Object},
    schema::{MessageId, schema},
    table,
    versions::View,
};

pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub type Answer = Response<Body>;

/// The length of a streamed body, as an extension of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Length(pub usize);

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The same in JSON, as an extension of an answer in protobuf that is recorded.
#[derive(Clone, Debug)]
pub struct InJson(pub Bytes);

/// A body that holds something until it has been sent, or nobody wants it.
pub fn holding(body: Body, held: impl Send + 'static) -> Body {
    body.map_frame(move |frame| {
        let _ = &held;
        frame
    })
    .boxed_unsync()
}

/// A body of one piece.
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

/// A body of chunks.
pub fn streamed(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

/// An answer with a body of one piece.
pub fn bytes(code: StatusCode, content: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole(body.into()));
    *answer.status_mut() = code;
    set(&mut answer, header::CONTENT_TYPE, content);
    answer
}

/// Sets a header; a value that cannot stand in one is left out.
pub fn set(answer: &mut Answer, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// An answer in JSON.
pub fn json(code: StatusCode, value: &Value) -> Answer {
    bytes(code, JSON, value.to_string())
}

/// An answer in YAML instead of JSON; another stays as it is.
pub async fn in_yaml(answer: Answer) -> Result<Answer, ApiError> {
    let content = answer.headers().get(header::CONTENT_TYPE);
    if content.is_none_or(|content| content != JSON) {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(broken)?.to_bytes();
    let value: Value = serde_json::from_slice(&body).map_err(broken)?;
    let mut answer = Response::from_parts(parts, whole(yaml::write(&value).into()));
    set(&mut answer, header::CONTENT_TYPE, YAML);
    Ok(answer)
}

/// A failure as its `Status`.
pub fn failure(error: &ApiError) -> Answer {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(code, &error.status());
    if let Some(seconds) = error.retry_after() {
        set(&mut answer, header::RETRY_AFTER, &seconds.to_string());
    }
    answer
}

/// A client's own fault is not worth a try of ours: every message is there.
fn broken(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(error.to_string())
}

/// One object of message `id`, which is `kind` of `api_version`, in protobuf.
fn sealed(api_version: &str, kind: &str, id: MessageId, json: &[u8]) -> Result<Vec<u8>, ApiError> {
    let value = json::decode(json, id, Source::Client)
        .map_err(broken)?
        .value;
    Ok(proto::seal(api_version, kind, id, &value))
}

/// One object of a resource in protobuf.
pub fn protobuf(resource: &Resource, json: &[u8]) -> Result<Vec<u8>, ApiError> {
    sealed(
        &resource.api_version(),
        &resource.kind,
        resource.message,
        json,
    )
}

/// A `Status` in protobuf.
pub fn protobuf_status(json: &[u8]) -> Result<Vec<u8>, ApiError> {
    let id = schema()
        .find("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
        .ok_or_else(|| broken("no Status"))?;
    sealed("v1", "Status", id, json)
}

/// An object as it goes with its row: in the version asked for.
pub fn in_row(view: &View, value: &Json) -> Value {
    let whole = Value::Object(value.clone());
    if view.is_plain() {
        return whole;
    }
    let shown = view.shown(&Bytes::from(whole.to_string())).ok();
    let shown = shown.and_then(|json| serde_json::from_slice(&json).ok());
    shown.unwrap_or(whole)
}

/// What goes with the rows of a table.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub include: table::Include,
    pub shown: table::RowObject<'a>,
}

/// One object in the form asked for. `id` is another message than the
/// resource's for a subresource of another kind.
pub fn object(
    code: StatusCode,
    form: Form,
    resource: &Resource,
    object: &Object,
    rows: Rows<'_>,
) -> Result<Answer, ApiError> {
    let answer = match form {
        Form::Json | Form::Yaml => bytes(code, JSON, object.json.clone()),
        Form::Protobuf => bytes(code, PROTOBUF, protobuf(resource, &object.json)?),
        Form::Partial | Form::PartialList => bytes(code, JSON, partial(&object.json)?.to_string()),
        Form::Table => {
            let value: Json = serde_json::from_slice(&object.json).map_err(broken)?;
            let meta = json!({"resourceVersion": object.revision.to_string()});
            json(
                code,
                &table::of(resource, &[value], &meta, rows.include, rows.shown, true),
            )
        }
    };
    Ok(warned(answer, &object.warnings))
}

/// The same answer with warnings.
pub fn warned(mut answer: Answer, warnings: &[String]) -> Answer {
    for warning in warnings {
        warn(&mut answer, warning);
    }
    answer
}

/// Adds a `Warning` header.
pub fn warn(answer: &mut Answer, text: &str) {
    let plain: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect::<String>()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{plain}\"")) {
        answer.headers_mut().append(header::WARNING, value);
    }
}

/// Adds a `Warning` header before those that are there.
pub fn warn_first(answer: &mut Answer, text: &str) {
    let others: Vec<HeaderValue> = answer
        .headers()
        .get_all(header::WARNING)
        .iter()
        .cloned()
        .collect();
    answer.headers_mut().remove(header::WARNING);
    warn(answer, text);
    for other in others {
        answer.headers_mut().append(header::WARNING, other);
    }
}

/// The metadata of an object alone.
pub fn partial(json: &[u8]) -> Result<Value, ApiError> {
    let mut value: Json = serde_json::from_slice(json).map_err(broken)?;
    Ok(json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": value.remove("metadata").unwrap_or_default(),
    }))
}

/// The metadata of a list.
fn list_meta(listed: &Listed) -> Value {
    let mut meta = json!({"resourceVersion": listed.revision.to_string()});
    if !listed.token.is_empty() {
        meta["continue"] = listed.token.clone().into();
    }
    if let Some(remaining) = listed.remaining {
        meta["remainingItemCount"] = remaining.into();
    }
    meta
}

/// What stands before the items of a list in JSON.
fn list_head(resource: &Resource, meta: &Value) -> String {
    format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        resource.kind,
        resource.api_version()
    )
}

/// A list in JSON, in one piece.
pub fn list_in_json(resource: &Resource, listed: &Listed) -> Bytes {
    let mut text = list_head(resource, &list_meta(listed)).into_bytes();
    for (index, item) in listed.items.iter().enumerate() {
        text.extend_from_slice(if index > 0 { b",{" } else { b"{" });
        text.extend_from_slice(&untyped(item.clone()));
    }
    text.extend_from_slice(b"]}");
    text.into()
}

/// A list in the form asked for.
pub fn list(
    form: Form,
    resource: &Resource,
    listed: Listed,
    rows: Rows<'_>,
) -> Result<Answer, ApiError> {
    let meta = list_meta(&listed);
    match form {
        Form::Json => {
            let head = list_head(resource, &meta);
            let bare = listed.items.into_iter().map(untyped).collect();
            Ok(items(JSON, Around::json(head, "{"), bare))
        }
        Form::Yaml => {
            let items: Result<Vec<Bytes>, ApiError> = listed.items.iter().map(yaml_item).collect();
            let items = items?;
            let opening = if items.is_empty() { " []\n" } else { "\n" };
            let head = format!("apiVersion: {}\nitems:{opening}", resource.api_version());
            let rest = json!({"kind": format!("{}List", resource.kind), "metadata": meta});
            let around = Around {
                head,
                opening: "",
                between: "",
                tail: yaml::write(&rest),
            };
            Ok(self::items(YAML, around, items))
        }
        Form::Partial | Form::PartialList => {
            let parts: Result<Vec<Bytes>, ApiError> = listed
                .items
                .iter()
                .map(|item| partial(item).map(|value| value.to_string().into()))
                .collect();
            let head = format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{meta},\"items\":["
            );
            Ok(items(JSON, Around::json(head, ""), parts?))
        }
        Form::Table => {
            let values: Result<Vec<Json>, _> = listed
                .items
                .iter()
                .map(|item| serde_json::from_slice(item))
                .collect();
            Ok(json(
                StatusCode::OK,
                &table::of(
                    resource,
                    &values.map_err(broken)?,
                    &meta,
                    rows.include,
                    rows.shown,
                    true,
                ),
            ))
        }
        Form::Protobuf => {
            let body = protobuf_list(resource, &meta, &listed.items)?;
            Ok(bytes(StatusCode::OK, PROTOBUF, body))
        }
    }
}

fn protobuf_list(resource: &Resource, meta: &Value, items: &[Bytes]) -> Result<Vec<u8>, ApiError> {
    let list_meta = schema()
        .find("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")
        .ok_or_else(|| broken("no ListMeta"))?;
    let meta = json::decode(meta.to_string().as_bytes(), list_meta, Source::Client)
        .map_err(broken)?
        .value;
    let mut raw = Vec::new();
    proto::nested(1, &mut raw, |out| proto::encode(list_meta, &meta, out));
    for item in items {
        let value = json::decode(item, resource.message, Source::Client)
            .map_err(broken)?
            .value;
        let mut one = Vec::with_capacity(item.len());
        proto::encode(resource.message, &value, &mut one);
        proto::put_len(2, &one, &mut raw);
    }
    Ok(proto::envelope(
        &resource.api_version(),
        &format!("{}List", resource.kind),
        &raw,
    ))
}

/// An item of a list without its kind and version, which the list has for all:
/// what follows its opening brace, for [`items`] to open.
fn untyped(item: Bytes) -> Bytes {
    // Both stand first, in the order of either writer.
    let mut rest = &item[item.len().min(1)..];
    let mut found = 0;
    for _ in 0..2 {
        for name in ["\"kind\":\"", "\"apiVersion\":\""] {
            if let Some(value) = rest.strip_prefix(name.as_bytes())
                && let Some(end) = value.iter().position(|byte| *byte == b'"')
            {
                let after = &value[end + 1..];
                rest = after.strip_prefix(b",").unwrap_or(after);
                found += 1;
            }
        }
    }
    if found == 2 {
        return item.slice(item.len() - rest.len()..);
    }
    // Something else stands first: of kinds that were converted.
    let Ok(mut value) = serde_json::from_slice::<Json>(&item) else {
        return item.slice(item.len().min(1)..);
    };
    value.remove("kind");
    value.remove("apiVersion");
    Bytes::from(Value::Object(value).to_string()).slice(1..)
}

/// An item of a list in YAML.
fn yaml_item(item: &Bytes) -> Result<Bytes, ApiError> {
    let mut value: Json = serde_json::from_slice(item).map_err(broken)?;
    value.remove("kind");
    value.remove("apiVersion");
    Ok(yaml::item(&Value::Object(value)).into())
}

/// What stands around the items of a list.
struct Around {
    head: String,
    /// Before each.
    opening: &'static str,
    between: &'static str,
    tail: String,
}

impl Around {
    fn json(head: String, opening: &'static str) -> Self {
        Self {
            head,
            opening,
            between: ",",
            tail: "]}\n".to_owned(),
        }
    }
}

/// The items of a list between a head and its end, in chunks.
fn items(content: &str, around: Around, items: Vec<Bytes>) -> Answer {
    let Around {
        head,
        opening,
        between,
        tail,
    } = around;
    let each = items.iter().map(|item| item.len() + opening.len());
    let gaps = items.len().saturating_sub(1) * between.len();
    let size: usize = each.sum::<usize>() + gaps + head.len() + tail.len();
    if size <= limits::CHUNK_BYTES {
        let mut body = Vec::with_capacity(size);
        body.extend_from_slice(head.as_bytes());
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(between.as_bytes());
            }
            body.extend_from_slice(opening.as_bytes());
            body.extend_from_slice(item);
        }
        body.extend_from_slice(tail.as_bytes());
        return bytes(StatusCode::OK, content, body);
    }
    // Copied a chunk at a time, as the client reads.
    let chunks = futures::stream::unfold(
        (Some((head.into_bytes(), tail)), items.into_iter(), true),
        move |(state, mut items, mut first)| async move {
            let (mut chunk, tail) = state?;
            while chunk.len() < limits::CHUNK_BYTES {
                let Some(item) = items.next() else {
                    chunk.extend_from_slice(tail.as_bytes());
                    return Some((Bytes::from(chunk), (None, items, first)));
                };
                if !std::mem::replace(&mut first, false) {
                    chunk.extend_from_slice(between.as_bytes());
                }
                chunk.extend_from_slice(opening.as_bytes());
                chunk.extend_from_slice(&item);
            }
            Some((
                Bytes::from(chunk),
                (
                    Some((Vec::with_capacity(limits::CHUNK_BYTES + 4_096), tail)),
                    items,
                    first,
                ),
            ))
        },
    );
    let mut answer = Response::new(streamed(chunks));
    answer.extensions_mut().insert(Length(size));
    set(&mut answer, header::CONTENT_TYPE, content);
    answer
}
