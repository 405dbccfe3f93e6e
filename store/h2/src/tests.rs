//! A whole connection, against the client of another implementation, and
//! against one that breaks the rules.

mod authority;
mod floods;
mod memory;

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use crate::{Block, Budget, Config, Head, Incoming, Reply, Service, serve};
use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, watch},
    task::JoinHandle,
};

const LIMIT: usize = 100_000;

const PEER: &str = "127.0.0.1:7";

fn config() -> Config {
    Config {
        streams: 8,
        stream_window: 65_535,
        connection_window: 100_000,
        held_bytes: 64 * 1024,
        keepalive_interval: Duration::from_secs(3_600),
        keepalive_timeout: Duration::from_secs(20),
        patience: Duration::from_secs(3_600),
        budget: Budget::new(1 << 30),
        counters: Arc::default(),
    }
}

/// Answers `/whole` with the body it got, `/gate` too, `/never` never, `/echo` with the body
/// as it comes, everything else with what is sent through a channel.
#[derive(Clone, Default)]
struct Echo {
    /// Requests being answered.
    under_way: Arc<AtomicUsize>,
    /// `/gate` is answered once it is true.
    gate: Arc<watch::Sender<bool>>,
    bodies: Option<mpsc::Sender<mpsc::Sender<Bytes>>>,
}

/// Counts as long as it lives.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Outgoing {
    Echo(Incoming),
    Channel(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = crate::Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Echo(body) => Pin::new(body).poll_frame(cx),
            Self::Channel(body) => body
                .poll_recv(cx)
                .map(|data| data.map(|data| Ok(Frame::data(data)))),
        }
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("status-of", HeaderValue::from_static("fine"));
    trailers
}

impl Service for Echo {
    type Body = Outgoing;

    fn whole(&self, head: &Head) -> Option<usize> {
        ["/whole", "/pieces", "/never", "/gate"]
            .contains(&head.path())
            .then_some(LIMIT)
    }

    fn answer(&self, head: Arc<Head>, body: Bytes) -> BoxFuture<'static, Reply> {
        let under_way = UnderWay::new(&self.under_way);
        let mut gate = self.gate.subscribe();
        Box::pin(async move {
            if head.path() == "/gate" {
                gate.wait_for(|open| *open).await.unwrap();
            }
            if head.path() == "/never" {
                std::future::pending::<Infallible>().await;
            }
            drop(under_way);
            let mut body = body;
            let more = match head.path() {
                "/pieces" => {
                    let last = body.split_off(body.len() / 2);
                    vec![body.split_off(body.len() / 2), last]
                }
                _ => Vec::new(),
            };
            Reply {
                headers: Block::response(StatusCode::OK, &HeaderMap::new()),
                data: body,
                more,
                trailers: Some(Block::trailers(&trailers())),
            }
        })
    }

    fn refuse(&self) -> Block {
        let mut headers = HeaderMap::new();
        headers.insert("refused", HeaderValue::from_static("no memory"));
        Block::response(StatusCode::OK, &headers)
    }

    fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Outgoing>> {
        let echo = request.uri().path() == "/echo";
        let bodies = self.bodies.clone();
        Box::pin(async move {
            if echo {
                return Response::new(Outgoing::Echo(request.into_body()));
            }
            let (sender, body) = mpsc::channel(1);
            bodies
                .expect("the test wants it")
                .send(sender)
                .await
                .unwrap();
            Response::new(Outgoing::Channel(body))
        })
    }
}

struct Served {
    service: Echo,
    leave: watch::Sender<bool>,
    ended: JoinHandle<io::Result<()>>,
}

fn start(config: Config, service: Echo) -> (DuplexStream, Served) {
    let (near, far) = duplex(32 * 1024);
    let (leave, mut leaving) = watch::channel(false);
    let served = service.clone();
    let ended = tokio::spawn(async move {
        let leave = async move {
            let _ = leaving.wait_for(|leaving| *leaving).await;
            // Whoever drops the sender does not want it to leave.
            if !*leaving.borrow() {
                std::future::pending::<()>().await;
            }
        };
        serve(
            near,
            BytesMut::new(),
            served,
            config,
            Arc::from(PEER),
            leave,
        )
        .await
    });
    let served = Served {
        service,
        leave,
        ended,
    };
    (far, served)
}

async fn client(far: DuplexStream) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(far).await.unwrap();
    tokio::spawn(async move {
        // The tests look at the server's end.
        let _ = connection.await;
    });
    client.ready().await.unwrap()
}

fn post(path: &str) -> Request<()> {
    let uri = format!("http://here{path}");
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .body(())
        .unwrap()
}

/// Sends all of `data`, as the window allows, and then the end.
async fn send(mut stream: h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.unwrap().unwrap();
        let now = data.split_to(room.min(data.len()));
        stream.send_data(now, false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
}

async fn receive(
    response: h2::client::ResponseFuture,
) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap();
    (Response::from_parts(head, ()), all, trailers)
}

async fn exchange(
    client: &SendRequest<Bytes>,
    path: &str,
    data: Bytes,
) -> (Vec<u8>, Option<HeaderMap>) {
    let mut client = client.clone().ready().await.unwrap();
    let (response, stream) = client.send_request(post(path), false).unwrap();
    let ((), (head, body, trailers)) = futures::join!(send(stream, data), receive(response));
    assert_eq!(head.status(), StatusCode::OK);
    (body, trailers)
}

#[tokio::test]
async fn bodies_of_every_length_come_back() {
    let (far, served) = start(config(), Echo::default());
    let client = client(far).await;
    for length in [
        0, 1, 5, 16_383, 16_384, 16_385, 65_535, 65_536, 99_999, LIMIT,
    ] {
        let data: Bytes = (0..length).map(|at| at as u8).collect();
        for path in ["/whole", "/pieces"] {
            let (body, seen) = exchange(&client, path, data.clone()).await;
            assert!(body == data, "{length} bytes, {path}");
            assert_eq!(seen, Some(trailers()));
        }
    }
    for length in [0, 1, 65_536, 1_000_000] {
        let data: Bytes = (0..length).map(|at| at as u8).collect();
        let (body, seen) = exchange(&client, "/echo", data.clone()).await;
        assert!(body == data, "{length} bytes, as they come");
        assert_eq!(seen, None);
    }
    drop(client);
    served.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn many_at_once_are_answered_each_with_its_own() {
    let (far, _served) = start(config(), Echo::default());
    let client = client(far).await;
    // From here on the client knows how many streams it may open.
    exchange(&client, "/whole", Bytes::new()).await;
    let exchanges = (0..200_usize).map(|turn| {
        let client = client.clone();
        async move {
            let path = if turn % 2 == 0 { "/whole" } else { "/echo" };
            let data = Bytes::from(vec![turn as u8; 700 * turn % LIMIT]);
            let (body, _) = exchange(&client, path, data.clone()).await;
            assert!(body == data, "exchange {turn}");
        }
    });
    futures::future::join_all(exchanges).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_cut_off_and_answered() {
    let (far, _served) = start(config(), Echo::default());
    let mut client = client(far).await;
    let (response, mut stream) = client.send_request(post("/whole"), false).unwrap();
    // Never the end of it.
    let sending = tokio::spawn(async move {
        loop {
            stream.reserve_capacity(10_000);
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let Some(Ok(room)) = room else { return };
            let Ok(()) = stream.send_data(Bytes::from(vec![1; room]), false) else {
                return;
            };
        }
    });
    let (_, body, _) = receive(response).await;
    assert!(
        body.len() > LIMIT && body.len() < LIMIT + 20_000,
        "{}",
        body.len()
    );
    sending.await.unwrap();
}

async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_taken_back_is_dropped() {
    let (far, served) = start(config(), Echo::default());
    let mut client = client(far).await;
    let under_way = served.service.under_way.clone();
    let mut responses = Vec::new();
    for _ in 0..5 {
        let (response, _) = client.send_request(post("/never"), true).unwrap();
        responses.push(response);
        client = client.ready().await.unwrap();
    }
    until(|| under_way.load(Ordering::SeqCst) == 5).await;
    drop(responses);
    until(|| under_way.load(Ordering::SeqCst) == 0).await;
    let (body, _) = exchange(&client, "/whole", Bytes::from_static(b"after")).await;
    assert_eq!(body, b"after");
}

#[tokio::test]
async fn the_end_of_the_connection_drops_what_is_under_way() {
    let (far, served) = start(config(), Echo::default());
    let mut client = client(far).await;
    let under_way = served.service.under_way.clone();
    let response = client.send_request(post("/never"), true).unwrap();
    until(|| under_way.load(Ordering::SeqCst) == 1).await;
    drop((response, client));
    served.ended.await.unwrap().unwrap();
    assert_eq!(under_way.load(Ordering::SeqCst), 0);
}

/// Opens a stream whose body the test sends.
async fn open(
    client: &mut SendRequest<Bytes>,
    bodies: &mut mpsc::Receiver<mpsc::Sender<Bytes>>,
) -> (mpsc::Sender<Bytes>, h2::RecvStream) {
    let (response, _) = client.send_request(post("/channel"), true).unwrap();
    let sender = bodies.recv().await.unwrap();
    (sender, response.await.unwrap().into_body())
}

#[tokio::test]
async fn nobody_is_asked_for_what_the_client_does_not_read() {
    let (wanted, mut bodies) = mpsc::channel(8);
    let service = Echo {
        bodies: Some(wanted),
        ..Echo::default()
    };
    let (far, _served) = start(config(), service);
    let mut client = client(far).await;
    let (sender, mut body) = open(&mut client, &mut bodies).await;
    // The client's window is 65,535 bytes. One piece more may be waiting in
    // the connection and one in the channel.
    let mut sent = 0;
    let stalled = async {
        while sent < 20 {
            sender.send(Bytes::from(vec![0; 10_000])).await.unwrap();
            sent += 1;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(300), stalled)
            .await
            .is_err()
    );
    assert!(sent <= 9, "{sent}");
    // Others are not held up by it.
    let mut other = client.clone().ready().await.unwrap();
    let mut seen = 0;
    let receiving = async {
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            seen += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
    };
    let more = async {
        for _ in sent..20 {
            sender.send(Bytes::from(vec![0; 10_000])).await.unwrap();
        }
        drop(sender);
    };
    futures::join!(receiving, more);
    assert_eq!(seen, 200_000);
    let (_, second) = open(&mut other, &mut bodies).await;
    drop(second);
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let (mut far, _served) = start(config(), Echo::default());
    far.write_all(&hello()).await.unwrap();
    for stream in 0..9_u32 {
        far.write_all(&request(2 * stream + 1, "/never"))
            .await
            .unwrap();
    }
    let reset = next_of(&mut far, 3).await;
    assert_eq!(
        (reset.stream, reset.payload.as_slice()),
        (17, &[0, 0, 0, 7][..])
    );
}

#[tokio::test]
async fn who_leaves_answers_what_was_asked() {
    let (wanted, mut bodies) = mpsc::channel(8);
    let service = Echo {
        bodies: Some(wanted),
        ..Echo::default()
    };
    let (far, served) = start(config(), service);
    let mut client = client(far).await;
    let (sender, mut body) = open(&mut client, &mut bodies).await;
    served.leave.send(true).unwrap();
    sender
        .send(Bytes::from_static(b"last words"))
        .await
        .unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "last words");
    assert!(!served.ended.is_finished());
    drop(sender);
    while let Some(data) = body.data().await {
        assert!(data.unwrap().is_empty());
    }
    served.ended.await.unwrap().unwrap();
    assert!(client.ready().await.is_err(), "no more requests");
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_left() {
    let config = Config {
        keepalive_interval: Duration::from_millis(20),
        ..config()
    };
    let config = Config {
        keepalive_timeout: Duration::from_millis(500),
        ..config
    };
    let (mut far, served) = start(config, Echo::default());
    far.write_all(&hello()).await.unwrap();
    let ping = next_of(&mut far, 6).await;
    let mut answer = vec![0, 0, 8, 6, 1, 0, 0, 0, 0];
    answer.extend_from_slice(&ping.payload);
    far.write_all(&answer).await.unwrap();
    // It answered once, and not again.
    next_of(&mut far, 6).await;
    let ended = served.ended.await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

struct Seen {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn next(far: &mut DuplexStream) -> io::Result<Seen> {
    let mut head = [0; 9];
    far.read_exact(&mut head).await?;
    let mut head = &head[..];
    let length = head.get_uint(3) as usize;
    let kind = head.get_u8();
    head.get_u8();
    let stream = head.get_u32();
    let mut payload = vec![0; length];
    far.read_exact(&mut payload).await?;
    Ok(Seen {
        kind,
        stream,
        payload,
    })
}

async fn next_of(far: &mut DuplexStream, kind: u8) -> Seen {
    loop {
        let seen = next(far).await.unwrap();
        if seen.kind == kind {
            return seen;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn hello() -> Vec<u8> {
    [crate::PREFACE, &frame(4, 0, 0, &[])].concat()
}

fn block(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block
}

/// HEADERS with END_HEADERS and END_STREAM.
fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(1, 5, stream, &block(path))
}

/// What the server says to frames that make no sense: the code of its GOAWAY,
/// or of the RST_STREAM before any.
async fn verdict(frames: &[Vec<u8>]) -> (u8, u32) {
    let (mut far, _served) = start(config(), Echo::default());
    far.write_all(&hello()).await.unwrap();
    for frame in frames {
        far.write_all(frame).await.unwrap();
    }
    loop {
        let seen = next(&mut far).await.unwrap();
        match seen.kind {
            3 => return (3, (&seen.payload[..]).get_u32()),
            7 => return (7, (&seen.payload[4..]).get_u32()),
            _ => {}
        }
    }
}

/// RFC 9113, the errors of sections 5 and 6.
#[tokio::test]
async fn who_breaks_the_rules_is_told_which() {
    const RESET: u8 = 3;
    const GOAWAY: u8 = 7;
    let data = |stream, payload: &[u8]| frame(0, 0, stream, payload);
    let open = |stream| frame(1, 4, stream, &block("/whole"));
    let settings =
        |name: u8, value: u32| frame(4, 0, 0, &[&[0, name][..], &value.to_be_bytes()].concat());
    let window = |stream, by: u32| frame(8, 0, stream, &by.to_be_bytes());
    let with_length = [block("/whole"), b"\x0f\x0d\x012".to_vec()].concat();
    let cases: Vec<(Vec<_>, _)> = vec![
        (vec![data(0, b"")], (GOAWAY, 1)),
        (vec![data(1, b"")], (GOAWAY, 1)),
        (vec![request(2, "/never")], (GOAWAY, 1)),
        (vec![frame(1, 5, 1, b"\xff\xff")], (GOAWAY, 9)),
        (vec![frame(1, 5, 1, b"\x83\x86")], (RESET, 1)),
        (vec![frame(1, 1, 1, &block("/")), data(1, b"")], (GOAWAY, 1)),
        (vec![frame(9, 4, 1, b"")], (GOAWAY, 1)),
        (vec![frame(1, 0x25, 1, b"\0\0\0\0")], (GOAWAY, 6)),
        (
            vec![frame(1, 0x25, 1, b"\0\0\0\x01\0\x83\x86\x84")],
            (RESET, 1),
        ),
        (vec![request(1, "/never"), data(1, b"more")], (RESET, 5)),
        (vec![frame(0, 8, 1, b"")], (GOAWAY, 1)),
        (vec![open(1), frame(0, 8, 1, b"\x05a")], (GOAWAY, 1)),
        (
            vec![frame(1, 4, 1, &with_length), frame(0, 1, 1, b"one")],
            (RESET, 1),
        ),
        (
            vec![frame(1, 4, 1, &with_length), frame(0, 1, 1, b"1")],
            (RESET, 1),
        ),
        (vec![frame(1, 5, 1, &with_length)], (RESET, 1)),
        (vec![open(1), open(1)], (RESET, 1)),
        (vec![frame(3, 0, 1, b"\0\0\0\0")], (GOAWAY, 1)),
        (vec![open(1), frame(3, 0, 1, b"\0")], (GOAWAY, 6)),
        (vec![frame(4, 0, 1, b"")], (GOAWAY, 1)),
        (vec![frame(4, 1, 0, b"\0\0\0\0\0\0")], (GOAWAY, 6)),
        (vec![frame(4, 0, 0, b"\0")], (GOAWAY, 6)),
        (vec![settings(2, 2)], (GOAWAY, 1)),
        (vec![settings(4, 1 << 31)], (GOAWAY, 3)),
        (vec![settings(5, 16_383)], (GOAWAY, 1)),
        (vec![frame(5, 4, 1, b"\0\0\0\0")], (GOAWAY, 1)),
        (vec![frame(6, 0, 0, b"short")], (GOAWAY, 6)),
        (vec![frame(6, 0, 1, b"12345678")], (GOAWAY, 1)),
        (vec![frame(7, 0, 1, b"\0\0\0\0\0\0\0\0")], (GOAWAY, 1)),
        (vec![window(0, 0)], (GOAWAY, 1)),
        (vec![window(0, (1 << 31) - 1)], (GOAWAY, 3)),
        (vec![window(1, 1)], (GOAWAY, 1)),
        (vec![open(1), window(1, 0)], (RESET, 1)),
        (vec![open(1), window(1, (1 << 31) - 1)], (RESET, 3)),
        (vec![window(0, 1), frame(8, 0, 0, b"\0")], (GOAWAY, 6)),
        (vec![frame(2, 0, 0, b"\0\0\0\0\0")], (GOAWAY, 1)),
        (vec![open(1), frame(2, 0, 1, b"\0\0\0\x01\0")], (RESET, 1)),
        (vec![open(1), frame(2, 0, 1, b"\0")], (RESET, 6)),
        (vec![vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1]], (GOAWAY, 6)),
    ];
    for (at, (frames, expected)) in cases.iter().enumerate() {
        assert_eq!(verdict(frames).await, *expected, "case {at}: {frames:x?}");
    }
}

#[tokio::test]
async fn a_header_block_without_end_is_not_taken() {
    let mut frames = vec![frame(1, 0, 1, &block("/whole"))];
    frames.extend((0..10).map(|_| frame(9, 0, 1, &[0; 16_384])));
    assert_eq!(verdict(&frames).await, (7, 11));
}

#[tokio::test]
async fn headers_that_are_too_many_get_status_431() {
    let (far, _served) = start(config(), Echo::default());
    let mut client = client(far).await;
    let mut request = post("/whole");
    for at in 0..40 {
        let name = http::HeaderName::try_from(format!("name-{at}")).unwrap();
        let value = HeaderValue::from_str(&"v".repeat(1_000)).unwrap();
        request.headers_mut().insert(name, value);
    }
    let (response, _) = client.send_request(request, true).unwrap();
    let status = response.await.unwrap().status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn requests_taken_back_without_end_end_the_connection() {
    let (mut far, served) = start(config(), Echo::default());
    far.write_all(&hello()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(far);
    let writer = tokio::spawn(async move {
        for turn in 0..u32::MAX / 4 {
            let stream = 2 * turn + 1;
            let both = [request(stream, "/never"), frame(3, 0, stream, &[0; 4])].concat();
            if writing.write_all(&both).await.is_err() {
                return turn;
            }
        }
        u32::MAX
    });
    let mut sink = Vec::new();
    reading.read_to_end(&mut sink).await.unwrap();
    drop(reading);
    assert!(
        sink.windows(22)
            .any(|text| text.starts_with(b"too many requests"))
    );
    served.ended.abort();
    let turns = writer.await.unwrap();
    assert!((2_000..100_000).contains(&turns), "{turns}");
}

/// Bytes of every kind: the server may end the connection, and must not panic,
/// hang or go on beyond its end.
#[tokio::test]
async fn no_bytes_stop_the_server() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let (far, served) = start(config(), Echo::default());
        let mut bytes = hello();
        for _ in 0..random.random_range(1..40) {
            let payload: Vec<u8> = match random.random_range(0..3) {
                0 => block(["/whole", "/echo", "/never"][random.random_range(0..3)]),
                _ => (0..random.random_range(0..60))
                    .map(|_| random.random())
                    .collect(),
            };
            let stream = random.random_range(0..12);
            bytes.extend(frame(
                random.random_range(0..11),
                random.random(),
                stream,
                &payload,
            ));
        }
        if random.random_bool(0.3) {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
        }
        let (mut reading, mut writing) = tokio::io::split(far);
        let sink = tokio::spawn(async move {
            let mut sink = Vec::new();
            let _ = reading.read_to_end(&mut sink).await;
        });
        // The server may have had enough before.
        let _ = writing.write_all(&bytes).await;
        let _ = writing.shutdown().await;
        let ended = served.ended.await;
        assert!(ended.is_ok(), "seed {seed}: {ended:?}");
        sink.abort();
    }
}
