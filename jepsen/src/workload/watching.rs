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
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

const LONGEST: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);
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
    let from = match a.rng.random_range(0..4u8) {
        0 => 0,
        1 => head + a.rng.random_range(0..FUTURE),
        _ => (head - a.rng.random_range(0..PAST)).max(1),
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
    if follow(a, ask, &mut window, Instant::now() + length)
        .await
        .is_none()
    {
        a.refused = true;
    }
    window.end = clock.now();
    if window.created > 0 {
        a.client.bench().sink.record(Record::Window(window)).await;
    }
}

/// `None` when the stream broke.
async fn follow(a: &Actor, ask: Ask, window: &mut Window, until: Instant) -> Option<()> {
    let channel = a.client.bench().channel(window.member).ok()?;
    let (requests, outgoing) = mpsc::channel(1);
    let filters = [
        (ask.no_put, FilterType::Noput),
        (ask.no_delete, FilterType::Nodelete),
    ];
    let create = pb::WatchCreateRequest {
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
    };
    let wrap = |request| pb::WatchRequest {
        request_union: Some(request),
    };
    requests
        .send(wrap(RequestUnion::CreateRequest(create)))
        .await
        .ok()?;
    let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_REPLY);
    let opened = client.watch(ReceiverStream::new(outgoing));
    let opened = tokio::time::timeout(PATIENCE, opened).await.ok()?.ok()?;
    let mut replies = opened.into_inner();
    let mut ask_next = Instant::now() + PROGRESS;
    while window.parts.len() < MOST {
        match timeout_at(ask_next.min(until), replies.message()).await {
            Ok(Ok(Some(reply))) => {
                if !take(reply, window) {
                    return Some(());
                }
            }
            Ok(_) => return None,
            Err(_) if Instant::now() >= until => return Some(()),
            Err(_) => {
                let progress = pb::WatchProgressRequest::default();
                let _full = requests.try_send(wrap(RequestUnion::ProgressRequest(progress)));
                ask_next += PROGRESS;
            }
        }
    }
    Some(())
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
    window.parts.push(Part {
        rev,
        events: reply.events.into_iter().map(wire::event).collect(),
        canceled,
    });
    canceled.is_none()
}
