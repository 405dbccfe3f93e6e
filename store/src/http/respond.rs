//! Responses as Go's `net/http` makes them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

const TEXT: &str = "text/plain; charset=utf-8";

pub fn content(kind: &'static str, text: String) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub fn text(text: String) -> Response<Bytes> {
    content(TEXT, text)
}

/// Text that a browser does not take for anything else.
pub fn plain(text: String) -> Response<Bytes> {
    let mut response = content(TEXT, text);
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// As `http.Error`: the text and the end of a line.
pub fn error(code: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = plain(format!("{text}\n"));
    *response.status_mut() = code;
    response
}

pub fn not_found() -> Response<Bytes> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// Every page but metrics is for GET alone.
pub fn not_allowed() -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}
