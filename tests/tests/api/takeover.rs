//! A large etcd with users, taken over while writes go on at a steady rate; then
//! imported from its directory, and exported to an etcd again. Each time every key has
//! the revisions, the version and the lease that it had.
//!
//! `MIZZEN_TAKEOVER_KEYS` keys before it begins, and as many writes while it lasts at
//! `MIZZEN_TAKEOVER_RATE` a second.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{
    Client, CompactionOptions, ConnectOptions, GetOptions, LeaseGrantOptions,
    LeaseTimeToLiveOptions, Permission, PutOptions, Txn, TxnOp, WatchOptions,
};
use futures::future::try_join_all;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::setting;
use mizzen_tests::skip::{self, Why};

use super::import::etcd_3_4;
use super::migrate::Following;
use super::restore::restored;
use super::snapshot::{restored as restored_by_etcdutl, save_as};

const LEASES: i64 = 100;
/// Writes of one transaction that fills.
const BATCH: u64 = 100;
/// Keys of one page; their reply is smaller than what a client takes by default.
const PAGE: i64 = 4_000;
const ROOT: [&str; 2] = ["--user", "root:p"];

async fn root(endpoints: &[String]) -> Result<Client> {
    let options = ConnectOptions::new().with_user("root", "p");
    Ok(Client::connect(endpoints, Some(options)).await?)
}

async fn fill(client: &Client, keys: u64) -> Result<()> {
    let mut leases = client.lease_client();
    for id in 1..=LEASES {
        let options = LeaseGrantOptions::new().with_id(id);
        leases.grant(3_600 + id, Some(options)).await?;
    }
    let batches: Vec<u64> = (0..keys.div_ceil(BATCH)).collect();
    for some in batches.chunks(16) {
        try_join_all(some.iter().map(async |batch| {
            let puts = (batch * BATCH..(batch + 1) * BATCH).map(|number| {
                let lease = i64::try_from(number).unwrap_or(0) % (10 * LEASES);
                let options = (1..=LEASES).contains(&lease);
                let options = options.then(|| PutOptions::new().with_lease(lease));
                TxnOp::put(format!("key/{number:07}"), number.to_string(), options)
            });
            let mut client = client.kv_client();
            client
                .txn(Txn::new().and_then(puts.collect::<Vec<_>>()))
                .await
        }))
        .await?;
    }
    Ok(())
}

async fn add_users(client: &Client) -> Result<()> {
    let mut auth = client.auth_client();
    auth.user_add("root", "p", None).await?;
    auth.user_grant_role("root", "root").await?;
    auth.role_add("reader").await?;
    let live = Permission::read("live/").with_prefix();
    auth.role_grant_permission("reader", live).await?;
    for number in 0..20 {
        let name = format!("user-{number}");
        auth.user_add(name.as_str(), "p", None).await?;
        auth.user_grant_role(name.as_str(), "reader").await?;
    }
    auth.auth_enable().await?;
    Ok(())
}

/// Puts at a steady rate until it is stopped.
async fn write(
    client: Client,
    rate: u64,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    const TICKS: u64 = 100;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / 100);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let some: Vec<u64> = (number..)
            .take(usize::try_from(rate / TICKS)?.max(1))
            .collect();
        try_join_all(some.iter().map(|number| {
            let mut client = client.kv_client();
            let key = format!("live/{:05}", number % 5_000);
            async move { client.put(key, number.to_string(), None).await }
        }))
        .await?;
        number += some.len() as u64;
        acknowledged.store(number, Ordering::Relaxed);
    }
    Ok(())
}

/// Key, value, create and mod revision, version, lease.
type Row = (Vec<u8>, Vec<u8>, i64, i64, i64, i64);

/// All that is there, at one revision.
#[derive(Debug, PartialEq)]
struct Everything {
    revision: i64,
    keys: Vec<Row>,
    leases: Vec<(i64, i64, usize)>,
    users: Vec<(String, Vec<String>)>,
}

impl Everything {
    async fn of(client: &mut Client) -> Result<Self> {
        let (mut keys, mut from, mut revision) = (Vec::new(), vec![0], 0);
        loop {
            let page = GetOptions::new()
                .with_from_key()
                .with_limit(PAGE)
                .with_revision(revision);
            let page = client.get(from, Some(page)).await?;
            if revision == 0 {
                revision = page.header().context("a header")?.revision();
            }
            keys.extend(page.kvs().iter().map(|kv| {
                let (created, modified) = (kv.create_revision(), kv.mod_revision());
                let (key, value) = (kv.key().to_vec(), kv.value().to_vec());
                (key, value, created, modified, kv.version(), kv.lease())
            }));
            if !page.more() {
                break;
            }
            from = keys.last().context("a key")?.0.clone();
            from.push(0);
        }
        let mut leases = Vec::new();
        let ids: Vec<i64> = client
            .leases()
            .await?
            .leases()
            .iter()
            .map(|lease| lease.id())
            .collect();
        for id in ids {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let told = client.lease_time_to_live(id, Some(options)).await?;
            leases.push((id, told.granted_ttl(), told.keys().len()));
        }
        leases.sort_unstable();
        let mut users = Vec::new();
        for name in client.user_list().await?.users().to_vec() {
            let roles = client.user_get(name.as_str()).await?.roles().to_vec();
            users.push((name, roles));
        }
        Ok(Self {
            revision,
            keys,
            leases,
            users,
        })
    }

    fn equals(&self, other: &Self, what: &str) -> Result<()> {
        ensure!(
            self.keys.len() == other.keys.len(),
            "{what}: {} keys, {}",
            self.keys.len(),
            other.keys.len()
        );
        for (one, other) in self.keys.iter().zip(&other.keys) {
            ensure!(one == other, "{what}: {one:?}, in etcd {other:?}");
        }
        ensure!(
            self == other,
            "{what}: other than the keys, something differs"
        );
        Ok(())
    }
}

/// Three members follow an etcd under writes, and go on where it ends; the pause.
async fn taken_over(
    etcd: &Cluster,
    keys: u64,
    rate: u64,
) -> Result<(Everything, Duration, Cluster)> {
    let client = root(&etcd.endpoints()).await?;
    let (acknowledged, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let begun = Instant::now();
    let writing = tokio::spawn(write(client, rate, acknowledged.clone(), stop.clone()));
    let mut ours =
        Cluster::prepare(Options::new(cluster::mizzen()?).flag("--bcrypt-cost=4")).await?;
    let from = [
        format!("--from=http://{}", etcd.endpoint(0)),
        "--user=root:p".to_owned(),
    ];
    let mut following = Vec::new();
    for index in 0..ours.len() {
        let mut one = Following::start(&ours, index, &from)?;
        one.says("following")?;
        following.push(one);
    }
    // Much happens after the last one's snapshot.
    let copied = acknowledged.load(Ordering::Relaxed);
    while acknowledged.load(Ordering::Relaxed) < copied + keys {
        ensure!(!writing.is_finished(), "writing ended: {:?}", writing.await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    writing.await??;
    let reached = acknowledged.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let paused = Instant::now();
    for one in &following {
        one.stop()?;
    }
    for one in following {
        one.finish()?;
    }
    let taken = paused.elapsed();
    for index in 0..ours.len() {
        ours.spawn(index)?;
    }
    ours.wait_ready(0).await?;
    let mut client = root(&ours.endpoints()).await?;
    let written = client.put("after", "1", None).await?;
    let pause = paused.elapsed();
    println!(
        "{keys} keys, {reached:.0} writes/s: without writes for {pause:?}, of which {taken:?} to take what was left"
    );
    let theirs = Everything::of(&mut root(&etcd.endpoints()).await?).await?;
    let revision = written.header().context("a header")?.revision();
    ensure!(
        revision == theirs.revision + 1,
        "{revision} after {}",
        theirs.revision
    );
    // A watcher goes on where it was.
    let options = WatchOptions::new().with_start_revision(theirs.revision + 1);
    let mut watch = client.watch("after", Some(options)).await?;
    let told = loop {
        let message = watch.message().await?.context("an event")?;
        ensure!(!message.canceled(), "{message:?}");
        if !message.events().is_empty() {
            break message;
        }
    };
    ensure!(told.events().len() == 1, "{told:?}");
    client.delete("after", None).await?;
    Ok((theirs, pause, ours))
}

#[tokio::test]
async fn a_large_etcd_is_taken_over_and_goes_back() -> Result<()> {
    there_and_back(&cluster::reference()?).await
}

#[tokio::test]
async fn a_large_etcd_3_4_is_taken_over_and_becomes_a_newer_one() -> Result<()> {
    match etcd_3_4()? {
        Some(program) => there_and_back(&program).await,
        None => Ok(skip::test(&Why::program("etcd 3.4"))?),
    }
}

/// From an etcd of any version to one of the newest.
async fn there_and_back(program: &Path) -> Result<()> {
    let keys = setting("MIZZEN_TAKEOVER_KEYS", 1_000);
    let rate = setting("MIZZEN_TAKEOVER_RATE", 1_000);
    let options = Options::new(program).members(1).flag("--bcrypt-cost=4");
    let mut etcd = Cluster::start(options).await?;
    let client = Client::connect(etcd.endpoints(), None).await?;
    fill(&client, keys).await?;
    let mut compacting = client.kv_client();
    let newest = compacting.get("key/0000000", None).await?;
    let newest = newest.header().context("a header")?.revision();
    compacting
        .compact(newest, Some(CompactionOptions::new()))
        .await?;
    add_users(&client).await?;
    let (theirs, _, ours) = taken_over(&etcd, keys, rate).await?;
    ensure!(
        theirs.leases.len() == usize::try_from(LEASES)? && theirs.users.len() == 21,
        "{:?}",
        theirs.users
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ours.db").display().to_string();
    ours.attend(async |ours| {
        let mut seen = Everything::of(&mut root(&ours.endpoints()).await?).await?;
        // Written and deleted again.
        ensure!(seen.revision == theirs.revision + 2, "{}", seen.revision);
        seen.revision = theirs.revision;
        seen.equals(&theirs, "taken over")?;
        save_as(&ROOT, ours.endpoint(0), &file)
    })
    .await?;
    etcd.terminate(0).await?;
    let from = format!("--from-data-dir={}", etcd.data_dir(0).display());
    restored(&from, &[])
        .await?
        .attend(async |ours| {
            let seen = Everything::of(&mut root(&ours.endpoints()).await?).await?;
            seen.equals(&theirs, "imported")
        })
        .await?;
    restored_by_etcdutl(&file)
        .await?
        .attend(async |etcd| {
            let mut seen = Everything::of(&mut root(&etcd.endpoints()).await?).await?;
            ensure!(seen.revision == theirs.revision + 2, "{}", seen.revision);
            seen.revision = theirs.revision;
            seen.equals(&theirs, "back in an etcd")
        })
        .await
}
