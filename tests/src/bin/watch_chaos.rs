//! Watches on every member through kills of random members, compactions and
//! writes: each watcher begins at revision 1, resumes after the last revision
//! it saw, and checks everything it is told.
//!
//! Every write in the cluster is seen, so revisions must come without a gap; a
//! watcher knows from them what each key held, and so what `prev_kv` must be.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use mizzen_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse, request_op::Request,
    watch_request::RequestUnion,
};
use mizzen_proto::mvccpb::Event;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::raw::{Connection, Messages, Piece};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Kills members under watches and checks what the watches tell.
#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    server: Option<PathBuf>,
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Writes per second, as far as the cluster takes them.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Writers, each with one request under way.
    #[arg(long, default_value_t = 64)]
    writers: u64,
    #[arg(long, default_value_t = 5)]
    kill_every: u64,
    /// Revisions that compaction leaves.
    #[arg(long, default_value_t = 200_000)]
    keep: i64,
    #[arg(long, default_value_t = 2_000)]
    keys: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Further flags for every member.
    #[arg(long)]
    flag: Vec<String>,
}

/// Revisions between two digests that are compared over all watchers.
const DIGEST: i64 = 1_000;

#[derive(Default)]
struct World {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    /// The newest revision acknowledged.
    newest: AtomicI64,
    resumed: AtomicU64,
    progress: AtomicU64,
    /// By revision: what the first watcher that came there had seen.
    digests: Mutex<HashMap<i64, u64>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let server = match &arguments.server {
        Some(server) => server.clone(),
        None => cluster::mizzen()?,
    };
    let mut options = Options::new(&server);
    for flag in &arguments.flag {
        options = options.flag(flag);
    }
    Cluster::run(options, async |cluster| {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(run(cluster, &arguments))
        })
    })
    .await
}

async fn run(cluster: &mut Cluster, arguments: &Arguments) -> Result<()> {
    let world = Arc::new(World::default());
    let endpoints = cluster.endpoints();
    let mut writers = Vec::new();
    for number in 0..arguments.writers {
        let writer = Writer {
            world: world.clone(),
            endpoints: endpoints.clone(),
            pause: Duration::from_secs(arguments.writers).div_f64(arguments.rate as f64),
            keys: arguments.keys,
            dice: StdRng::seed_from_u64(arguments.seed * 1_000_003 + number),
        };
        writers.push(thread::spawn(move || writer.work()));
    }
    let watchers: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let mut watcher = Watcher::new(endpoint.clone(), world.clone());
            thread::spawn(move || watcher.work().map(|()| watcher))
        })
        .collect();

    let mut dice = StdRng::seed_from_u64(arguments.seed);
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut kills = 0;
    let mut compacted = 0;
    let mut next_kill = Instant::now() + Duration::from_secs(arguments.kill_every);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(watcher) = watchers.iter().find(|watcher| watcher.is_finished()) {
            let _ = watcher;
            break;
        }
        let floor = world.newest.load(Ordering::Relaxed) - arguments.keep;
        if floor > compacted + 10_000 && compact(&endpoints, floor).is_ok() {
            compacted = floor;
        }
        if Instant::now() >= next_kill {
            let member = dice.random_range(0..cluster.len());
            cluster.kill(member)?;
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..1_000))).await;
            cluster.restart(member).await?;
            kills += 1;
            next_kill = Instant::now() + Duration::from_secs(arguments.kill_every);
        }
    }
    world.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("no writer panics");
    }
    write_end(&endpoints)?;
    let mut last = Vec::new();
    for watcher in watchers {
        let watcher = watcher.join().expect("no watcher panics")?;
        ensure!(watcher.done, "a watcher ended early");
        last.push((watcher.revision, watcher.digest));
    }
    ensure!(
        last.windows(2).all(|pair| pair[0] == pair[1]),
        "the streams differ: {last:?}"
    );
    let newest = world.newest.load(Ordering::Relaxed);
    ensure!(
        last[0].0 >= newest,
        "revision {newest} was acknowledged, and the end was {}",
        last[0].0
    );
    let mut snapshots = 0;
    for member in 0..cluster.len() {
        let log = std::fs::read_to_string(cluster.log_path(member))?;
        snapshots += log.matches("\"received a snapshot\"").count();
    }
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{kills} kills, {snapshots} snapshots received, compacted to {compacted}; {} writes acknowledged, {} unknown; {} watchers saw all revisions up to {}, resumed {} times, {} progress reports, {} digests compared: equal",
        load(&world.acknowledged),
        load(&world.unknown),
        last.len(),
        last[0].0,
        load(&world.resumed),
        load(&world.progress),
        world.digests.lock().expect("no watcher panics").len(),
    );
    Ok(())
}

/// The key whose first put ends every watcher: all stop at the same revision,
/// whatever becomes of writes whose outcome nobody knows.
const END: &[u8] = b"/chaos/end";

fn write_end(endpoints: &[String]) -> Result<()> {
    let put = PutRequest {
        key: END.into(),
        ..Default::default()
    }
    .encode_to_vec();
    let patience = Instant::now() + Duration::from_secs(60);
    for endpoint in endpoints.iter().cycle() {
        let written = Connection::open(endpoint)
            .and_then(|mut connection| call(&mut connection, "/etcdserverpb.KV/Put", &put));
        match written {
            Ok(_) => break,
            Err(error) => ensure!(Instant::now() < patience, "the last put: {error:#}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn compact(endpoints: &[String], revision: i64) -> Result<()> {
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    let mut connection = Connection::open(&endpoints[0])?;
    call(
        &mut connection,
        "/etcdserverpb.KV/Compact",
        &request.encode_to_vec(),
    )
    .map(drop)
}

/// One unary call; the reply's message.
fn call(connection: &mut Connection, path: &str, request: &[u8]) -> Result<Vec<u8>> {
    let own = connection.call(path, request, true)?;
    let mut messages = Messages::default();
    let mut reply = None;
    let mut ended = false;
    while !ended {
        let goes_on = connection.receive(|stream, piece| {
            if stream == own {
                match piece {
                    Piece::Data(data) => {
                        messages.take(data, |message| reply = Some(message.to_vec()))
                    }
                    Piece::End => ended = true,
                }
            }
            Ok(())
        })?;
        ensure!(goes_on || ended, "the connection was closed");
    }
    reply.context("refused")
}

struct Writer {
    world: Arc<World>,
    endpoints: Vec<String>,
    pause: Duration,
    keys: u64,
    dice: StdRng,
}

impl Writer {
    fn work(mut self) {
        let mut connection = None;
        let mut due = Instant::now();
        while !self.world.stop.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = (due + self.pause).max(Instant::now());
            let (path, request) = self.request();
            let connected = match connection.take() {
                Some(connected) => connected,
                None => {
                    let endpoint = &self.endpoints[self.dice.random_range(0..self.endpoints.len())];
                    match Connection::open(endpoint) {
                        Ok(connected) => connected,
                        Err(_) => {
                            thread::sleep(Duration::from_millis(50));
                            continue;
                        }
                    }
                }
            };
            let mut connected = connected;
            match call(&mut connected, path, &request) {
                Ok(reply) => {
                    self.world.acknowledged.fetch_add(1, Ordering::Relaxed);
                    if let Some(revision) = revision(&reply) {
                        self.world.newest.fetch_max(revision, Ordering::Relaxed);
                    }
                    connection = Some(connected);
                }
                // Whether it was written shows in the watches, or not at all.
                Err(_) => {
                    self.world.unknown.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("/chaos/{:05}", self.dice.random_range(0..self.keys)).into_bytes()
    }

    fn put(&mut self) -> PutRequest {
        let mut value = vec![0; self.dice.random_range(1..200)];
        self.dice.fill(&mut value[..]);
        PutRequest {
            key: self.key().into(),
            value: value.into(),
            ..Default::default()
        }
    }

    fn request(&mut self) -> (&'static str, Vec<u8>) {
        match self.dice.random_range(0..20) {
            0 => {
                let key = self.key();
                let mut end = key.clone();
                end.push(b'x');
                let request = DeleteRangeRequest {
                    key: key.into(),
                    range_end: end.into(),
                    prev_kv: false,
                };
                ("/etcdserverpb.KV/DeleteRange", request.encode_to_vec())
            }
            1 => {
                let mut success: Vec<RequestOp> = Vec::new();
                let mut used = Vec::new();
                for _ in 0..self.dice.random_range(2..6) {
                    let put = self.put();
                    if !used.contains(&put.key) {
                        used.push(put.key.clone());
                        success.push(RequestOp {
                            request: Some(Request::RequestPut(put)),
                        });
                    }
                }
                let request = TxnRequest {
                    success,
                    ..Default::default()
                };
                ("/etcdserverpb.KV/Txn", request.encode_to_vec())
            }
            _ => ("/etcdserverpb.KV/Put", self.put().encode_to_vec()),
        }
    }
}

/// The revision in the header of any reply: field 1 of each.
fn revision(reply: &[u8]) -> Option<i64> {
    let reply = mizzen_proto::etcdserverpb::PutResponse::decode(reply).ok()?;
    Some(reply.header?.revision)
}

struct Watcher {
    endpoint: String,
    world: Arc<World>,
    /// Everything up to here was seen.
    revision: i64,
    digest: u64,
    /// What each key holds: modification and creation revision, version, value.
    held: HashMap<Vec<u8>, Held>,
    /// The end was seen.
    done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    create: i64,
    modified: i64,
    version: i64,
    value: Vec<u8>,
}

impl Watcher {
    fn new(endpoint: String, world: Arc<World>) -> Self {
        Self {
            endpoint,
            world,
            revision: 1,
            digest: 0,
            held: HashMap::new(),
            done: false,
        }
    }

    /// Follows until the end was seen.
    fn work(&mut self) -> Result<()> {
        let mut patience = Instant::now() + Duration::from_secs(60);
        loop {
            let before = self.revision;
            self.follow().with_context(|| {
                format!("watch of {} at revision {}", self.endpoint, self.revision)
            })?;
            if self.done {
                return Ok(());
            }
            if self.revision > before {
                patience = Instant::now() + Duration::from_secs(60);
            }
            ensure!(
                Instant::now() < patience,
                "{}: nothing for a minute after revision {}",
                self.endpoint,
                self.revision
            );
            self.world.resumed.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Watches until the connection breaks or all is seen.
    fn follow(&mut self) -> Result<()> {
        let Ok(mut connection) = Connection::open(&self.endpoint) else {
            return Ok(());
        };
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: vec![0].into(),
                range_end: vec![0].into(),
                start_revision: self.revision + 1,
                prev_kv: true,
                ..Default::default()
            })),
        };
        let Ok(stream) =
            connection.call("/etcdserverpb.Watch/Watch", &create.encode_to_vec(), false)
        else {
            return Ok(());
        };
        let ask = WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
        }
        .encode_to_vec();
        let socket = connection.socket()?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut messages = Messages::default();
        let mut asked = Instant::now();
        let mut finding = Ok(());
        loop {
            let mut over = false;
            let received = connection.receive(|_, piece| {
                match piece {
                    Piece::Data(data) => messages.take(data, |message| {
                        if finding.is_ok() {
                            finding = WatchResponse::decode(message)
                                .map_err(Into::into)
                                .and_then(|response| self.take(response));
                        }
                    }),
                    Piece::End => over = true,
                }
                Ok(())
            });
            std::mem::replace(&mut finding, Ok(()))?;
            let timed_out = received.as_ref().is_err_and(|error| {
                error.downcast_ref::<std::io::Error>().is_some_and(|error| {
                    matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    )
                })
            });
            if over || self.done || (!timed_out && !matches!(received, Ok(true))) {
                // It may be gone already.
                let _ = socket.shutdown(Shutdown::Both);
                return Ok(());
            }
            if asked.elapsed() > Duration::from_millis(300) {
                asked = Instant::now();
                if connection.send(stream, &ask).is_err() {
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, response: WatchResponse) -> Result<()> {
        if response.canceled {
            bail!(
                "canceled: {} (compacted at {})",
                response.cancel_reason,
                response.compact_revision
            );
        }
        let header = response.header.context("a header")?;
        if response.events.is_empty() {
            if !response.created {
                ensure!(
                    header.revision <= self.revision,
                    "progress {} is ahead of events",
                    header.revision
                );
                self.world.progress.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        let events: Vec<(i64, Event)> = response
            .events
            .into_iter()
            .map(|event| {
                Ok((
                    event.kv.as_ref().context("a key-value")?.mod_revision,
                    event,
                ))
            })
            .collect::<Result<_>>()?;
        for same in events.chunk_by(|a, b| a.0 == b.0) {
            if self.done {
                break;
            }
            let revision = same[0].0;
            ensure!(
                revision == self.revision + 1,
                "revision {revision} came after {}",
                self.revision
            );
            let before = self.held.clone_of(same);
            for (_, event) in same {
                self.event(event, &before)
                    .with_context(|| format!("revision {revision}: {event:?}"))?;
            }
            self.revision = revision;
            self.done = self.held.contains_key(END);
            if revision % DIGEST == 0 {
                let mut digests = self.world.digests.lock().expect("no watcher panics");
                let digest = *digests.entry(revision).or_insert(self.digest);
                ensure!(
                    digest == self.digest,
                    "another watcher was told something else before revision {revision}"
                );
            }
        }
        Ok(())
    }

    /// `before` is what the keys of the revision held before it.
    fn event(&mut self, event: &Event, before: &HashMap<Vec<u8>, Held>) -> Result<()> {
        let kv = event.kv.as_ref().context("a key-value")?;
        let key = kv.key.to_vec();
        let put = event.r#type == 0;
        let now = Held {
            create: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            value: kv.value.to_vec(),
        };
        let held = before.get(&key);
        let told = event.prev_kv.as_ref().map(|previous| Held {
            create: previous.create_revision,
            modified: previous.mod_revision,
            version: previous.version,
            value: previous.value.to_vec(),
        });
        ensure!(
            told.as_ref() == held,
            "prev_kv is not what the key held: {held:?}"
        );
        match held {
            Some(held) if put => ensure!(
                now.create == held.create && now.version == held.version + 1,
                "not a successor of {held:?}"
            ),
            None if put => ensure!(
                now.create == now.modified && now.version == 1,
                "not a creation"
            ),
            Some(_) => {}
            None => bail!("a deletion of nothing"),
        }
        let mut hasher = DefaultHasher::new();
        (self.digest, put, &key, now.modified, &now.value).hash(&mut hasher);
        self.digest = hasher.finish();
        if put {
            self.held.insert(key, now);
        } else {
            self.held.remove(&key);
        }
        Ok(())
    }
}

trait CloneOf {
    /// What the keys of these events hold.
    fn clone_of(&self, events: &[(i64, Event)]) -> Self;
}

impl CloneOf for HashMap<Vec<u8>, Held> {
    fn clone_of(&self, events: &[(i64, Event)]) -> Self {
        events
            .iter()
            .filter_map(|(_, event)| event.kv.as_ref())
            .filter_map(|kv| Some((kv.key.to_vec(), self.get(&kv.key[..])?.clone())))
            .collect()
    }
}
