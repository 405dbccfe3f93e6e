//! One stream of watches on one member, and what each of its watches was told.

use std::collections::BTreeMap;
use std::time::Duration;

use mizzen_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use mizzen_proto::mvccpb::Event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::operation::{Failure, readable};

/// The watch id of what concerns no watch, or every one.
const ALL_WATCHES: i64 = -1;
/// Bound of every wait for a response. Far above what any takes.
const DEADLINE: Duration = Duration::from_secs(30);
/// An etcd does not answer a request for progress while a watch still reads the
/// past; it is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Requests on their way; each is answered before there are many more.
const REQUESTS: usize = 16;
/// Responses that wait to be looked at: more than a sequence can cause.
const RESPONSES: usize = 1 << 16;

/// What a watch was answered and told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    pub events: Vec<Event>,
    pub end: Option<End>,
}

/// How the server ended a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub compact_revision: i64,
    pub reason: String,
}

/// The answer to a request for a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    pub id: i64,
    pub revision: i64,
    pub compact_revision: i64,
    /// None for a watch that was made.
    pub refusal: Option<String>,
}

/// A watch that has not ended.
#[derive(Debug)]
struct Live {
    log: usize,
    request: WatchCreateRequest,
    /// The last revision told or reported.
    last: i64,
    /// The last response was a part that others follow.
    partial: bool,
}

/// A stream of watches.
pub struct WatchStream {
    is_etcd: bool,
    requests: mpsc::Sender<WatchRequest>,
    responses: mpsc::Receiver<Result<WatchResponse, Failure>>,
    reader: JoinHandle<()>,
    live: BTreeMap<i64, Live>,
    logs: Vec<Log>,
    created: Option<Created>,
    /// A watch that is canceled although it has ended.
    leftover: Option<i64>,
    /// Revision of the last report of progress.
    progress: i64,
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What keeps a stream from being compared.
pub enum Trouble {
    /// A member broke a rule; the account says which.
    Broken(String),
    /// The stream ended.
    Ended(Failure),
}

type Checked<T> = Result<T, Trouble>;

impl WatchStream {
    /// Opens a stream. Responses are always read: an etcd treats a client that
    /// does not read in ways that depend on timing.
    pub fn open(mut client: WatchClient<Channel>, is_etcd: bool) -> Self {
        let (requests, mut outbound) = mpsc::channel(REQUESTS);
        let (inbound, responses) = mpsc::channel(RESPONSES);
        let reader = tokio::spawn(async move {
            let outbound = futures::stream::poll_fn(move |cx| outbound.poll_recv(cx));
            let failure = match client.watch(outbound).await {
                Err(status) => status.into(),
                Ok(reply) => {
                    let mut stream = reply.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(response)) => {
                                if inbound.send(Ok(response)).await.is_err() {
                                    return;
                                }
                            }
                            Ok(None) => {
                                break Failure {
                                    code: Code::Ok,
                                    message: "the member ended the stream".to_owned(),
                                };
                            }
                            Err(status) => break status.into(),
                        }
                    }
                }
            };
            // Nobody waits for it any more if this fails.
            let _ = inbound.send(Err(failure)).await;
        });
        Self {
            is_etcd,
            requests,
            responses,
            reader,
            live: BTreeMap::new(),
            logs: Vec::new(),
            created: None,
            leftover: None,
            progress: 0,
        }
    }

    /// What the watches were told since the last time, in the order of their
    /// creation.
    pub fn take_logs(&mut self) -> Vec<Log> {
        let logs = self.logs.iter_mut();
        logs.map(|log| Log {
            events: std::mem::take(&mut log.events),
            end: log.end.clone(),
        })
        .collect()
    }

    /// Whether there is a watch with this id.
    pub fn is_live(&self, id: i64) -> bool {
        self.live.contains_key(&id)
    }

    /// Ids of watches that begin after a revision.
    pub fn ids_after(&self, revision: i64) -> Vec<i64> {
        let live = self.live.iter();
        live.filter(|(_, live)| live.request.start_revision > revision)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Makes a watch. If what it asks for is compacted below `compacted`, waits
    /// for its end too.
    pub async fn create(
        &mut self,
        request: &WatchCreateRequest,
        compacted: i64,
    ) -> Checked<Created> {
        self.send(RequestUnion::CreateRequest(request.clone()))
            .await;
        let created = loop {
            self.take(request).await?;
            if let Some(created) = self.created.take() {
                break created;
            }
        };
        let start = request.start_revision;
        if created.refusal.is_none() && start > 0 && start < compacted {
            while self.is_live(created.id) {
                self.take(request).await?;
            }
            if self.is_etcd {
                // It keeps the id of such a watch until it is told to cancel it,
                // as its client library does, and reports no progress meanwhile.
                self.leftover = Some(created.id);
                self.send(cancel_of(created.id)).await;
                while self.leftover.is_some() {
                    self.take(request).await?;
                }
            }
        }
        Ok(created)
    }

    /// Ends a watch. One that there is not gets no answer.
    pub async fn cancel(&mut self, id: i64) -> Checked<()> {
        self.send(cancel_of(id)).await;
        let none = WatchCreateRequest::default();
        while self.is_live(id) {
            self.take(&none).await?;
        }
        Ok(())
    }

    /// Returns when every watch was told everything up to `revision`, which the
    /// member has reached; at once if it would not say so: without a watch, or
    /// with one of the future.
    pub async fn barrier(&mut self, revision: i64) -> Checked<()> {
        if self.live.is_empty() || !self.ids_after(revision).is_empty() {
            return Ok(());
        }
        let none = WatchCreateRequest::default();
        self.progress = 0;
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
        while self.progress < revision {
            if !self.is_etcd {
                self.take(&none).await?;
                continue;
            }
            match timeout(ASK_AGAIN, self.responses.recv()).await {
                Ok(response) => self.record(response, &none)?,
                Err(_) => {
                    self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
                        .await
                }
            }
        }
        Ok(())
    }

    async fn send(&self, request: RequestUnion) {
        // If the stream has ended, its end is the next thing received.
        let request_union = Some(request);
        let _ = self.requests.send(WatchRequest { request_union }).await;
    }

    async fn take(&mut self, creating: &WatchCreateRequest) -> Checked<()> {
        match timeout(DEADLINE, self.responses.recv()).await {
            Ok(response) => self.record(response, creating),
            Err(_) => Err(Trouble::Broken(format!(
                "no response within {} s; live: {}",
                DEADLINE.as_secs(),
                readable(&self.live),
            ))),
        }
    }

    fn record(
        &mut self,
        response: Option<Result<WatchResponse, Failure>>,
        creating: &WatchCreateRequest,
    ) -> Checked<()> {
        let response = match response {
            Some(Ok(response)) => response,
            Some(Err(failure)) => return Err(Trouble::Ended(failure)),
            None => {
                return Err(Trouble::Broken("the stream's reader has ended".to_owned()));
            }
        };
        let text = readable(&response);
        self.note(response, creating)
            .map_err(|rule| Trouble::Broken(format!("{rule}: {text}")))
    }

    /// Notes a response; `Err` says what is wrong with it.
    fn note(
        &mut self,
        response: WatchResponse,
        creating: &WatchCreateRequest,
    ) -> Result<(), &'static str> {
        let revision = response.header.as_ref().ok_or("no header")?.revision;
        if response.created {
            return self.note_created(response, revision, creating);
        }
        if response.watch_id == ALL_WATCHES {
            let plain = response.events.is_empty() && !response.canceled;
            self.progress = revision;
            for live in self.live.values_mut() {
                live.last = live.last.max(revision);
            }
            return plain
                .then_some(())
                .ok_or("more than progress for all watches");
        }
        if response.canceled && self.leftover == Some(response.watch_id) {
            self.leftover = None;
            return Ok(());
        }
        let live = self
            .live
            .get_mut(&response.watch_id)
            .ok_or("there is no such watch")?;
        let log = &mut self.logs[live.log];
        if response.canceled {
            log.end = Some(End {
                compact_revision: response.compact_revision,
                reason: response.cancel_reason,
            });
            self.live.remove(&response.watch_id);
            return response
                .events
                .is_empty()
                .then_some(())
                .ok_or("events with an end");
        }
        let (Some(first), Some(last)) = (response.events.first(), response.events.last()) else {
            return Err("nothing told");
        };
        let begins = modified(first);
        let ends = modified(last);
        // A revision is whole, unless the parts say that they are parts.
        if begins < live.last || (begins == live.last && !live.partial) {
            return Err("a revision again, or in parts");
        }
        if response.fragment && !live.request.fragment {
            return Err("in parts though nobody asked for it");
        }
        if begins < live.request.start_revision {
            return Err("a revision before the first");
        }
        if !response.events.is_sorted_by_key(modified) || revision < ends {
            return Err("revisions out of order");
        }
        live.last = ends;
        live.partial = response.fragment;
        let wants_previous = live.request.prev_kv;
        let events = response.events.into_iter().map(|mut event| {
            // An etcd 3.7 shares its events among watches, and what one of them
            // asked for shows in the others now and then.
            if self.is_etcd && !wants_previous {
                event.prev_kv = None;
            }
            event
        });
        log.events.extend(events);
        Ok(())
    }

    fn note_created(
        &mut self,
        response: WatchResponse,
        revision: i64,
        creating: &WatchCreateRequest,
    ) -> Result<(), &'static str> {
        let id = response.watch_id;
        self.created = Some(Created {
            id,
            revision,
            compact_revision: response.compact_revision,
            refusal: response.canceled.then_some(response.cancel_reason),
        });
        if response.canceled {
            return (id == ALL_WATCHES)
                .then_some(())
                .ok_or("a refusal with an id");
        }
        self.logs.push(Log::default());
        let live = Live {
            log: self.logs.len() - 1,
            request: creating.clone(),
            last: 0,
            partial: false,
        };
        let before = self.live.insert(id, live);
        before.is_none().then_some(()).ok_or("an id in use")
    }
}

fn cancel_of(watch_id: i64) -> RequestUnion {
    RequestUnion::CancelRequest(WatchCancelRequest { watch_id })
}

fn modified(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
