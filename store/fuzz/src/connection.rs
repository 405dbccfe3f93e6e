//! Bytes as what a client sends on one connection.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use mizzen_h2::{Block, Budget, Config, Counters, Excess, Head, Incoming, Reply, Service, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Outcome;

/// Bytes that the connection may hold: few, so that inputs reach the bound.
const BUDGET: usize = 64 * 1024;
/// Bytes of bodies that are answered whole.
const LIMIT: usize = 20_000;
/// What one connection may write without paying first, and a reply more.
const UNPAID: usize = 256 * 1024;
/// Time on the paused clock in which every connection ends.
const END: Duration = Duration::from_secs(24 * 3_600);

/// Echoes: whole requests to `/w`, others as they come.
#[derive(Clone)]
struct Echo;

enum Answer {
    Echo(Incoming),
    Nothing,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Echo(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.and_then(Result::ok).map(Ok)),
        }
    }
}

fn ok() -> Block {
    Block::response(StatusCode::OK, &HeaderMap::new())
}

impl Service for Echo {
    type Body = Answer;

    fn whole(&self, head: &Head) -> Option<usize> {
        head.path().starts_with("/w").then_some(LIMIT)
    }

    fn answer(&self, head: Arc<Head>, body: Bytes) -> BoxFuture<'static, Reply> {
        Box::pin(async move {
            if head.path() == "/wait" {
                std::future::pending::<Infallible>().await;
            }
            Reply {
                headers: ok(),
                data: body,
                more: Vec::new(),
                trailers: Some(Block::trailers(&HeaderMap::new())),
            }
        })
    }

    fn refuse(&self) -> Block {
        Block::response(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new())
    }

    fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Answer>> {
        Box::pin(async move {
            Response::new(match request.uri().path() {
                "/drop" => Answer::Nothing,
                _ => Answer::Echo(request.into_body()),
            })
        })
    }
}

/// The first byte says how the rest is cut into writes. Whatever is sent, the
/// connection ends when the client does, and nothing is held then.
///
/// # Errors
/// It does not end, or something is held.
pub fn connection(input: &[u8]) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let ended = tokio::time::timeout(END, one(input)).await;
        ended.context("the connection does not end")?
    })
}

async fn one(input: &[u8]) -> Result<Outcome> {
    let (cut, input) = input
        .split_first()
        .map_or((0, input), |(cut, rest)| (*cut, rest));
    let budget = Budget::new(BUDGET);
    let counters = Arc::<Counters>::default();
    let config = Config {
        streams: 50,
        stream_window: 65_535,
        connection_window: 100_000,
        held_bytes: 16 * 1024,
        keepalive_interval: Duration::from_secs(60),
        keepalive_timeout: Duration::from_secs(20),
        patience: Duration::from_secs(10),
        budget: budget.clone(),
        counters: counters.clone(),
    };
    let (near, far) = tokio::io::duplex(8 * 1024);
    let peer = Arc::from("127.0.0.1:1");
    let served = serve(
        near,
        BytesMut::new(),
        Echo,
        config,
        peer,
        std::future::pending(),
    );
    let (mut reading, mut writing) = tokio::io::split(far);
    let held = budget.clone();
    let client = async {
        for piece in input.chunks(usize::from(cut) * 16 + 1) {
            if writing.write_all(piece).await.is_err() {
                break;
            }
            ensure!(held.used() <= BUDGET + UNPAID, "{} bytes held", held.used());
        }
        // An odd cut: the client says nothing more, and stays.
        if cut % 2 == 1 {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        // It may have been closed.
        let _ = writing.shutdown().await;
        Ok(())
    };
    let reader = async {
        let mut received = Vec::new();
        // Its end is the end of what there is to read.
        let _ = reading.read_to_end(&mut received).await;
        received
    };
    let (ended, client, received) = futures::join!(served, client, reader);
    client?;
    ensure!(
        budget.used() == 0,
        "{} bytes held at the end",
        budget.used()
    );
    Ok(outcome(&received, ended.is_ok(), &counters))
}

/// Kinds of frames, codes, and what was counted.
fn outcome(mut received: &[u8], good: bool, counters: &Counters) -> Outcome {
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    while let Some((head, rest)) = received.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        let kind = match head[3] {
            3 => format!("reset {:?}", payload.last()),
            7 => format!(
                "goaway {}",
                String::from_utf8_lossy(payload.get(7..).unwrap_or(&[]))
            ),
            kind => format!("{kind}/{}", head[4]),
        };
        *kinds.entry(kind).or_default() += 1;
        received = rest;
    }
    let kinds: Vec<_> = kinds
        .into_iter()
        .map(|(kind, count)| format!("{kind} x{}", count.ilog2()))
        .collect();
    let counted: Vec<_> = Excess::ALL
        .into_iter()
        .filter(|excess| counters.count(*excess) > 0)
        .collect();
    Outcome(format!("{good} {kinds:?} {counted:?}"))
}
