//! Writers that go on while members come and go: puts at a fixed rate, each of
//! a key of its own, over all members in turn.
//!
//! A client's rules: a put that reached no member is sent to the next one; any
//! other failure is counted and never repeated, because it may have been
//! carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Puts under way at once. More than pile up while a cluster is without a
/// leader for some seconds.
const IN_FLIGHT: usize = 8_192;
/// A put is given up after this time, longer than a member waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
const VALUE: [u8; 100] = [7; 100];

/// Puts under way.
pub struct Load {
    shared: Arc<Shared>,
    members: watch::Sender<Vec<Channel>>,
    stop: watch::Sender<bool>,
    pacer: JoinHandle<u64>,
}

#[derive(Default)]
struct Shared {
    outcomes: std::sync::Mutex<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    /// When a put was acknowledged, and which.
    acknowledged: Vec<(Instant, u64)>,
    /// When those were sent, and how long each took.
    took: Vec<(Instant, Duration)>,
    failed: BTreeMap<(i32, String), usize>,
}

/// What became of the puts.
#[derive(Debug)]
pub struct Outcome {
    pub sent: u64,
    pub acknowledged: Vec<u64>,
    /// How often each status was given.
    pub failed: Vec<(Code, String, usize)>,
}

impl Load {
    /// Starts `per_second` puts a second.
    pub fn start(members: Vec<Channel>, per_second: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let (members, targets) = watch::channel(members);
        let (stop, stopped) = watch::channel(false);
        let pacer = tokio::spawn(pace(shared.clone(), targets, per_second, stopped));
        Self {
            shared,
            members,
            stop,
            pacer,
        }
    }

    /// From here on puts go to these members.
    pub fn set_members(&self, members: Vec<Channel>) {
        self.members.send_replace(members);
    }

    /// The longest time without an acknowledged put since `from`.
    pub fn longest_gap(&self, from: Instant) -> Duration {
        let outcomes = self.shared.outcomes.lock().expect("nobody panics in it");
        let mut times: Vec<Instant> = outcomes
            .acknowledged
            .iter()
            .map(|(time, _)| *time)
            .filter(|time| *time >= from)
            .collect();
        times.push(from);
        times.push(Instant::now());
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// The time within which `percent` of the puts sent since `from` were
    /// acknowledged, of those that were; and how many these are.
    pub fn percentile(&self, from: Instant, percent: usize) -> (Duration, usize) {
        let outcomes = self.shared.outcomes.lock().expect("nobody panics in it");
        let since = outcomes.took.iter().filter(|(sent, _)| *sent >= from);
        let mut times: Vec<Duration> = since.map(|(_, took)| *took).collect();
        drop(outcomes);
        times.sort_unstable();
        let at = times.len() * percent / 100;
        (times.get(at).copied().unwrap_or_default(), times.len())
    }

    /// In each whole or begun second since `from`: the longest time that a put
    /// sent in it took.
    pub fn slowest(&self, from: Instant) -> Vec<Duration> {
        let outcomes = self.shared.outcomes.lock().expect("nobody panics in it");
        let mut slowest = Vec::new();
        for (sent, took) in outcomes.took.iter().filter(|(sent, _)| *sent >= from) {
            let second = usize::try_from((*sent - from).as_secs()).expect("not for ever");
            slowest.resize(slowest.len().max(second + 1), Duration::ZERO);
            slowest[second] = slowest[second].max(*took);
        }
        slowest
    }

    /// Waits until `count` puts that were sent after now are acknowledged.
    ///
    /// # Errors
    /// They are not within a minute.
    pub async fn flows(&self, count: usize) -> Result<()> {
        let from = Instant::now();
        loop {
            let since = {
                let outcomes = self.shared.outcomes.lock().expect("nobody panics in it");
                let newer = outcomes.acknowledged.iter().rev();
                newer.take_while(|(time, _)| *time > from).count()
            };
            if since >= count {
                return Ok(());
            }
            ensure!(
                from.elapsed() < Duration::from_secs(60),
                "puts are not acknowledged any more"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops sending, waits for what is under way, and tells what became of it.
    ///
    /// # Errors
    /// A task of the load panicked.
    pub async fn stop(self) -> Result<Outcome> {
        self.stop.send_replace(true);
        let sent = self.pacer.await?;
        let outcomes =
            std::mem::take(&mut *self.shared.outcomes.lock().expect("nobody panics in it"));
        Ok(Outcome {
            sent,
            acknowledged: outcomes.acknowledged.iter().map(|(_, put)| *put).collect(),
            failed: outcomes
                .failed
                .into_iter()
                .map(|((code, text), count)| (Code::from(code), text, count))
                .collect(),
        })
    }
}

impl Outcome {
    /// Checks that each acknowledged put is there.
    ///
    /// # Errors
    /// One is missing, or the member does not answer.
    pub async fn ensure_kept(&self, member: Channel) -> Result<()> {
        let request = RangeRequest {
            key: Bytes::from_static(b"load/"),
            range_end: Bytes::from_static(b"load0"),
            keys_only: true,
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(member).max_decoding_message_size(usize::MAX);
        let reply = client.range(request).await?.into_inner();
        let kept: std::collections::BTreeSet<Bytes> =
            reply.kvs.into_iter().map(|kv| kv.key).collect();
        let lost: Vec<u64> = self
            .acknowledged
            .iter()
            .copied()
            .filter(|put| !kept.contains(&key(*put)))
            .collect();
        ensure!(
            lost.is_empty(),
            "{} of {} acknowledged puts are lost: {:?}...",
            lost.len(),
            self.acknowledged.len(),
            &lost[..lost.len().min(10)]
        );
        Ok(())
    }

    /// Checks that each failure told the client that it may try again.
    ///
    /// # Errors
    /// One did not.
    pub fn ensure_retryable(&self) -> Result<()> {
        let wrong = self
            .failed
            .iter()
            .find(|(code, ..)| !matches!(code, Code::Unavailable | Code::ResourceExhausted));
        ensure!(wrong.is_none(), "a put failed with {wrong:?}");
        Ok(())
    }

    pub fn failures(&self) -> usize {
        self.failed.iter().map(|(.., count)| count).sum()
    }
}

fn key(put: u64) -> Bytes {
    format!("load/{put:012}").into()
}

async fn pace(
    shared: Arc<Shared>,
    members: watch::Receiver<Vec<Channel>>,
    per_second: u32,
    mut stopped: watch::Receiver<bool>,
) -> u64 {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => {}
        }
        let Ok(place) = places.clone().acquire_owned().await else {
            break;
        };
        let (shared, members, put) = (shared.clone(), members.borrow().clone(), sent);
        sent += 1;
        tokio::spawn(async move {
            let began = Instant::now();
            let result = send(&members, put).await;
            let mut outcomes = shared.outcomes.lock().expect("nobody panics in it");
            match result {
                Ok(()) => {
                    outcomes.acknowledged.push((Instant::now(), put));
                    outcomes.took.push((began, began.elapsed()));
                }
                Err(status) => {
                    let kind = (i32::from(code(&status)), reason(&status));
                    *outcomes.failed.entry(kind).or_default() += 1;
                }
            }
            drop(place);
        });
    }
    // All have come back when all places are free.
    let all = u32::try_from(IN_FLIGHT).expect("it is small");
    let _ = places.acquire_many(all).await;
    sent
}

async fn send(members: &[Channel], put: u64) -> Result<(), Status> {
    let request = PutRequest {
        key: key(put),
        value: Bytes::from_static(&VALUE),
        ..PutRequest::default()
    };
    let first = usize::try_from(put).unwrap_or_default();
    let mut last = Status::unavailable("no members");
    for turn in 0..members.len() {
        let channel = members[(first + turn) % members.len()].clone();
        let mut client = KvClient::new(channel);
        let answer = tokio::time::timeout(PATIENCE, client.put(request.clone())).await;
        match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) if never_sent(&status) => last = status,
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::deadline_exceeded("given up by the client")),
        }
    }
    Err(last)
}

/// A broken connection is `Unavailable` to gRPC's own clients.
fn code(status: &Status) -> Code {
    match (status.code(), status.message()) {
        (Code::Unknown, "transport error") => Code::Unavailable,
        (code, _) => code,
    }
}

/// What the status says, and what it came from.
fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}

/// No member can have seen the request: there was no connection, or it was
/// closing and the request had not been written.
fn never_sent(status: &Status) -> bool {
    // hyper's word for a request that it did not write any more.
    if status.code() == Code::Cancelled && reason(status).ends_with(": connection closed") {
        return true;
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>()
            && (error.is_go_away()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::NO_ERROR)
                || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// `p50` and the largest of some times, for people.
///
/// # Errors
/// There are none.
pub fn spread(times: &[Duration]) -> Result<(Duration, Duration)> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let largest = *sorted.last().context("no times")?;
    Ok((sorted[sorted.len() / 2], largest))
}
