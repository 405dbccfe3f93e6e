//! Watches of all kinds for a short time: any range, from the past, the head
//! or the future, with and without previous pairs and filters, asked for
//! their progress in between. Each is recorded whole.

use super::Actor;
use super::{append, leases, read_write, register, set};
use crate::client::wire;
use crate::history::op::prefix_end;
use crate::history::record::{Part, Record, Window};
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::watch_client::WatchClient;
use mizzen_proto::etcdserverpb::watch_create_request::FilterType;
use mizzen_proto::etcdserverpb::watch_request::RequestUnion;
use rand::Rng;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

const LONGEST: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last question about progress may take to be answered.
const ANSWER: Duration = Duration::from_secs(15);
/// Between two questions about progress.
const PROGRESS: Duration = Duration::from_millis(400);
const PAST: i64 = 500;
const FUTURE: i64 = 50;
/// Parts of one window that are recorded; then it ends.
const MOST: usize = 4_096;
const MAX_REPLY: usize = 256 << 20;

/// What to watch, as in a request.
#[derive(Default)]
pub struct Ask {
    pub key: String,
    pub range_end: String,
    pub from: i64,
    pub prev: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

pub async fn step(a: &mut Actor) {
    let prefixes = [
        append::PREFIX,
        leases::PREFIX,
        read_write::PREFIX,
        register::PREFIX,
        set::PREFIX,
        "\0",
    ];
    let prefix = prefixes[a.rng.random_range(0..prefixes.len())];
    let range_end = match prefix {
        "\0" => "\0".into(),
        prefix => prefix_end(prefix),
    };
    let head = a.client.head();
    let floor = a.shared.floor.load(Ordering::Relaxed);
    let from = match a.rng.random_range(0..6u8) {
        0 => 0,
        // The first that can be told of at all.
        1..3 => floor,
        3 => head + a.rng.random_range(0..FUTURE),
        _ => (head - a.rng.random_range(0..PAST)).max(1),
    };
    // Whatever happened there.
    let (prefix, range_end) = match from == floor && floor > 0 {
        true => ("\0", "\0".to_string()),
        false => (prefix, range_end),
    };
    let ask = Ask {
        key: prefix.into(),
        range_end,
        from,
        prev: a.rng.random(),
        no_put: a.rng.random_ratio(1, 8),
        no_delete: a.rng.random_ratio(1, 8),
    };
    window(a, ask).await;
}

/// Watches for a while and records what came.
pub async fn window(a: &mut Actor, ask: Ask) {
    let length = LONGEST.mul_f64(a.rng.random());
    let member = a.client.member();
    let clock = a.client.bench().clock;
    let mut window = Window {
        member,
        start: clock.now(),
        key: ask.key.clone(),
        range_end: ask.range_end.clone(),
        from: ask.from,
        prev: ask.prev,
        no_put: ask.no_put,
        no_delete: ask.no_delete,
        ..Window::default()
    };
    window.broken = follow(a, ask, &mut window, Instant::now() + length)
        .await
        .err();
    a.refused |= window.broken.is_some();
    window.end = clock.now();
    a.client.bench().sink.record(Record::Window(window)).await;
}

/// An error when the stream broke.
async fn follow(a: &Actor, ask: Ask, window: &mut Window, until: Instant) -> Result<(), String> {
    let (requests, outgoing) = mpsc::channel(1);
    let create = wrap(RequestUnion::CreateRequest(create(ask)));
    requests.try_send(create).map_err(|e| e.to_string())?;
    let channel = a.client.bench().channel(window.member);
    let channel = channel.map_err(|e| e.to_string())?;
    let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_REPLY);
    let opened = client.watch(ReceiverStream::new(outgoing));
    let opened = tokio::time::timeout(PATIENCE, opened).await;
    let opened = opened.map_err(|_| "not opened in time".to_string())?;
    let mut replies = opened.map_err(|status| status.to_string())?.into_inner();
    let mut question = Instant::now() + PROGRESS;
    let mut last = until + ANSWER;
    loop {
        match timeout_at(question.min(last), replies.message()).await {
            Ok(Ok(Some(reply))) => {
                if !take(reply, window) {
                    return Ok(());
                }
            }
            Ok(Ok(None)) => return Err("the stream ended".into()),
            Ok(Err(status)) => return Err(status.to_string()),
            Err(_) => {}
        }
        let now = Instant::now();
        if window.answered || now >= last {
            return Ok(());
        }
        // A watch that has stalled does not answer.
        let over = now >= until || window.parts.len() >= MOST;
        let first = over && window.asked == 0;
        if first {
            window.asked = a.client.bench().clock.now();
            last = now + ANSWER;
        }
        if first || now >= question {
            let progress = pb::WatchProgressRequest::default();
            let _full = requests.try_send(wrap(RequestUnion::ProgressRequest(progress)));
            question = now + PROGRESS;
        }
    }
}

fn wrap(request: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(request),
    }
}

fn create(ask: Ask) -> pb::WatchCreateRequest {
    let filters = [
        (ask.no_put, FilterType::Noput),
        (ask.no_delete, FilterType::Nodelete),
    ];
    pb::WatchCreateRequest {
        key: ask.key.into_bytes().into(),
        range_end: ask.range_end.into_bytes().into(),
        start_revision: ask.from,
        prev_kv: ask.prev,
        filters: filters
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, filter)| filter as i32)
            .collect(),
        ..pb::WatchCreateRequest::default()
    }
}

/// Notes one response; false when it is the last one.
fn take(reply: pb::WatchResponse, window: &mut Window) -> bool {
    let rev = reply.header.map_or(0, |header| header.revision);
    if reply.created {
        window.created = rev;
        if !reply.canceled {
            return true;
        }
    }
    let canceled = reply.canceled.then_some(reply.compact_revision);
    window.answered |= window.asked > 0 && reply.events.is_empty();
    window.parts.push(Part {
        rev,
        events: reply.events.into_iter().map(wire::event).collect(),
        canceled,
    });
    canceled.is_none()
}
