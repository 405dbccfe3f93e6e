//! Clients that do much of what brings no request further, or begin what they
//! do not end: each is stopped, told why, and counted.

use super::*;
use crate::{Counters, Excess};

const CALM: u32 = 11;

/// Sends `frames` again and again, from stream 1 on, after `first`, until the
/// connection ends; gives the code of the GOAWAY and how often each reason was
/// counted.
async fn flooded(
    config: Config,
    first: Vec<u8>,
    mut frames: impl FnMut(u32) -> Vec<u8> + Send + 'static,
) -> (u32, Arc<Counters>) {
    let counters = config.counters.clone();
    let (far, served) = start(config, Echo::default());
    let (mut reading, mut writing) = tokio::io::split(far);
    let writer = tokio::spawn(async move {
        let hello = [hello(), first].concat();
        if writing.write_all(&hello).await.is_err() {
            return;
        }
        for turn in 0..10_000_000 {
            if writing.write_all(&frames(2 * turn + 1)).await.is_err() {
                return;
            }
        }
        panic!("nobody stops it");
    });
    let code = loop {
        let mut head = [0; 9];
        reading.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; (&head[..]).get_uint(3) as usize];
        reading.read_exact(&mut payload).await.unwrap();
        if head[3] == 7 {
            break (&payload[4..]).get_u32();
        }
    };
    served.ended.await.unwrap().unwrap();
    drop(reading);
    writer.await.unwrap();
    (code, counters)
}

fn many() -> Config {
    Config {
        streams: 100_000,
        ..config()
    }
}

/// A name, what comes first, what comes again and again, and what it counts as.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>, Excess);

fn floods() -> [Flood; 17] {
    let open = || frame(1, 4, 1, &block("/echo"));
    [
        (
            "settings",
            vec![],
            |_| frame(4, 0, 0, &[]),
            Excess::Settings,
        ),
        (
            "settings acknowledged",
            vec![],
            |_| frame(4, 1, 0, &[]),
            Excess::Settings,
        ),
        ("pings", vec![], |_| frame(6, 0, 0, &[0; 8]), Excess::Pings),
        ("pongs", vec![], |_| frame(6, 1, 0, &[0; 8]), Excess::Pings),
        (
            "priorities",
            vec![],
            |_| frame(2, 0, 3, &[0; 5]),
            Excess::Priorities,
        ),
        (
            "unknown frames",
            vec![],
            |_| frame(99, 0, 0, &[0; 5]),
            Excess::UnknownFrames,
        ),
        (
            "goaways",
            vec![],
            |_| frame(7, 0, 0, &[0; 8]),
            Excess::UnknownFrames,
        ),
        (
            "empty data",
            open(),
            |_| frame(0, 0, 1, &[]),
            Excess::EmptyFrames,
        ),
        (
            "padding",
            open(),
            |_| frame(0, 8, 1, &[3, 0, 0, 0]),
            Excess::EmptyFrames,
        ),
        (
            "updates",
            open(),
            |_| frame(8, 0, 1, &[0, 0, 0, 1]),
            Excess::WindowUpdates,
        ),
        (
            "updates of the connection",
            vec![],
            |_| frame(8, 0, 0, &[0, 0, 0, 1]),
            Excess::WindowUpdates,
        ),
        (
            "continuations",
            frame(1, 0, 1, &[]),
            |_| frame(9, 0, 1, &[]),
            Excess::Continuations,
        ),
        (
            "a long block",
            frame(1, 0, 1, &[]),
            |_| frame(9, 0, 1, &[0; 999]),
            Excess::HeaderBlock,
        ),
        (
            "resets",
            vec![],
            |stream| [request(stream, "/never"), frame(3, 0, stream, &[0; 4])].concat(),
            Excess::Resets,
        ),
        (
            "resets of what is over",
            [request(1, "/never"), frame(3, 0, 1, &[0; 4])].concat(),
            |_| frame(3, 0, 1, &[0; 4]),
            Excess::LateFrames,
        ),
        (
            "data on what is over",
            [request(1, "/never"), frame(3, 0, 1, &[0; 4])].concat(),
            |_| frame(0, 0, 1, &[0; 4]),
            Excess::LateFrames,
        ),
        (
            "empty headers",
            vec![],
            |stream| frame(1, 5, stream, &[]),
            Excess::Resets,
        ),
    ]
}

/// One after the other, each with what it is counted as.
#[tokio::test]
async fn every_flood_is_stopped_and_counted() {
    for (name, first, frames, excess) in floods() {
        let config = many();
        let (code, counters) = flooded(config, first, frames).await;
        assert_eq!(code, CALM, "{name}");
        for other in Excess::ALL {
            let expected = u64::from(other == excess);
            assert_eq!(counters.count(other), expected, "{name}: {other:?}");
        }
    }
}

/// CVE-2025-8671: the client makes the server take its requests back.
#[tokio::test]
async fn who_makes_the_server_reset_its_streams_is_stopped() {
    fn opened(stream: u32, then: Vec<u8>) -> Vec<u8> {
        [frame(1, 4, stream, &block("/whole")), then].concat()
    }
    let with_length = || [block("/whole"), b"\x0f\x0d\x012".to_vec()].concat();
    type Frames = Box<dyn FnMut(u32) -> Vec<u8> + Send>;
    let ways: [(&str, Frames); 10] = [
        (
            "a window grows by nothing",
            Box::new(|stream| opened(stream, frame(8, 0, stream, &[0; 4]))),
        ),
        (
            "a window grows too large",
            Box::new(|stream| opened(stream, frame(8, 0, stream, &[0x7f, 255, 255, 255]))),
        ),
        (
            "data after the end",
            Box::new(|stream| [request(stream, "/never"), frame(0, 0, stream, b"x")].concat()),
        ),
        (
            "headers after the end",
            Box::new(|stream| [request(stream, "/never"), request(stream, "/never")].concat()),
        ),
        (
            "more than announced",
            Box::new(move |stream| {
                [
                    frame(1, 4, stream, &with_length()),
                    frame(0, 0, stream, b"xyz"),
                ]
                .concat()
            }),
        ),
        (
            "a priority on itself",
            Box::new(|stream| {
                let on = [&stream.to_be_bytes()[..], &[0]].concat();
                opened(stream, frame(2, 0, stream, &on))
            }),
        ),
        (
            "a priority cut short",
            Box::new(|stream| opened(stream, frame(2, 0, stream, &[0]))),
        ),
        (
            "trailers without end",
            Box::new(|stream| opened(stream, frame(1, 4, stream, &[]))),
        ),
        (
            "bad trailers",
            Box::new(|stream| opened(stream, frame(1, 5, stream, &[0x83]))),
        ),
        (
            "a bad request",
            Box::new(|stream| frame(1, 5, stream, &[0x83, 0x83])),
        ),
    ];
    for (name, frames) in ways {
        let (code, counters) = flooded(many(), vec![], frames).await;
        assert_eq!(code, CALM, "{name}");
        assert_eq!(counters.count(Excess::Resets), 1, "{name}");
    }
}

/// Each entry of a frame of settings would walk over all streams.
#[tokio::test]
async fn settings_cost_what_they_make_the_server_do() {
    let mut first = Vec::new();
    for turn in 0..20_000_u32 {
        first.extend(request(2 * turn + 1, "/never"));
    }
    let frames = |turn: u32| {
        let mut entries = Vec::new();
        for at in 0..2_730_u32 {
            entries.extend([0, 4]);
            entries.extend((at + turn % 7).to_be_bytes());
        }
        frame(4, 0, 0, &entries)
    };
    let (code, counters) = flooded(many(), first, frames).await;
    assert_eq!(code, CALM);
    assert_eq!(counters.count(Excess::Settings), 1);
}

/// RFC 9113, 6.5.3: entries are taken in their order, and the last one holds.
#[tokio::test]
async fn entries_of_settings_hold_in_their_order() {
    let entries = |windows: &[u32]| {
        let mut entries = Vec::new();
        for window in windows {
            entries.extend([0, 4]);
            entries.extend(window.to_be_bytes());
        }
        frame(4, 0, 0, &entries)
    };
    let open = frame(1, 4, 1, &block("/never"));
    let wide = frame(8, 0, 1, &0x7fff_0000_u32.to_be_bytes());
    let flow_control = (7, 3);
    // The stream's window may not be too large even for a moment.
    let frames = [open, wide, entries(&[1_000_000, 10])];
    assert_eq!(verdict(&frames).await, flow_control);
    assert_eq!(verdict(&[entries(&[1 << 31, 10])]).await, flow_control);

    let (mut far, _served) = start(config(), Echo::default());
    let asked = [frame(1, 4, 1, &block("/whole")), frame(0, 1, 1, &[1; 100])].concat();
    let all = [hello(), entries(&[1_000, 0, 7]), asked].concat();
    far.write_all(&all).await.unwrap();
    assert_eq!(next_of(&mut far, 0).await.payload, [1; 7]);
}

fn hurried() -> Config {
    Config {
        patience: Duration::from_secs(10),
        ..many()
    }
}

/// What the server says last to a client that sends this and then nothing.
async fn silence_after(bytes: Vec<u8>) -> (u8, u32, Arc<Counters>) {
    let config = hurried();
    let counters = config.counters.clone();
    let (mut far, _served) = start(config, Echo::default());
    far.write_all(&bytes).await.unwrap();
    loop {
        let seen = next(&mut far).await.unwrap();
        match seen.kind {
            3 => return (3, (&seen.payload[..]).get_u32(), counters),
            7 => return (7, (&seen.payload[4..]).get_u32(), counters),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_has_to_be_ended() {
    let open = || frame(1, 4, 1, &block("/whole"));
    let cut = |mut bytes: Vec<u8>| {
        bytes.pop();
        bytes
    };
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let asked = [no_window, open(), frame(0, 1, 1, &[1; 100])].concat();
    let cases = [
        ("no preface", vec![], (7, 4), Excess::SlowHandshake),
        (
            "no settings",
            crate::PREFACE.to_vec(),
            (7, 4),
            Excess::SlowHandshake,
        ),
        (
            "a frame cut short",
            [hello(), cut(open())].concat(),
            (7, CALM),
            Excess::SlowFrame,
        ),
        (
            "a block cut short",
            [hello(), frame(1, 0, 1, &block("/whole"))].concat(),
            (7, CALM),
            Excess::SlowFrame,
        ),
        (
            "no body",
            [hello(), open()].concat(),
            (3, CALM),
            Excess::SlowBody,
        ),
        (
            "half a body",
            [hello(), open(), frame(0, 0, 1, b"half")].concat(),
            (3, CALM),
            Excess::SlowBody,
        ),
        (
            "no window",
            [hello(), asked].concat(),
            (3, CALM),
            Excess::SlowReader,
        ),
    ];
    for (name, bytes, expected, excess) in cases {
        let (kind, code, counters) = silence_after(bytes).await;
        assert_eq!((kind, code), expected, "{name}");
        assert_eq!(counters.count(excess), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_left() {
    let config = hurried();
    let counters = config.counters.clone();
    let (mut far, served) = start(config, Echo::default());
    let mut asked = hello();
    for turn in 0..20 {
        let stream = 2 * turn + 1;
        asked.extend(frame(1, 4, stream, &block("/whole")));
        asked.extend(frame(0, 1, stream, &[1; 3_000]));
    }
    far.write_all(&asked).await.unwrap();
    let ended = served.ended.await.unwrap();
    assert!(ended.is_err());
    assert_eq!(counters.count(Excess::SlowReader), 1);
}

/// A stream that only waits is no slow one.
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_server_is_not_slow() {
    let config = hurried();
    let counters = config.counters.clone();
    let (mut far, served) = start(config, Echo::default());
    let asked = [request(1, "/never"), frame(1, 4, 3, &block("/echo"))].concat();
    far.write_all(&[hello(), asked].concat()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(!served.ended.is_finished());
    far.write_all(&frame(0, 1, 3, b"late")).await.unwrap();
    assert_eq!(next_of(&mut far, 0).await.payload, b"late");
    for excess in Excess::ALL {
        assert_eq!(counters.count(excess), 0, "{excess:?}");
    }
}

/// Windows that open by a byte at a time must not cost a walk over all that
/// wait for them.
#[tokio::test]
async fn a_window_that_opens_a_little_is_used_by_one_stream() {
    let (mut far, _served) = start(many(), Echo::default());
    let mut asked = hello();
    // The connection's window of 65,535 bytes is gone after the first.
    for turn in 0..3 {
        let stream = 2 * turn + 1;
        asked.extend(frame(1, 4, stream, &block("/whole")));
        for _ in 0..4 {
            asked.extend(frame(0, 0, stream, &[1; 16_000]));
        }
        asked.extend(frame(0, 1, stream, &[1; 10]));
    }
    let mut bytes = 0;
    far.write_all(&asked).await.unwrap();
    while bytes < 65_535 {
        bytes += next_of(&mut far, 0).await.payload.len();
    }
    assert_eq!(bytes, 65_535);
    far.write_all(&frame(8, 0, 0, &[0, 0, 0, 5])).await.unwrap();
    assert_eq!(next_of(&mut far, 0).await.payload.len(), 5);
    far.write_all(&frame(8, 0, 0, &200_000_u32.to_be_bytes()))
        .await
        .unwrap();
    while bytes < 3 * 64_010 - 5 {
        bytes += next_of(&mut far, 0).await.payload.len();
    }
}
