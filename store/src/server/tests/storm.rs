//! Clients that write, read and watch all the time, while members lose their
//! power and their network, by lot.
//!
//! Each key has one writer and each value is larger than those before it, so
//! that a reply can be judged as it comes.

use mizzen_sim::{Flaw, simulate};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use mizzen_core::{Command, Put, Range, Reply};
use mizzen_proto::etcdserverpb::RangeResponse;
use mizzen_sim::MemEngine;
use parking_lot::Mutex;
use prost::Message;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::Cluster,
    setting,
    watchers::{Sequence, Watcher},
};
use crate::server::{self, Caller};

const CLIENTS: u64 = 6;
const KEYS: u64 = 4;
const WATCHERS: usize = 3;
/// How long faults go on.
const STORM: Duration = Duration::from_secs(20);
/// In which the members must recover when nothing breaks any more.
const CALM: Duration = Duration::from_secs(20);

pub type Server = server::Server<MemEngine>;
/// The members that are up, by their hosts.
pub type Up = BTreeMap<u64, Arc<Server>>;

/// What clients were told.
#[derive(Default)]
struct Evidence {
    /// The newest revision of any reply.
    revision: AtomicU64,
    /// Which write made a revision, of those acknowledged.
    made: Mutex<BTreeMap<i64, (Bytes, u64)>>,
    keys: Mutex<BTreeMap<Bytes, Written>>,
    /// How many keys of a writer's number were given up.
    given_up: Mutex<BTreeMap<(u64, u64), u64>>,
    reads: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// What the writer of a key knows of its values.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    acknowledged: u64,
    tried: u64,
}

impl Evidence {
    /// The key that a writer uses now.
    fn key(&self, writer: u64, number: u64) -> Bytes {
        let given_up = self.given_up.lock().get(&(writer, number)).copied();
        format!("{writer}/{number}/{}", given_up.unwrap_or(0)).into()
    }

    fn wrong(&self, text: String) {
        self.wrong.lock().push(text);
    }

    /// A reply to what was asked when `known` was the newest revision told.
    fn revision(&self, known: u64, revision: i64, what: &str) {
        let revision = u64::try_from(revision).unwrap_or(0);
        if revision < known {
            self.wrong(format!(
                "{what} was answered at revision {revision}, when {known} had been told"
            ));
        }
        self.revision.fetch_max(revision, Ordering::SeqCst);
    }
}

struct Client {
    number: u64,
    lots: StdRng,
    told: Arc<Evidence>,
    up: watch::Receiver<Up>,
}

impl Client {
    /// Works until it is the end of time.
    async fn work(mut self) {
        for value in 1.. {
            let up = self.up.borrow().clone();
            let Some((host, server)) = up
                .iter()
                .nth(self.lots.random_range(0..up.len().max(1) as u64) as usize)
            else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            // Nobody gets an answer from a member whose power is off.
            let mut lives = self.up.clone();
            let ended =
                lives.wait_for(|up| !up.get(host).is_some_and(|now| Arc::ptr_eq(now, server)));
            let write = self.lots.random_range(0..2) == 0;
            let (writer, number) = match write {
                true => (self.number, self.lots.random_range(0..KEYS)),
                false => (
                    self.lots.random_range(0..CLIENTS),
                    self.lots.random_range(0..KEYS),
                ),
            };
            let told = &self.told;
            let key = told.key(writer, number);
            let work = async {
                match write {
                    true => put(told, server, key, value).await,
                    false => get(told, server, key).await,
                }
            };
            let done = tokio::select! {
                biased;
                done = work => done,
                _ = ended => false,
            };
            if write && !done {
                // It may be written yet, and must not be over a newer one.
                *told.given_up.lock().entry((writer, number)).or_default() += 1;
            }
            let pause = if done { 2 } else { 20 };
            sleep(Duration::from_millis(self.lots.random_range(0..pause))).await;
        }
    }
}

/// False if the outcome is not known.
async fn put(told: &Evidence, server: &Server, key: Bytes, value: u64) -> bool {
    told.keys.lock().entry(key.clone()).or_default().tried = value;
    let known = told.revision.load(Ordering::SeqCst);
    let command = Command::Put(Put {
        key: key.clone(),
        value: value.to_string().into(),
        ..Put::default()
    });
    let Ok(Reply::Put { revision, .. }) = server.write(&Caller::default(), command).await else {
        return false;
    };
    // A write makes a revision of its own.
    told.revision(known + 1, revision, "a write");
    told.keys
        .lock()
        .entry(key.clone())
        .or_default()
        .acknowledged = value;
    let before = told.made.lock().insert(revision, (key.clone(), value));
    if let Some(before) = before {
        told.wrong(format!(
            "revision {revision} was made by {before:?} and {key:?} = {value}"
        ));
    }
    true
}

async fn get(told: &Evidence, server: &Server, key: Bytes) -> bool {
    let at_least = told.keys.lock().get(&key).copied().unwrap_or_default();
    let known = told.revision.load(Ordering::SeqCst);
    let range = Range {
        key: key.clone(),
        ..Range::default()
    };
    let Ok(reply) = server.range(&Caller::default(), range).await else {
        return false;
    };
    told.revision(known, reply.revision, "a read");
    told.reads.fetch_add(1, Ordering::SeqCst);
    let found = value_of(reply.kvs.bytes);
    let tried = told
        .keys
        .lock()
        .get(&key)
        .copied()
        .unwrap_or_default()
        .tried;
    if found < at_least.acknowledged || found > tried {
        told.wrong(format!(
            "{key:?} was {found}, when {at_least:?} was known, and {tried} tried"
        ));
    }
    true
}

/// The value of the only key of a reply; 0 if there is none.
fn value_of(bytes: Bytes) -> u64 {
    let reply = RangeResponse::decode(bytes).expect("a reply");
    let text = reply
        .kvs
        .first()
        .map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    text.map_or(0, |text| text.parse().expect("a number"))
}

fn show(cluster: &Cluster, up: &watch::Sender<Up>) {
    let members = cluster.up().into_iter();
    let members = members.filter_map(|host| Some((host, cluster.member(host)?.server.clone())));
    up.send_replace(members.collect());
}

/// One thing that breaks, or is mended.
async fn strike(
    cluster: &mut Cluster,
    lots: &mut StdRng,
    members: u64,
) -> Result<&'static str, String> {
    let host = 1 + lots.random_range(0..members);
    let leader = cluster.leader();
    Ok(match lots.random_range(0..10) {
        0 => {
            cluster.crash(host);
            "crash"
        }
        1 => {
            leader.into_iter().for_each(|leader| cluster.crash(leader));
            "crash of the leader"
        }
        2 => {
            (1..=members).for_each(|host| cluster.crash(host));
            "crash of all"
        }
        3 => {
            cluster.network.cut_off([host]);
            "cut off"
        }
        4 => {
            cluster.network.cut_off(leader);
            "leader cut off"
        }
        5 | 6 => {
            cluster.network.cut_off([]);
            "network mended"
        }
        _ => {
            for host in 1..=members {
                let booted = cluster.boot(host).await;
                booted.map_err(|error| format!("host {host} does not start: {error}"))?;
            }
            "started"
        }
    })
}

struct Report {
    faults: BTreeMap<&'static str, u64>,
    writes: usize,
    reads: u64,
    /// Revisions of which each watcher was told.
    watched: usize,
}

async fn storm(seed: u64, flaw: Flaw) -> Result<Report, String> {
    let mut lots = StdRng::seed_from_u64(seed);
    let members = if seed % 4 == 3 { 5 } else { 3 };
    let cluster = Cluster::start(seed, members, flaw).await;
    let mut cluster = cluster.map_err(|error| error.to_string())?;
    let told = Arc::new(Evidence::default());
    let (up, lives) = watch::channel(Up::new());
    show(&cluster, &up);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| Client {
            number,
            lots: StdRng::seed_from_u64(lots.random()),
            told: told.clone(),
            up: lives.clone(),
        })
        .map(|client| tokio::spawn(client.work()))
        .collect();
    let sequence = Arc::new(Mutex::new(Sequence::default()));
    let (mut positions, mut watchers) = (Vec::new(), JoinSet::new());
    for _ in 0..WATCHERS {
        let watcher = Watcher::new(lots.random(), sequence.clone(), lives.clone());
        positions.push(watcher.next.clone());
        watchers.spawn(watcher.follow());
    }
    let mut faults = BTreeMap::new();
    let end = Instant::now() + STORM;
    while Instant::now() < end {
        sleep(Duration::from_millis(20 + lots.random_range(0..1_000))).await;
        let fault = strike(&mut cluster, &mut lots, members).await?;
        *faults.entry(fault).or_default() += 1;
        show(&cluster, &up);
        if let Some(wrong) = told.wrong.lock().first() {
            return Err(wrong.clone());
        }
        if let Some(wrong) = watchers.try_join_next() {
            return Err(wrong.map_err(|error| error.to_string())?);
        }
    }
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    cluster.network.cut_off([]);
    for host in 1..=members {
        let booted = cluster.boot(host).await;
        booted.map_err(|error| format!("host {host} does not start: {error}"))?;
    }
    let recovered = timeout(CALM, cluster.ready()).await;
    let recovered = recovered.map_err(|_| "the members do not recover".to_owned())?;
    recovered.map_err(|error| error.to_string())?;
    show(&cluster, &up);
    check(&cluster, &told).await?;
    told_of_all(&positions, &told, &mut watchers).await?;
    sequence.lock().check(&told.made.lock())?;
    let wrong = told.wrong.lock().first().cloned();
    wrong.map_or(Ok(()), Err)?;
    let writes = told.made.lock().len();
    Ok(Report {
        faults,
        writes,
        reads: told.reads.load(Ordering::SeqCst),
        watched: sequence.lock().len(),
    })
}

/// Returns when every watcher was told of the newest revision.
async fn told_of_all(
    positions: &[Arc<AtomicI64>],
    told: &Evidence,
    watchers: &mut JoinSet<String>,
) -> Result<(), String> {
    let newest = told.revision.load(Ordering::SeqCst);
    let reached = async {
        let behind = |next: &Arc<AtomicI64>| next.load(Ordering::SeqCst) as u64 <= newest;
        while positions.iter().any(behind) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        wrong = watchers.join_next() => match wrong {
            Some(Ok(wrong)) => Err(wrong),
            other => Err(format!("the watchers ended: {other:?}")),
        },
        reached = timeout(CALM, reached) => reached.map_err(|_| {
            format!("watchers were told of what is before {positions:?}, not of {newest}")
        }),
    }
}

/// Every member has all that was acknowledged, and all have the same.
async fn check(cluster: &Cluster, told: &Evidence) -> Result<(), String> {
    let hosts = cluster.up();
    let servers: Vec<_> = hosts
        .iter()
        .filter_map(|host| Some(cluster.member(*host)?.server.clone()))
        .collect();
    let keys: Vec<Bytes> = told.keys.lock().keys().cloned().collect();
    for server in &servers {
        let reads = keys.iter().map(|key| get(told, server, key.clone()));
        if join_all(reads).await.contains(&false) {
            return Err(format!("member {} does not answer", server.group().id()));
        }
    }
    let mut hashes = Vec::new();
    for server in &servers {
        let hash = server.hash_kv(&Caller::default(), 0).await;
        let hash = hash.map_err(|error| format!("no hash: {error}"))?;
        hashes.push((hash.hash, hash.hash_revision));
    }
    match hashes.iter().all(|hash| *hash == hashes[0]) {
        true => Ok(()),
        false => Err(format!("members differ: {hashes:?}")),
    }
}

#[test]
fn storms_lose_nothing_and_nobody_goes_back_in_time() {
    let test = "storms_lose_nothing";
    let (first, count) = (setting("MIZZEN_STORM", 1), setting("MIZZEN_STORMS", 4));
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new((BTreeMap::<&str, u64>::new(), 0, 0, 0));
    std::thread::scope(|scope| {
        for _ in 0..setting("MIZZEN_POWER_WORKERS", 2) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count {
                        return;
                    }
                    match simulate(storm(seed, Flaw::None)) {
                        Err(error) => failures.lock().push(format!(
                            "storm {seed}: {error}; again: MIZZEN_STORM={seed} MIZZEN_STORMS=1 cargo test --release -p mizzen-store --lib {test}"
                        )),
                        Ok(report) => {
                            let mut totals = totals.lock();
                            totals.1 += report.writes;
                            totals.2 += report.reads;
                            totals.3 += report.watched;
                            for (fault, count) in report.faults {
                                *totals.0.entry(fault).or_default() += count;
                            }
                        }
                    }
                }
            });
        }
    });
    let (faults, writes, reads, watched) = totals.into_inner();
    println!(
        "{count} storms: {faults:?}, {writes} writes acknowledged, {reads} reads, {watched} revisions watched"
    );
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(
        writes > 0 && reads > 0 && watched >= writes,
        "nothing was tested"
    );
}

/// The test above must be able to fail, and soon.
#[test]
fn a_storm_finds_a_missing_fdatasync() {
    const SOON: u64 = 3;
    let mut found = (1..=SOON).filter_map(|seed| simulate(storm(seed, Flaw::NoSync)).err());
    let found = found.next();
    println!("found: {found:?}");
    assert!(found.is_some(), "{SOON} storms found nothing");
}
