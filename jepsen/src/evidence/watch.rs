//! One watch over all keys of one member, from revision 1 on, resumed at the
//! next revision whenever its stream breaks.

use super::Collected;
use crate::client::{Bench, wire};
use crate::history::record::{Record, WatchBatch, WatchNote};
use anyhow::Result;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::watch_client::WatchClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

const MAX_REPLY: usize = 256 << 20;
const RETRY: Duration = Duration::from_millis(200);
const OPEN: Duration = Duration::from_secs(5);
/// How often a quiet stream looks whether the run is over.
const QUIET: Duration = Duration::from_millis(200);
/// How long the last events may take once the final revision is known.
const CONVERGE: Duration = Duration::from_secs(60);

struct Open {
    events: Streaming<pb::WatchResponse>,
    /// Dropping the sending side would end the watch.
    _requests: tokio::sync::mpsc::Sender<pb::WatchRequest>,
}

async fn open(bench: &Bench, member: usize, from: i64) -> Result<Open, Status> {
    let channel = bench
        .channel(member)
        .map_err(|e| Status::internal(e.to_string()))?;
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: from,
        prev_kv: true,
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    requests
        .send(request)
        .await
        .map_err(|_| Status::internal("request queue closed"))?;
    let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_REPLY);
    let call = client.watch(ReceiverStream::new(stream));
    let events = timeout(OPEN, call)
        .await
        .map_err(|_| Status::deadline_exceeded("watch not opened"))??
        .into_inner();
    Ok(Open {
        events,
        _requests: requests,
    })
}

/// True unless the server says that it has no watch at all.
pub async fn supported(bench: &Bench, member: usize) -> bool {
    let first = match open(bench, member, 1).await {
        Ok(mut open) => timeout(OPEN, open.events.message())
            .await
            .unwrap_or(Ok(None)),
        Err(status) => Err(status),
    };
    !matches!(first, Err(status) if status.code() == Code::Unimplemented)
}

pub struct Watcher {
    pub bench: Arc<Bench>,
    pub member: usize,
    pub collected: Arc<Collected>,
}

impl Watcher {
    /// Runs until the goal is reached, or for [`CONVERGE`] after it is set.
    pub async fn run(self) {
        let mut seen = 1;
        let mut deadline: Option<Instant> = None;
        loop {
            if let Some(goal) = self.collected.goal() {
                if seen >= goal {
                    return self.note(WatchNote::Complete { through: seen }).await;
                }
                if Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + CONVERGE) {
                    return self
                        .note(WatchNote::Incomplete {
                            through: seen,
                            wanted: goal,
                        })
                        .await;
                }
            }
            self.follow(&mut seen, deadline).await;
        }
    }

    /// One stream, until it breaks, the goal is reached or the deadline passes.
    async fn follow(&self, seen: &mut i64, deadline: Option<Instant>) {
        let mut open = match open(&self.bench, self.member, *seen + 1).await {
            Ok(open) => open,
            Err(_) => return sleep(RETRY).await,
        };
        self.note(WatchNote::Opened { from: *seen + 1 }).await;
        loop {
            match timeout(QUIET, open.events.message()).await {
                Ok(Ok(Some(response))) => {
                    if !self.take(response, seen).await {
                        return sleep(RETRY).await;
                    }
                }
                Ok(Ok(None)) => {
                    self.note(WatchNote::Ended {
                        error: "end of stream".into(),
                    })
                    .await;
                    return sleep(RETRY).await;
                }
                Ok(Err(status)) => {
                    let error = format!("{:?}: {}", status.code(), status.message());
                    self.note(WatchNote::Ended { error }).await;
                    return sleep(RETRY).await;
                }
                Err(_) => {}
            }
            let late = deadline.is_some_and(|d| Instant::now() > d);
            if late
                || self
                    .collected
                    .goal()
                    .is_some_and(|g| *seen >= g || deadline.is_none())
            {
                return;
            }
        }
    }

    /// Records one response. False when the server ended the watch.
    async fn take(&self, response: pb::WatchResponse, seen: &mut i64) -> bool {
        if !response.events.is_empty() {
            let events: Vec<_> = response.events.into_iter().map(wire::event).collect();
            let last = events.iter().map(|e| e.kv.modified).max().unwrap_or(0);
            let rev = response.header.map_or(0, |h| h.revision);
            let at = self.bench.clock.now();
            self.bench
                .stats
                .known
                .lock()
                .extend(events.iter().map(|e| e.kv.modified));
            self.bench
                .sink
                .record(Record::Watch(WatchBatch {
                    member: self.member,
                    at,
                    rev,
                    events,
                }))
                .await;
            *seen = last.max(*seen);
            self.collected.advance(self.member, *seen);
        }
        if response.canceled {
            let note = WatchNote::Canceled {
                compact: response.compact_revision,
                reason: response.cancel_reason,
            };
            *seen = (*seen).max(response.compact_revision - 1);
            self.note(note).await;
        }
        !response.canceled
    }

    async fn note(&self, note: WatchNote) {
        let at = self.bench.clock.now();
        self.bench
            .sink
            .record(Record::WatchNote {
                member: self.member,
                at,
                note,
            })
            .await;
    }
}
