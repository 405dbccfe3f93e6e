//! Bytes that are not sound HTTP/2: garbage, other protocols, broken frames,
//! floods.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the end of the connection is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes read of an answer.
const LONGEST_ANSWER: u64 = 1 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Sends the bytes of one connection and returns how the member took it.
pub async fn case(rng: &mut StdRng, endpoint: &str) -> String {
    let (name, bytes) = draw(rng);
    let answer = match TcpStream::connect(endpoint).await {
        Ok(stream) => exchange(stream, &bytes).await,
        Err(_) => "no connection".to_owned(),
    };
    format!("wire {name}: {answer}")
}

async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    // A member may close before it has read everything, so a failed write or
    // read says no more than that.
    let ended = tokio::time::timeout(PATIENCE, async {
        let (reading, mut writing) = stream.split();
        let write = async {
            let _ = writing.write_all(bytes).await;
            let _ = writing.shutdown().await;
        };
        let mut limited = reading.take(LONGEST_ANSWER);
        let read = limited.read_to_end(&mut answer);
        let _ = tokio::join!(write, read);
    })
    .await
    .is_ok();
    let kind = classify(&answer);
    if ended { kind } else { format!("{kind}, open") }
}

fn classify(answer: &[u8]) -> String {
    if answer.is_empty() {
        return "nothing".to_owned();
    }
    if answer.starts_with(b"HTTP/1") {
        let line: Vec<u8> = answer.iter().copied().take(12).collect();
        return String::from_utf8_lossy(&line).into_owned();
    }
    let mut rest = answer;
    let mut kind = "HTTP/2".to_owned();
    while let [a, b, c, frame, _, _, _, _, _, payload @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let payload = payload.get(..length.min(payload.len())).unwrap_or_default();
        match (*frame, payload) {
            (GOAWAY, [_, _, _, _, _, _, _, code, ..]) => kind = format!("GOAWAY {code}"),
            (RST_STREAM, [_, _, _, code]) => kind = format!("RST_STREAM {code}"),
            _ => {}
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    kind
}

fn draw(rng: &mut StdRng) -> (&'static str, Vec<u8>) {
    match rng.random_range(0..10u32) {
        0 => ("garbage", garbage(rng, 2000)),
        1 => ("HTTP/1", http1(rng)),
        2 => {
            let mut bytes = PREFACE[..rng.random_range(0..PREFACE.len())].to_vec();
            bytes.extend(garbage(rng, 50));
            ("preface", bytes)
        }
        3 => {
            let mut bytes = opened();
            bytes.extend(garbage(rng, 500));
            ("garbage after settings", bytes)
        }
        4 => ("random frames", random_frames(rng)),
        5 => ("flood", flood(rng)),
        6 => ("header block", header_block(rng)),
        _ => ("broken frame", broken_frame(rng)),
    }
}

fn garbage(rng: &mut StdRng, longest: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=longest)];
    rng.fill(bytes.as_mut_slice());
    bytes
}

fn http1(rng: &mut StdRng) -> Vec<u8> {
    let path =
        ["/health", "/version", "/v3/kv/range", "/%zz", "/../..", "*"][rng.random_range(0..6usize)];
    let head = match rng.random_range(0..6u32) {
        0 => format!("GET {path} HTTP/1.1\r\nHost: f\r\n\r\n"),
        1 => format!("POST {path} HTTP/1.1\r\nHost: f\r\nContent-Length: 99999999\r\n\r\n{{"),
        2 => format!("POST {path} HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        3 => format!("GET {path} HTTP/9.9\r\n\r\n"),
        4 => format!("GET {path} HTTP/1.1\r\n{}: x\r\n\r\n", "h".repeat(5000)),
        _ => format!(
            "GET {path} HTTP/1.1\r\nHost: f\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: !\r\n\r\n"
        ),
    };
    head.into_bytes()
}

/// Preface and empty settings.
fn opened() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    declared(bytes, payload.len(), kind, flags, stream, payload);
}

/// A frame that declares a length of its own.
fn declared(bytes: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [.., a, b, c] = length.to_be_bytes();
    bytes.extend([a, b, c, kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

/// Header block of a call of KV/Range, of literals without index.
fn call_headers() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Range"),
        (":authority", "fuzz"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        literal(&mut block, name, value);
    }
    block
}

/// Both texts must be shorter than 127 bytes.
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend(text.as_bytes());
    }
}

fn random_frames(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = opened();
    for _ in 0..rng.random_range(1..30u32) {
        let kind = rng.random_range(0..12);
        let stream = rng.random_range(0..8);
        let payload = garbage(rng, 40);
        frame(&mut bytes, kind, rng.random(), stream, &payload);
    }
    bytes
}

/// Many cheap frames that cost the receiver.
fn flood(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = opened();
    let headers = call_headers();
    let count = rng.random_range(100..2000u32);
    match rng.random_range(0..7u32) {
        0 => {
            for stream in (1..).step_by(2).take(count as usize) {
                frame(&mut bytes, HEADERS, END_HEADERS, stream, &headers);
                frame(&mut bytes, RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            }
        }
        1 => {
            frame(&mut bytes, HEADERS, END_STREAM, 1, &headers);
            for _ in 0..count {
                frame(&mut bytes, CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']);
            }
        }
        2 => {
            for _ in 0..count {
                frame(&mut bytes, PING, 0, 0, &[0; 8]);
            }
        }
        3 => {
            for _ in 0..count {
                frame(&mut bytes, SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]);
            }
        }
        4 => {
            frame(&mut bytes, HEADERS, END_HEADERS, 1, &headers);
            for _ in 0..count {
                frame(&mut bytes, DATA, 0, 1, &[]);
            }
        }
        5 => {
            for stream in (1..).step_by(2).take(count as usize) {
                frame(&mut bytes, HEADERS, END_HEADERS, stream, &headers);
            }
        }
        _ => {
            for _ in 0..count {
                frame(&mut bytes, PRIORITY, 0, 1, &[0, 0, 0, 3, 7]);
            }
        }
    }
    bytes
}

/// A call whose header block is wrong.
fn header_block(rng: &mut StdRng) -> Vec<u8> {
    let mut block = call_headers();
    match rng.random_range(0..9u32) {
        0 => block.push(0x80),
        1 => block.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        2 => block.extend([0x3f, 0xff, 0xff, 0xff, 0x7f]),
        3 => block.extend([0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'x']),
        4 => literal(&mut block, "Upper", "x"),
        5 => literal(&mut block, "bad\nname", "bad\r\nvalue"),
        6 => literal(&mut block, ":path", "/again"),
        7 => block = garbage(rng, 200),
        _ => {
            // One entry of the table, named thousands of times.
            block.push(0x40);
            block.extend([1, b'n', 120]);
            block.extend([b'v'; 120]);
            block.extend(vec![0xbe; rng.random_range(100..16_000)]);
        }
    }
    let mut bytes = opened();
    block.truncate(16_384);
    frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, &block);
    bytes
}

fn broken_frame(rng: &mut StdRng) -> Vec<u8> {
    let headers = call_headers();
    let mut bytes = opened();
    let call = |bytes: &mut Vec<u8>| frame(bytes, HEADERS, END_HEADERS, 1, &headers);
    let largest = (1 << 24) - 1;
    match rng.random_range(0..18u32) {
        0 => frame(&mut bytes, SETTINGS, 0, 0, &[0; 5]),
        1 => frame(&mut bytes, SETTINGS, 1, 0, &[0; 6]),
        2 => frame(&mut bytes, SETTINGS, 0, 3, &[]),
        3 => frame(&mut bytes, SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        4 => frame(&mut bytes, SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 0]),
        5 => declared(&mut bytes, largest, DATA, 0, 1, &[0; 100]),
        6 => declared(&mut bytes, largest, HEADERS, END_HEADERS, 1, &headers),
        7 => frame(&mut bytes, DATA, 0, 0, &[0; 5]),
        8 => frame(&mut bytes, DATA, 0, 9, &[0; 5]),
        9 => frame(&mut bytes, HEADERS, END_HEADERS, 2, &headers),
        10 => frame(&mut bytes, HEADERS, END_HEADERS | PADDED, 1, &[255, 0, 0]),
        11 => frame(&mut bytes, PING, 0, 0, &[0; 7]),
        12 => frame(&mut bytes, PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        13 => {
            call(&mut bytes);
            frame(&mut bytes, WINDOW_UPDATE, 0, 1, &[0; 4]);
        }
        14 => {
            call(&mut bytes);
            frame(&mut bytes, WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]);
        }
        15 => {
            call(&mut bytes);
            frame(&mut bytes, PRIORITY, 0, 1, &[0, 0, 0, 1, 0]);
            call(&mut bytes);
        }
        16 => {
            frame(&mut bytes, HEADERS, 0, 1, &headers);
            frame(&mut bytes, DATA, END_STREAM, 1, &[0; 5]);
        }
        _ => {
            call(&mut bytes);
            frame(&mut bytes, DATA, END_STREAM | PADDED, 1, &[200, 0, 0, 0, 0]);
        }
    }
    bytes
}
