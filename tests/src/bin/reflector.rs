//! Caches as kube-apiserver keeps them, over many changes with compactions in
//! between: each reflector breaks its watch off at random, goes on from where it
//! stands, here or on another member, at once or when much has changed, and
//! lists anew when it comes too late. In the end all hold what the store holds.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::reflector::{Counts, Ended, Reflector};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const PREFIX: &str = "/registry/things/";
/// Reports of progress are asked for so often, as kube-apiserver does while
/// somebody waits for them.
const ASK: Duration = Duration::from_millis(100);
/// Before a member that gave up is called again.
const PAUSE: Duration = Duration::from_millis(50);

/// Keeps caches of a changing store and compares them with it.
#[derive(Clone, Parser)]
struct Arguments {
    /// The server to start instead of mizzen.
    #[arg(long)]
    server: Option<PathBuf>,
    #[arg(long, default_value_t = 100_000)]
    changes: u64,
    #[arg(long, default_value_t = 3_000)]
    keys: u64,
    #[arg(long, default_value_t = 32)]
    writers: u64,
    /// Reflectors, spread over the members.
    #[arg(long, default_value_t = 6)]
    reflectors: u64,
    /// Changes between two compactions.
    #[arg(long, default_value_t = 2_000)]
    compact_every: u64,
    /// Revisions that a compaction leaves, at most.
    #[arg(long, default_value_t = 3_000)]
    keep: i64,
    /// Kill a random member so often, in seconds; never if 0.
    #[arg(long, default_value_t = 0)]
    kill_every: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    fn command(&self) -> String {
        format!(
            "cargo run --release -p mizzen-tests --bin reflector -- --changes {} --keys {} \
             --writers {} --reflectors {} --compact-every {} --keep {} --kill-every {} --seed {}",
            self.changes,
            self.keys,
            self.writers,
            self.reflectors,
            self.compact_every,
            self.keep,
            self.kill_every,
            self.seed
        )
    }

    fn dice(&self, role: u64, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003) + role * 1_009 + number)
    }
}

/// What all parts share.
struct World {
    arguments: Arguments,
    members: Vec<Channel>,
    changes: AtomicU64,
    /// Writes whose outcome nobody knows.
    unknown: AtomicU64,
    /// No compaction was asked for beyond this revision.
    floor: AtomicI64,
    compactions: AtomicU64,
    /// The newest revision that was acknowledged.
    newest: watch::Sender<i64>,
    /// The revision at which nobody writes any more.
    last: watch::Sender<Option<i64>>,
    /// Members are being killed: calls may fail.
    killing: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("{}", arguments.command());
    let server = match &arguments.server {
        Some(server) => server.clone(),
        None => cluster::mizzen()?,
    };
    let command = arguments.command();
    let options = Options::new(server).flag("--watch-progress-notify-interval=200ms");
    Cluster::run(options, async |cluster| {
        run(cluster, arguments)
            .await
            .with_context(|| format!("reproduce: {command}"))
    })
    .await
}

async fn run(cluster: &mut Cluster, arguments: Arguments) -> Result<()> {
    let members = (0..cluster.len())
        .map(|index| cluster.channel(index))
        .collect::<Result<_>>()?;
    let world = Arc::new(World {
        members,
        changes: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
        floor: AtomicI64::new(0),
        compactions: AtomicU64::new(0),
        newest: watch::Sender::new(1),
        last: watch::Sender::new(None),
        killing: AtomicBool::new(arguments.kill_every > 0),
        arguments,
    });
    let mut writers = JoinSet::new();
    for number in 0..world.arguments.writers {
        writers.spawn(Writer::new(world.clone(), number).write());
    }
    let compactor = tokio::spawn(compact(world.clone()));
    let mut reflectors = JoinSet::new();
    for number in 0..world.arguments.reflectors {
        reflectors.spawn(reflect(world.clone(), number));
    }

    let mut kills = 0;
    let mut dice = world.arguments.dice(3, 0);
    let every = Duration::from_secs(world.arguments.kill_every.max(1));
    let mut next = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    while !writers.is_empty() {
        tokio::select! {
            Some(written) = writers.join_next() => written??,
            Some(reflected) = reflectors.join_next(), if !reflectors.is_empty() => {
                reflected??;
                anyhow::bail!("a reflector ended early");
            }
            _ = next.tick(), if world.killing.load(Ordering::Relaxed) => {
                let member = dice.random_range(0..cluster.len());
                cluster.kill(member)?;
                tokio::time::sleep(Duration::from_millis(dice.random_range(0..1_000))).await;
                cluster.restart(member).await?;
                kills += 1;
            }
        }
    }
    world.killing.store(false, Ordering::Relaxed);
    compactor.abort();
    // Linearizable, so that writes of unknown outcome count too.
    let last = revision(&world.members[0]).await?;
    world.last.send_replace(Some(last));
    let mut total = Counts::default();
    let mut keys = 0;
    while let Some(reflected) = reflectors.join_next().await {
        let reflector: Reflector = reflected??;
        for member in &world.members {
            keys = reflector.compare(member).await?;
        }
        add(&mut total, reflector.counts);
    }
    println!(
        "{} changes up to revision {last} ({} of unknown outcome), {} compactions, {kills} kills; \
         {} reflectors: {total:?}; all equal the store of each member: {keys} keys",
        world.changes.load(Ordering::Relaxed),
        world.unknown.load(Ordering::Relaxed),
        world.compactions.load(Ordering::Relaxed),
        world.arguments.reflectors,
    );
    Ok(())
}

fn add(total: &mut Counts, counts: Counts) {
    total.events += counts.events;
    total.lists += counts.lists;
    total.lists_cut += counts.lists_cut;
    total.watches += counts.watches;
    total.compacted += counts.compacted;
    total.reports += counts.reports;
    total.without_previous += counts.without_previous;
}

async fn revision(member: &Channel) -> Result<i64> {
    let request = RangeRequest {
        key: PREFIX.into(),
        ..RangeRequest::default()
    };
    let reply = KvClient::new(member.clone()).range(request).await?;
    Ok(reply.into_inner().header.context("no header")?.revision)
}

/// Follows until nobody writes any more and everything was seen.
async fn reflect(world: Arc<World>, number: u64) -> Result<Reflector> {
    let mut dice = world.arguments.dice(1, number);
    let mut at = number as usize;
    let mut reflector = Reflector::new(PREFIX);
    let (ask, mut wanted) = mpsc::channel(1);
    let asking = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(ASK);
        while ask.send(()).await.is_ok() {
            ticks.tick().await;
        }
    });
    loop {
        let member = &world.members[at % world.members.len()];
        // Some watches live long, some are over at once.
        let longest = if dice.random_bool(0.3) { 20_000 } else { 2_000 };
        let rest = dice.random_range(0..longest);
        let until = reflector.counts.events + rest;
        let done = |reflector: &Reflector| {
            let last = *world.last.borrow();
            last.is_some_and(|last| reflector.revision() >= last)
        };
        let ended = reflector
            .follow(
                member,
                &mut wanted,
                || world.floor.load(Ordering::Relaxed),
                |reflector| {
                    let over = world.last.borrow().is_some();
                    done(reflector) || (!over && reflector.counts.events >= until)
                },
            )
            .await
            .with_context(|| {
                format!("reflector {number} on member {}", at % world.members.len())
            })?;
        if done(&reflector) {
            asking.abort();
            return Ok(reflector);
        }
        match ended {
            Ended::Enough => {}
            Ended::Compacted => continue,
            Ended::Broken(status) => {
                ensure!(
                    world.arguments.kill_every > 0,
                    "reflector {number} lost its member: {status}"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
        if dice.random_bool(0.4) {
            at += dice.random_range(1..world.members.len());
        }
        if dice.random_bool(0.4) {
            // Long enough for some to come too late.
            let ahead = reflector.revision() + dice.random_range(0..2 * world.arguments.keep);
            wait_for(&world, ahead).await;
        }
    }
}

/// Returns when the store has come to a revision, or nobody writes any more.
async fn wait_for(world: &World, revision: i64) {
    let mut newest = world.newest.subscribe();
    let mut last = world.last.subscribe();
    // Neither fails, since the world holds the senders.
    tokio::select! {
        _ = newest.wait_for(|newest| *newest >= revision) => {}
        _ = last.wait_for(Option::is_some) => {}
    }
}

/// Compacts as the store grows, mostly well behind its newest revision.
async fn compact(world: Arc<World>) {
    let mut dice = world.arguments.dice(2, 0);
    let mut newest = world.newest.subscribe();
    let mut next = 0;
    loop {
        next += world.arguments.compact_every as i64;
        if newest.wait_for(|newest| *newest >= next).await.is_err() {
            return;
        }
        let keep = dice.random_range(0..=world.arguments.keep);
        let revision = *newest.borrow() - keep;
        if revision <= world.floor.load(Ordering::Relaxed) {
            continue;
        }
        world.floor.store(revision, Ordering::Relaxed);
        let member = &world.members[dice.random_range(0..world.members.len())];
        let request = CompactionRequest {
            revision,
            physical: dice.random(),
        };
        // A member that is down does not compact; the next time comes.
        if KvClient::new(member.clone()).compact(request).await.is_ok() {
            world.compactions.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Changes keys of its own, each write on condition of what it changes.
struct Writer {
    world: Arc<World>,
    dice: StdRng,
    number: u64,
    /// Modification revision of each key, 0 if it is not there.
    known: HashMap<u64, i64>,
}

impl Writer {
    fn new(world: Arc<World>, number: u64) -> Self {
        let dice = world.arguments.dice(0, number);
        Self {
            world,
            dice,
            number,
            known: HashMap::new(),
        }
    }

    async fn write(mut self) -> Result<()> {
        let (changes, writers) = (self.world.arguments.changes, self.world.arguments.writers);
        let own = (self.world.arguments.keys / writers).max(1);
        while self.world.changes.load(Ordering::Relaxed) < changes {
            let key = self.number + writers * self.dice.random_range(0..own);
            let member = self.dice.random_range(0..self.world.members.len());
            let mut client = KvClient::new(self.world.members[member].clone());
            let (request, deletes) = self.change(key);
            match client.txn(request).await {
                Ok(reply) => self.changed(key, deletes, reply.into_inner())?,
                Err(status) => {
                    ensure!(
                        self.world.arguments.kill_every > 0,
                        "a write was refused: {status}"
                    );
                    self.world.unknown.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    /// A create, an update or a delete, and whether it is the last.
    fn change(&mut self, key: u64) -> (TxnRequest, bool) {
        let name: Bytes = format!("{PREFIX}{key:06}").into();
        let known = self.known.get(&key).copied().unwrap_or(0);
        let deletes = known > 0 && self.dice.random_bool(0.2);
        let change = if deletes {
            Request::RequestDeleteRange(DeleteRangeRequest {
                key: name.clone(),
                ..DeleteRangeRequest::default()
            })
        } else {
            let mut value = vec![0; self.dice.random_range(1..400)];
            self.dice.fill(&mut value[..]);
            Request::RequestPut(PutRequest {
                key: name.clone(),
                value: value.into(),
                ..PutRequest::default()
            })
        };
        let unchanged = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: name.clone(),
            target_union: Some(TargetUnion::ModRevision(known)),
            ..Compare::default()
        };
        let look = Request::RequestRange(RangeRequest {
            key: name,
            ..RangeRequest::default()
        });
        let one = |request| {
            vec![RequestOp {
                request: Some(request),
            }]
        };
        let request = TxnRequest {
            compare: vec![unchanged],
            success: one(change),
            failure: one(look),
        };
        (request, deletes)
    }

    fn changed(
        &mut self,
        key: u64,
        deletes: bool,
        reply: mizzen_proto::etcdserverpb::TxnResponse,
    ) -> Result<()> {
        let revision = reply.header.context("no header")?.revision;
        if reply.succeeded {
            self.known.insert(key, if deletes { 0 } else { revision });
            self.world.changes.fetch_add(1, Ordering::Relaxed);
            self.world.newest.send_if_modified(|newest| {
                let newer = revision > *newest;
                *newest = revision.max(*newest);
                newer
            });
            return Ok(());
        }
        // Only a write of unknown outcome changes what is known.
        ensure!(
            self.world.arguments.kill_every > 0,
            "key {key} was changed by nobody"
        );
        let found = match reply
            .responses
            .into_iter()
            .next()
            .and_then(|op| op.response)
        {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            other => anyhow::bail!("answered with {other:?}"),
        };
        self.known
            .insert(key, found.map_or(0, |kv| kv.mod_revision));
        Ok(())
    }
}
