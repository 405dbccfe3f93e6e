//! The JSON gateway: calls of etcd's API as POST requests with JSON, for clients
//! without gRPC.
//!
//! Knows which path is which call, and how messages are written as JSON. Each
//! message of a stream is a line. Everything about a call itself is left to the
//! calls as they come by gRPC. What a request makes a member hold here is paid
//! from the budget of the connections.
//! Source: grpc-gateway as etcd 3.7.3 sets it up.

mod go;
mod lines;
mod number;
mod paths;
mod read;
mod requests;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use mizzen_engine::Engine;
use prost_reflect::MessageDescriptor;
use tonic::{Code, Status};

use crate::{
    grpc::{Backend, GATEWAY, HeldBytes, Reply, RequestBody, Source, framed, too_large, too_many},
    limits,
};
use lines::{Lines, Text};
use paths::{CALLS, GatewayCall};
use requests::JsonRequests;
use scan::{Found, Scanner};

/// What `%q` of Go's makes of a text.
pub use go::quoted;

/// A request's message out of JSON as it is written, and the same of that.
#[cfg(feature = "fuzzing")]
pub(crate) fn there_and_back(call: usize, text: &[u8]) -> Result<(String, String), String> {
    let (path, _) = paths::PATHS[call % paths::PATHS.len()];
    let of = CALLS.get(path).ok_or("no such call")?.method.input();
    let written = |value: &[u8]| -> Result<String, String> {
        let message = read::message(&of, value)?;
        let mut written = "{".to_owned();
        let mut writer = write::Writer::new(of.clone(), message.into());
        while !writer.write(&mut written, usize::MAX)? {}
        Ok(written)
    };
    let mut scanner = Scanner::new();
    let found = match scanner.look(text)? {
        Found::Part => scanner.end()?,
        found => found,
    };
    let Found::Value(begin, end) = found else {
        return Err("nothing".to_owned());
    };
    let first = written(&text[begin..end])?;
    let again = written(first.as_bytes());
    let again = again.map_err(|error| format!("written as {first}: {error}"))?;
    Ok((first, again))
}

/// What was wrong with a request among many, if one was.
type Malformed = Arc<OnceLock<Status>>;

/// Answers a request below `/v3/`, of which `rest` is what follows.
pub async fn answer<E: Engine>(
    backend: &Backend<E>,
    rest: &str,
    request: Request<RequestBody>,
) -> Response<Reply> {
    let Some(call) = CALLS.get(rest) else {
        return refused(StatusCode::NOT_FOUND, &Status::not_found("Not Found"));
    };
    if request.method() != Method::POST {
        let status = Status::unimplemented("Method Not Allowed");
        return refused(StatusCode::NOT_IMPLEMENTED, &status);
    }
    let (head, body) = request.into_parts();
    let metadata = metadata(&head.headers);
    if Backend::<E>::is_unary(&call.path) {
        let answered = unary(backend, call, &metadata, body).await;
        return answered.unwrap_or_else(|status| failed(&status));
    }
    let malformed = Malformed::default();
    let requests = if call.method.is_client_streaming() {
        let (of, held) = (call.method.input(), backend.held());
        let limit = text_bytes(backend);
        let requests = JsonRequests::new(body, of, held, limit, malformed.clone());
        Source::Made(Box::pin(requests))
    } else {
        match only(backend, call, body).await {
            Ok((message, held)) => Source::Made(Box::pin(requests::Only::new(message, held))),
            Err(status) => return failed(&status),
        }
    };
    match backend.stream_call(&call.path, &metadata, requests).await {
        Ok(body) => stream(body, call.method.output(), &malformed).await,
        Err(status) => failed_stream(&status),
    }
}

async fn unary<E: Engine>(
    backend: &Backend<E>,
    call: &GatewayCall,
    metadata: &HeaderMap,
    body: RequestBody,
) -> Result<Response<Reply>, Status> {
    let (message, mut held) = only(backend, call, body).await?;
    let reply = backend.call(&call.path, metadata, message).await?;
    if !held.hold(reply.len() + limits::GATEWAY_PIECE_BYTES) {
        return Err(too_many());
    }
    let text = Text::new(call.method.output(), reply, held);
    let body = text.whole_or_body().map_err(unwritable)?;
    Ok(found(body))
}

/// Text of a request at most: JSON takes more room than the message it stands
/// for, bytes a third more, and names.
fn text_bytes<E: Engine>(backend: &Backend<E>) -> usize {
    2 * backend.message_bytes()
}

/// The message of a call that has one: the first value of the body, of which an
/// empty one stands for an empty message, and what it makes a member hold.
async fn only<E: Engine>(
    backend: &Backend<E>,
    call: &GatewayCall,
    mut body: RequestBody,
) -> Result<(Bytes, HeldBytes), Status> {
    let (mut held, limit) = (backend.held(), text_bytes(backend));
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let length = text.len() + data.len();
        if length > limit {
            return Err(too_large(length, limit));
        }
        if !held.hold(length) {
            return Err(too_many());
        }
        text.extend_from_slice(&data);
    }
    let mut scanner = Scanner::new();
    let found = match scanner.look(&text).map_err(Status::invalid_argument)? {
        Found::Part => scanner.end().map_err(Status::invalid_argument)?,
        found => found,
    };
    let message = match found {
        Found::Value(begin, end) => read::message(&call.method.input(), &text[begin..end])
            .map_err(Status::invalid_argument)?,
        Found::Nothing | Found::Part => Vec::new(),
    };
    drop(text);
    if !held.hold(message.len()) {
        return Err(too_many());
    }
    Ok((message.into(), held))
}

/// The response to a call with many messages, once the first is there or it has
/// failed.
async fn stream(mut body: Reply, of: MessageDescriptor, malformed: &Malformed) -> Response<Reply> {
    let mut pinned = Pin::new(&mut body);
    let first = poll_fn(|cx| pinned.as_mut().poll_frame(cx)).await;
    // The call itself may only say that it was ended.
    let failed = |status: &Status| failed_stream(malformed.get().unwrap_or(status));
    match first {
        None => Response::new(Reply::whole(Bytes::new())),
        Some(Err(status)) => failed(&status),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(messages) => found(Reply::page(Lines::new(body, of, messages))),
            Err(frame) => match lines::failure(frame) {
                Some(status) => failed(&status),
                None => Response::new(Reply::whole(Bytes::new())),
            },
        },
    }
}

/// What gRPC's metadata of a request is.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix("grpc-metadata-") {
            Some(name) => HeaderName::from_bytes(name.as_bytes()),
            None if name == header::AUTHORIZATION => Ok(name.clone()),
            None => continue,
        };
        if let Ok(name) = name {
            metadata.append(name, value.clone());
        }
    }
    metadata.insert(GATEWAY, HeaderValue::from_static("*/*"));
    metadata
}

fn unwritable(text: String) -> Status {
    Status::internal(text)
}

fn found(body: Reply) -> Response<Reply> {
    let mut response = in_json(body);
    response.headers_mut().insert(
        "grpc-metadata-content-type",
        HeaderValue::from_static("application/grpc"),
    );
    response
}

fn in_json(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn error_text(status: &Status) -> String {
    let message = match status.message() {
        "" => String::new(),
        text => format!(",\"message\":{}", serde_json::Value::from(text)),
    };
    format!("{{\"code\":{}{message}}}", i32::from(status.code()))
}

fn failed(status: &Status) -> Response<Reply> {
    let mut response = refused(http_code(status.code()), status);
    if status.code() == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(status.message())
    {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, text);
    }
    response
}

fn failed_stream(status: &Status) -> Response<Reply> {
    let text = lines::error_line(status);
    let mut response = in_json(Reply::whole(text.into()));
    *response.status_mut() = http_code(status.code());
    response
}

fn refused(code: StatusCode, status: &Status) -> Response<Reply> {
    let mut response = in_json(Reply::whole(error_text(status).into()));
    *response.status_mut() = code;
    response
}

/// Of grpc-gateway's `HTTPStatusFromCode`.
fn http_code(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
