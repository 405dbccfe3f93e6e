//! Audit: what a request shows of itself, and what of its answer is recorded.
//!
//! Knows headers and bodies. Must not know the policy, nor where events go.

use std::net::IpAddr;

use http::{HeaderName, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{
    Api, Remote,
    respond::{self, Answer, InJson, Length},
    route::{self, Query},
};
use crate::{
    audit::{AuditLevel, Origin, Record},
    authn::Identity,
    authz::Attributes,
    codec::yaml,
    error::ApiError,
    limits,
};

const ID: HeaderName = HeaderName::from_static("audit-id");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL: HeaderName = HeaderName::from_static("x-real-ip");

/// Begins to record a request of somebody.
pub fn begin(
    api: &Api,
    remote: &Remote,
    parts: &Parts,
    query: &Query,
    identity: &Identity,
) -> Option<Record> {
    let audit = api.audit.as_ref()?;
    let path = route::decoded(parts.uri.path());
    let parameter = |name: &str| query.first(name);
    let asked = Attributes::of(&parts.method, &path, &parameter);
    audit.begin(Some(identity), &asked, || origin(remote, parts))
}

/// Records a request of nobody who is known.
pub fn unknown(api: &Api, remote: &Remote, parts: &Parts, query: &Query, error: &ApiError) {
    let Some(audit) = &api.audit else {
        return;
    };
    let path = route::decoded(parts.uri.path());
    let parameter = |name: &str| query.first(name);
    let asked = Attributes::of(&parts.method, &path, &parameter);
    if let Some(record) = audit.begin(None, &asked, || origin(remote, parts)) {
        record.failed_authentication(error.code, error.status());
    }
}

fn origin(remote: &Remote, parts: &Parts) -> Origin {
    let text = |name: HeaderName| {
        let value = parts.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    let forwarded = text(FORWARDED).split(',');
    addresses.extend(forwarded.filter_map(|one| one.trim().parse::<IpAddr>().ok()));
    let real = text(REAL).parse::<IpAddr>().ok();
    addresses.extend(real.filter(|real| !addresses.contains(real)));
    let own = remote.address.ip().to_canonical();
    if addresses.last() != Some(&own) {
        addresses.push(own);
    }
    let uri = parts.uri.path_and_query().map_or("", |uri| uri.as_str());
    Origin {
        uri: without_token(uri),
        id: text(ID).to_owned(),
        user_agent: text(header::USER_AGENT).to_owned(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
    }
}

/// A token has no place in a URI, and some put it there nevertheless.
fn without_token(uri: &str) -> String {
    const NAME: &str = "access_token=";
    match uri.find(NAME) {
        None => uri.to_owned(),
        Some(at) => {
            let (before, rest) = uri.split_at(at + NAME.len());
            let after = rest.find('&').map_or("", |end| &rest[end..]);
            format!("{before}REDACTED{}", without_token(after))
        }
    }
}

/// Records what is answered. A watch is recorded when it has begun, and again when
/// it ends.
pub async fn end(record: Record, answer: Answer, watch: bool) -> Answer {
    let code = answer.status();
    let (mut parts, body) = answer.into_parts();
    if let Ok(id) = record.id().parse() {
        parts.headers.insert(ID, id);
    }
    if watch && code.is_success() {
        record.answered(code.as_u16(), None);
        record.started();
        return Response::from_parts(parts, respond::holding(body, record));
    }
    let (value, body) = read(&record, &mut parts, body, code).await;
    record.answered(code.as_u16(), value);
    Response::from_parts(parts, body)
}

/// What is to be looked at of an answer, and the answer as it was.
async fn read(
    record: &Record,
    parts: &mut http::response::Parts,
    body: respond::Body,
    code: StatusCode,
) -> (Option<Value>, respond::Body) {
    let all = record.level() >= AuditLevel::RequestResponse;
    let most = match all {
        true => limits::AUDIT_BODY_BYTES_MAX,
        false => limits::AUDIT_STATUS_BYTES_MAX,
    };
    if let Some(InJson(json)) = parts.extensions.remove() {
        if json.len() <= most {
            return (serde_json::from_slice(&json).ok(), body);
        }
        record.too_large();
        return (None, body);
    }
    let content = parts.headers.get(header::CONTENT_TYPE);
    let content = content
        .and_then(|content| content.to_str().ok())
        .unwrap_or("");
    let in_yaml = content == "application/yaml";
    let length = match parts.extensions.get() {
        Some(Length(length)) => Some(*length),
        None => body
            .size_hint()
            .exact()
            .and_then(|length| usize::try_from(length).ok()),
    };
    if !in_yaml && content != "application/json" || length.is_none_or(|length| length > most) {
        if all {
            record.too_large();
        }
        return (None, body);
    }
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    let start = &bytes[..bytes.len().min(64)];
    let may_be_status = code.is_client_error()
        || code.is_server_error()
        || in_yaml
        || start.windows(8).any(|part| part == b"\"Status\"");
    let value = (all || may_be_status).then(|| match in_yaml {
        true => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| Some(yaml::read(text).ok()?.0)),
        false => serde_json::from_slice(&bytes).ok(),
    });
    (value.flatten(), respond::whole(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_of_a_uri_is_recorded() {
        assert_eq!(without_token("/api?watch=1"), "/api?watch=1");
        assert_eq!(
            without_token("/api?access_token=a.b&x=1&access_token=c"),
            "/api?access_token=REDACTED&x=1&access_token=REDACTED"
        );
    }

    #[test]
    fn addresses_are_those_of_proxies_and_the_connection() {
        let remote = Remote {
            address: "192.0.2.9:1".parse().expect("an address"),
            shown: None,
        };
        let request = http::Request::get("/api/v1/pods?limit=1")
            .header("x-forwarded-for", "192.0.2.1, nobody,2001:db8::1")
            .header("x-real-ip", "192.0.2.1")
            .header("audit-id", "mine")
            .body(());
        let (parts, ()) = request.expect("a request").into_parts();
        let found = origin(&remote, &parts);
        assert_eq!(found.addresses, ["192.0.2.1", "2001:db8::1", "192.0.2.9"]);
        assert_eq!(
            (found.uri.as_str(), found.id.as_str()),
            ("/api/v1/pods?limit=1", "mine")
        );
    }
}
