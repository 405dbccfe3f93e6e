//! Callers: each calls, waits for the answer, and calls again; who is refused
//! waits a little first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{Stream, StreamExt as _, stream};
use mizzen_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCreateRequest,
    WatchRequest, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status, transport::Channel};

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Put,
    Get,
    /// Of some 10 MB.
    Range,
    /// A batch of events, from none.
    Watch,
    KeepAlive,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Put,
        Self::Get,
        Self::Range,
        Self::Watch,
        Self::KeepAlive,
    ];

    /// Callers of it in one share.
    const fn callers(self) -> usize {
        match self {
            Self::Put | Self::Get => 40,
            Self::Range => 3,
            Self::Watch => 20,
            Self::KeepAlive => 10,
        }
    }
}

const VALUE_BYTES: usize = 4_096;
/// What a range reads: so many keys, and bytes of each.
const LARGE: (usize, usize) = (700, 15_000);
/// Who is refused waits so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection has so many callers.
const PER_CONNECTION: usize = 10;

#[derive(Default)]
pub struct Seen {
    took: BTreeMap<Kind, Vec<Duration>>,
    refused: BTreeMap<Kind, BTreeMap<String, usize>>,
}

impl Seen {
    pub fn served(&self, kind: Kind) -> usize {
        self.took.get(&kind).map_or(0, Vec::len)
    }

    pub fn percentile(&self, kind: Kind, percent: usize) -> Duration {
        let times = self.took.get(&kind).map_or(&[][..], Vec::as_slice);
        let at = times.len() * percent / 100;
        let last = times.len().saturating_sub(1);
        times.get(at.min(last)).copied().unwrap_or_default()
    }

    pub fn refusals(&self, kind: Kind) -> String {
        let refused = self.refused.get(&kind).into_iter().flatten();
        let texts = refused.map(|(why, count)| format!("{count} x {why}"));
        texts.collect::<Vec<_>>().join("; ")
    }
}

pub struct Callers {
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Callers {
    /// `shares` times the callers of each kind, over all members in turn.
    pub fn start(members: &[Channel], shares: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            for number in 0..kind.callers() * shares {
                let caller = Caller {
                    kind,
                    number,
                    channel: members[number / PER_CONNECTION % members.len()].clone(),
                    seen: seen.clone(),
                };
                let mut stopped = stopped.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        _ = stopped.wait_for(|stopped| *stopped) => {}
                        () = caller.call_on() => {}
                    }
                });
            }
        }
        Self { seen, stop, tasks }
    }

    /// What they have seen.
    pub async fn stop(mut self) -> Result<Seen> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a caller broke")?;
        }
        let seen = Arc::into_inner(self.seen).context("a caller is left")?;
        let mut seen = seen.into_inner().context("a caller broke")?;
        seen.took
            .values_mut()
            .for_each(|times| times.sort_unstable());
        for kind in [Kind::Put, Kind::Get] {
            ensure!(seen.served(kind) > 0, "no {kind:?} was ever served");
        }
        Ok(seen)
    }
}

struct Caller {
    kind: Kind,
    number: usize,
    channel: Channel,
    seen: Arc<Mutex<Seen>>,
}

impl Caller {
    async fn call_on(&self) {
        let mut turn = 0;
        loop {
            turn += 1;
            let called = match self.kind {
                Kind::Put => self.put(turn).await,
                Kind::Get => self.range(format!("overload/{}", self.number), "").await,
                Kind::Range => self.range("large/".to_owned(), "large0").await,
                Kind::Watch => self.watch().await,
                Kind::KeepAlive => self.keep_alive().await,
            };
            if let Err(status) = called {
                self.refused(&status);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn served(&self, begun: Instant) {
        let mut seen = self.seen.lock().expect("nobody panics in it");
        seen.took
            .entry(self.kind)
            .or_default()
            .push(begun.elapsed());
    }

    fn refused(&self, status: &Status) {
        let mut seen = self.seen.lock().expect("nobody panics in it");
        let why = format!("{:?} {}", status.code(), status.message());
        *seen
            .refused
            .entry(self.kind)
            .or_default()
            .entry(why)
            .or_default() += 1;
    }

    async fn put(&self, turn: usize) -> Result<(), Status> {
        let put = PutRequest {
            key: format!("overload/{}/{}", self.number, turn % 100).into(),
            value: vec![b'v'; VALUE_BYTES].into(),
            ..PutRequest::default()
        };
        let begun = Instant::now();
        let mut kv = KvClient::new(self.channel.clone());
        in_time(kv.put(put)).await?;
        self.served(begun);
        Ok(())
    }

    async fn range(&self, key: String, end: &'static str) -> Result<(), Status> {
        let range = RangeRequest {
            key: key.into(),
            range_end: end.into(),
            ..RangeRequest::default()
        };
        let begun = Instant::now();
        let mut kv = KvClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        in_time(kv.range(range)).await?;
        self.served(begun);
        Ok(())
    }

    /// Watches one putter until the stream ends.
    async fn watch(&self) -> Result<(), Status> {
        let (send, requests) = tokio::sync::mpsc::channel(1);
        let create = WatchCreateRequest {
            key: format!("overload/{}/", self.number % 40).into(),
            range_end: format!("overload/{}0", self.number % 40).into(),
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let create = RequestUnion::CreateRequest(create);
        // The receiver is in this function.
        let _ = send.try_send(WatchRequest {
            request_union: Some(create),
        });
        let mut client = WatchClient::new(self.channel.clone());
        let stream = in_time(client.watch(sent(requests))).await?;
        let mut stream = stream.into_inner();
        let mut begun = Instant::now();
        while let Some(batch) = stream.next().await {
            batch?;
            self.served(begun);
            begun = Instant::now();
        }
        Err(Status::cancelled("the stream ended"))
    }

    /// Keeps a lease alive as fast as it goes, until the stream ends.
    async fn keep_alive(&self) -> Result<(), Status> {
        let mut client = LeaseClient::new(self.channel.clone());
        let grant = LeaseGrantRequest { ttl: 60, id: 0 };
        let id = in_time(client.lease_grant(grant)).await?.into_inner().id;
        let (send, requests) = tokio::sync::mpsc::channel(1);
        let stream = client.lease_keep_alive(sent(requests));
        let ask = || send.try_send(LeaseKeepAliveRequest { id });
        // One at a time is under way: there is room.
        let _ = ask();
        let mut stream = in_time(stream).await?.into_inner();
        let mut begun = Instant::now();
        while let Some(renewed) = stream.next().await {
            renewed?;
            self.served(begun);
            tokio::time::sleep(PAUSE / 10).await;
            begun = Instant::now();
            let _ = ask();
        }
        Err(Status::cancelled("the stream ended"))
    }
}

/// What is sent, as a stream of requests.
fn sent<T>(mut requests: tokio::sync::mpsc::Receiver<T>) -> impl Stream<Item = T> {
    stream::poll_fn(move |cx| requests.poll_recv(cx))
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let called = tokio::time::timeout(PATIENCE, call).await;
    called.unwrap_or_else(|_| {
        Err(Status::new(
            Code::DeadlineExceeded,
            "given up by the caller",
        ))
    })
}

/// Stores what ranges read.
pub async fn fill(member: &Channel) -> Result<()> {
    let mut kv = KvClient::new(member.clone());
    for at in 0..LARGE.0 {
        let put = PutRequest {
            key: format!("large/{at}").into(),
            value: vec![b'v'; LARGE.1].into(),
            ..PutRequest::default()
        };
        kv.put(put).await.context("store large values")?;
    }
    Ok(())
}
