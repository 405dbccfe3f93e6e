//! Unsound gRPC calls in sound HTTP/2: wrong lengths, flags, methods, headers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::net::TcpStream;

/// How long an answer is waited for; some calls rightly get none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes read of an answer.
const LONGEST_ANSWER: usize = 1 << 20;

/// No method whose success would change membership, users or alarms.
const PATHS: [&str; 20] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/grpc.health.v1.Health/Check",
    "/etcdserverpb.KV/Unknown",
    "/etcdserverpb.Unknown/Range",
    "/etcdserverpb.KV",
    "/etcdserverpb.KV/Range/",
    "/etcdserverpb.kv/range",
    "/",
    "//",
    "/health",
    "/v3/kv/range",
];

/// Makes one call and returns what came of it.
pub async fn case(rng: &mut StdRng, endpoint: &str) -> String {
    let (request, body, ends) = match draw(rng) {
        Ok(drawn) => drawn,
        Err(error) => return format!("call: not made: {error}"),
    };
    match tokio::time::timeout(PATIENCE, send(endpoint, request, body, ends)).await {
        Ok(Ok(answer)) => format!("call: {answer}"),
        Ok(Err(error)) => format!("call: {}", reason(&error)),
        Err(_) => "call: still open".to_owned(),
    }
}

fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<h2::Error>() {
        Some(error) if error.is_reset() => format!("reset {:?}", error.reason()),
        Some(error) if error.is_go_away() => format!("go away {:?}", error.reason()),
        Some(error) if error.is_io() => "connection lost".to_owned(),
        _ => format!("{error}"),
    }
}

/// The request, its body and whether the stream is ended after it.
fn draw(rng: &mut StdRng) -> Result<(Request<()>, Bytes, bool)> {
    let path = one(rng, &PATHS);
    let method = match rng.random_range(0..20u32) {
        0 => Method::GET,
        1 => Method::PUT,
        2 => Method::OPTIONS,
        3 => Method::HEAD,
        _ => Method::POST,
    };
    let content_type = match rng.random_range(0..3u32) {
        0 => one(
            rng,
            &[
                "",
                "text/plain",
                "application/json",
                "application/grpc+json",
                "application/grpc-web",
                "application/grpcx",
                "application/grpc;charset=utf-8",
                "APPLICATION/GRPC",
            ],
        ),
        _ => "application/grpc",
    };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://fuzz{path}"));
    if rng.random_bool(0.8) {
        request = request.header("te", "trailers");
    }
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    if rng.random_bool(0.4) {
        let (name, value) = header(rng)?;
        request = request.header(name, value);
    }
    let ends = rng.random_bool(0.9);
    Ok((request.body(())?, body(rng), ends))
}

fn header(rng: &mut StdRng) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = one(
        rng,
        &[
            ("grpc-timeout", "0n"),
            ("grpc-timeout", "1n"),
            ("grpc-timeout", "99999999999999H"),
            ("grpc-timeout", "-1S"),
            ("grpc-timeout", "S"),
            ("grpc-timeout", "18446744073709551615S"),
            ("grpc-encoding", "gzip"),
            ("grpc-encoding", "nonsense"),
            ("grpc-accept-encoding", "nonsense"),
            ("token", "unknown.1"),
            ("authorization", "Bearer a.b.c"),
            ("authorization", "Basic"),
            ("hasleader", "true"),
            ("hasleader", "maybe"),
            ("client-api-version", "99.99"),
            ("grpcgateway-accept", "x"),
            ("trace-bin", "not base64!"),
            ("content-length", "7"),
            ("expect", "100-continue"),
            ("range", "bytes=0-"),
            ("long", ""),
        ],
    );
    let value = if name == "long" {
        HeaderValue::from_bytes(&vec![b'x'; rng.random_range(1..12_000)])?
    } else {
        HeaderValue::from_str(value)?
    };
    Ok((HeaderName::from_bytes(name.as_bytes())?, value))
}

/// Length-prefixed messages with something wrong, or not even that.
fn body(rng: &mut StdRng) -> Bytes {
    // Field 1 is a key in every request of KV but Txn, where it does not decode.
    const MESSAGE: &[u8] = b"\x0a\x04fuzz";
    let length = MESSAGE.len() as u32;
    let mut body = BytesMut::new();
    let mut framed = |flag: u8, length: u32, message: &[u8]| {
        body.put_u8(flag);
        body.put_u32(length);
        body.put_slice(message);
    };
    match rng.random_range(0..12u32) {
        0 => {}
        1 => framed(1, length, MESSAGE),
        2 => framed(rng.random_range(2..=255), length, MESSAGE),
        3 => framed(0, u32::MAX, MESSAGE),
        4 => framed(0, 1 << 30, MESSAGE),
        5 => framed(0, length + rng.random_range(1..100), MESSAGE),
        6 => framed(0, rng.random_range(0..length), MESSAGE),
        7 => {
            for _ in 0..rng.random_range(2..100u32) {
                framed(0, length, MESSAGE);
            }
        }
        8 => framed(0, 0, b""),
        9 => framed(1, 3, b"\x1f\x8b\x08"),
        10 => {
            framed(0, length, MESSAGE);
            body.truncate(rng.random_range(0..5));
        }
        _ => framed(0, length, MESSAGE),
    }
    body.freeze()
}

async fn send(endpoint: &str, request: Request<()>, body: Bytes, ends: bool) -> Result<String> {
    let stream = TcpStream::connect(endpoint)
        .await
        .context("no connection")?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let (response, mut sending) = client.send_request(request, false)?;
        // A member may refuse the call before it has the body.
        if sending.send_data(body, ends).is_err() {
            return Ok("refused early".to_owned());
        }
        answer(response).await
    }
    .await;
    connection.abort();
    answer
}

async fn answer(response: h2::client::ResponseFuture) -> Result<String> {
    let response = response.await?;
    let status = response.status().as_u16();
    let in_headers = grpc_status(response.headers());
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(data) = body.data().await {
        let length = data?.len();
        read += length;
        body.flow_control().release_capacity(length)?;
        if read > LONGEST_ANSWER {
            return Ok(format!("HTTP {status}, a long answer"));
        }
    }
    let trailers = body.trailers().await?;
    let code = trailers.as_ref().and_then(grpc_status).or(in_headers);
    Ok(match code {
        Some(code) => format!("HTTP {status}, gRPC {code}"),
        None => format!("HTTP {status}"),
    })
}

fn grpc_status(headers: &http::HeaderMap) -> Option<String> {
    let value = headers.get("grpc-status")?.to_str().ok()?;
    Some(value.to_owned())
}

fn one<T: Copy>(rng: &mut StdRng, list: &[T]) -> T {
    *list.choose(rng).expect("the lists here have elements")
}
