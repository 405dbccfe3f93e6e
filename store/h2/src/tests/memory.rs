//! What clients make the process hold is paid from one budget.

use super::*;
use crate::Excess;

/// Room for no more than a few large requests or responses.
fn small(budget: &Arc<Budget>) -> Config {
    Config {
        streams: 1_000,
        connection_window: 1 << 20,
        budget: budget.clone(),
        ..config()
    }
}

/// The responses of only headers that say so, among what is there to read.
async fn refusals(far: &mut DuplexStream, expected: usize) -> usize {
    let mut refused = 0;
    while refused < expected {
        let seen = next_of(far, 1).await;
        refused += usize::from(seen.payload.ends_with(b"no memory"));
    }
    refused
}

fn no_window() -> Vec<u8> {
    frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])
}

#[tokio::test]
async fn bodies_that_do_not_end_are_refused_beyond_the_budget() {
    let budget = Budget::new(400_000);
    let (mut far, served) = start(small(&budget), Echo::default());
    far.write_all(&hello()).await.unwrap();
    for turn in 0..30 {
        let stream = 2 * turn + 1;
        far.write_all(&frame(1, 4, stream, &block("/whole")))
            .await
            .unwrap();
        far.write_all(&frame(0, 0, stream, &[0; 16_384]))
            .await
            .unwrap();
    }
    refusals(&mut far, 10).await;
    assert!(budget.used() <= 200_000, "{}", budget.used());
    // Another connection is served meanwhile.
    let (other, _served) = start(small(&budget), Echo::default());
    let other = client(other).await;
    let (body, _) = exchange(&other, "/whole", Bytes::from_static(b"small")).await;
    assert_eq!(body, b"small");
    drop((far, other));
    served.ended.await.unwrap().unwrap();
    until(|| budget.used() == 0).await;
}

#[tokio::test]
async fn responses_that_the_client_has_no_window_for_are_refused_beyond_the_budget() {
    let budget = Budget::new(400_000);
    let (mut far, served) = start(small(&budget), Echo::default());
    far.write_all(&[hello(), no_window()].concat())
        .await
        .unwrap();
    for turn in 0..50 {
        let stream = 2 * turn + 1;
        far.write_all(&frame(1, 4, stream, &block("/whole")))
            .await
            .unwrap();
        far.write_all(&frame(0, 1, stream, &[7; 16_000]))
            .await
            .unwrap();
    }
    refusals(&mut far, 30).await;
    assert!(budget.used() <= 200_000, "{}", budget.used());
    // Those that were taken come when there is a window for them.
    let mut more = Vec::new();
    more.extend(frame(8, 0, 0, &1_000_000_u32.to_be_bytes()));
    more.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
    far.write_all(&more).await.unwrap();
    let data = next_of(&mut far, 0).await;
    assert!(data.payload.iter().all(|byte| *byte == 7));
    drop(far);
    // It may have been writing.
    let _ = served.ended.await.unwrap();
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn requests_count_until_they_are_answered() {
    let budget = Budget::new(400_000);
    let (mut far, served) = start(small(&budget), Echo::default());
    far.write_all(&hello()).await.unwrap();
    for turn in 0..30 {
        let stream = 2 * turn + 1;
        far.write_all(&frame(1, 4, stream, &block("/never")))
            .await
            .unwrap();
        far.write_all(&frame(0, 1, stream, &[0; 16_000]))
            .await
            .unwrap();
    }
    refusals(&mut far, 15).await;
    assert!(budget.used() > 100_000, "{}", budget.used());
    assert!(budget.used() <= 200_000, "{}", budget.used());
    drop(far);
    served.ended.await.unwrap().unwrap();
    until(|| budget.used() == 0).await;
}

#[tokio::test]
async fn streams_and_their_headers_count() {
    let budget = Budget::new(400_000);
    let (mut far, _served) = start(small(&budget), Echo::default());
    far.write_all(&hello()).await.unwrap();
    let mut large = block("/never");
    large.extend_from_slice(b"\x00\x01a\x7f\x81\x3e");
    large.extend(std::iter::repeat_n(b'x', 8_064));
    for turn in 0..60 {
        far.write_all(&frame(1, 5, 2 * turn + 1, &large))
            .await
            .unwrap();
    }
    refusals(&mut far, 35).await;
    assert!(budget.used() <= 200_000, "{}", budget.used());
}

#[tokio::test]
async fn what_a_handler_does_not_read_counts() {
    let budget = Budget::new(60_000);
    let counters = Arc::<crate::Counters>::default();
    let config = Config {
        counters: counters.clone(),
        ..small(&budget)
    };
    let (mut far, _served) = start(config, Echo::default());
    // Who has no window is not asked for an echo, which does not read then.
    far.write_all(&[hello(), no_window()].concat())
        .await
        .unwrap();
    for turn in 0..8 {
        let stream = 2 * turn + 1;
        far.write_all(&frame(1, 4, stream, &block("/echo")))
            .await
            .unwrap();
        far.write_all(&frame(0, 0, stream, &[0; 10_000]))
            .await
            .unwrap();
    }
    let reset = next_of(&mut far, 3).await;
    assert_eq!(reset.payload, [0, 0, 0, 11]);
    assert!(budget.used() <= 30_000, "{}", budget.used());
    assert!(counters.count(Excess::Memory) > 0);
}

/// RFC 9113, 6.1: padding is part of what flow control counts.
#[tokio::test]
async fn padding_is_given_back_to_the_windows() {
    let (mut far, _served) = start(config(), Echo::default());
    far.write_all(&hello()).await.unwrap();
    far.write_all(&frame(1, 4, 1, &block("/echo")))
        .await
        .unwrap();
    let (mut reading, mut writing) = tokio::io::split(far);
    // Its stream has a window of 65,535 bytes, and takes ten of them.
    let mut padded = vec![255];
    padded.resize(1 + 100 + 255, 7);
    let writer = tokio::spawn(async move {
        let mut window = 65_535_i64;
        for _ in 0..2_000 {
            window -= 356;
            writing.write_all(&frame(0, 8, 1, &padded)).await.unwrap();
            if window < 0 {
                return writing;
            }
        }
        writing
    });
    let (mut of_stream, mut of_connection) = (0, 0);
    while of_stream < 30_000 || of_connection < 30_000 {
        let mut head = [0; 9];
        reading.read_exact(&mut head).await.unwrap();
        let length = (&head[..]).get_uint(3) as usize;
        let mut payload = vec![0; length];
        reading.read_exact(&mut payload).await.unwrap();
        match (head[3], head[8]) {
            (8, 1) => of_stream += (&payload[..]).get_u32(),
            (8, _) => of_connection += (&payload[..]).get_u32(),
            _ => {}
        }
    }
    drop(writer.await.unwrap());
}

/// What is answered while the client reads nothing is taken from whoever made
/// it, and paid for or refused.
#[tokio::test]
async fn answers_are_taken_from_their_makers_though_nothing_is_read() {
    let budget = Budget::new(1_000_000);
    let config = Config {
        held_bytes: 4_096,
        ..small(&budget)
    };
    let (mut far, served) = start(config, Echo::default());
    let wide = [
        frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()),
    ];
    far.write_all(&[hello(), wide.concat()].concat())
        .await
        .unwrap();
    let gate = served.service.gate.clone();
    for turn in 0..100 {
        let stream = 2 * turn + 1;
        far.write_all(&frame(1, 4, stream, &block("/gate")))
            .await
            .unwrap();
        far.write_all(&frame(0, 1, stream, &[7; 16_000]))
            .await
            .unwrap();
    }
    // There is no memory for all of them.
    until(|| served.service.under_way.load(Ordering::SeqCst) >= 10).await;
    gate.send(true).unwrap();
    until(|| served.service.under_way.load(Ordering::SeqCst) == 0).await;
    assert!(budget.used() <= 600_000, "{}", budget.used());
    // All that was not refused comes when it is read.
    let (mut whole, mut refused) = (0, 0);
    while whole + refused < 100 {
        let seen = next(&mut far).await.unwrap();
        assert!(matches!(seen.kind, 0 | 1 | 4 | 8), "{}", seen.kind);
        whole += usize::from(seen.kind == 1 && seen.payload.ends_with(b"fine"));
        refused += usize::from(seen.kind == 1 && seen.payload.ends_with(b"no memory"));
    }
    assert!(whole >= 10 && refused >= 50, "{whole} and {refused}");
}
