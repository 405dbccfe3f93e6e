//! Members brought up to date by snapshots: how to make that necessary, and how
//! to see that it happened.
//!
//! Knows log lines and directories of Mizzen's members.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest};
use tonic::transport::Channel;

use crate::cluster::Cluster;

/// Log lines of the leader and of the receiver.
pub const PURGED: &str = "purged the raft log";
pub const BEGUN: &str = "receiving a snapshot";
pub const INSTALLED: &str = "the rows are those of another member now";

const CALLERS: usize = 64;
pub const KEYS: u64 = 20_000;
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);

/// Incompressible and different for every number.
fn value(number: u64, len: usize) -> Bytes {
    let mut state = number;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Writes values of `len` bytes to `keys` keys in turn until `go_on` says no;
/// gives the time each put took.
pub async fn write(
    channel: Channel,
    len: usize,
    keys: u64,
    go_on: impl Fn(u64) -> bool + Clone + Send + 'static,
) -> Result<Vec<Duration>> {
    let next = Arc::new(AtomicU64::new(0));
    let callers = (0..CALLERS).map(|_| {
        let (next, go_on) = (next.clone(), go_on.clone());
        let mut client = KvClient::new(channel.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if !go_on(number) {
                    return Ok::<_, anyhow::Error>(times);
                }
                let request = PutRequest {
                    key: format!("key-{:08}", number % keys).into(),
                    value: value(number, len),
                    ..Default::default()
                };
                let began = Instant::now();
                client.put(request).await?;
                times.push(began.elapsed());
            }
        })
    });
    let mut times = Vec::new();
    for part in try_join_all(callers).await? {
        times.extend(part?);
    }
    Ok(times)
}

pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = times.len() * percent / 100;
    times.get(at).copied().unwrap_or_default()
}

pub fn count(cluster: &Cluster, index: usize, line: &str) -> Result<usize> {
    let log = std::fs::read_to_string(cluster.log_path(index))?;
    Ok(log.matches(line).count())
}

/// Waits until a member's log has more than `before` such lines.
pub async fn wait_for(cluster: &Cluster, index: usize, line: &str, before: usize) -> Result<()> {
    let began = Instant::now();
    while count(cluster, index, line)? <= before {
        ensure!(
            began.elapsed() < DEADLINE,
            "member {index} never says {line:?}"
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The index through which a member says it has purged its log.
fn purged(cluster: &Cluster, index: usize) -> Result<u64> {
    let log = std::fs::read_to_string(cluster.log_path(index))?;
    let last = log.lines().rfind(|line| line.contains(PURGED));
    Ok(last
        .and_then(|line| line.split("\"index\":").nth(1))
        .and_then(|rest| rest.trim_end_matches('}').parse().ok())
        .unwrap_or(0))
}

/// Kills a member and writes until the leader has purged what it lacks.
pub async fn leave_behind(
    cluster: &mut Cluster,
    leader: usize,
    behind: usize,
    writes: u64,
    len: usize,
) -> Result<Vec<Duration>> {
    cluster.kill(behind)?;
    let lacks = cluster.status(leader).await?.raft_index;
    let times = write(cluster.channel(leader)?, len, KEYS, move |number| {
        number < writes
    })
    .await?;
    let began = Instant::now();
    while purged(cluster, leader)? <= lacks {
        ensure!(began.elapsed() < DEADLINE, "the log is not purged");
        write(cluster.channel(leader)?, len, KEYS, |number| number < 10).await?;
    }
    Ok(times)
}

/// The hash of every member at the newest revision all have reached.
pub async fn same_hash(cluster: &Cluster) -> Result<()> {
    let mut revision = 0;
    for index in 0..cluster.len() {
        let request = RangeRequest {
            key: Bytes::from_static(b"k"),
            ..Default::default()
        };
        let reply = KvClient::new(cluster.channel(index)?)
            .range(request)
            .await?;
        let header = reply.into_inner().header.context("no header")?;
        revision = revision.max(header.revision);
    }
    let mut hashes = Vec::new();
    for index in 0..cluster.len() {
        let mut client = MaintenanceClient::new(cluster.channel(index)?);
        let reply = client
            .hash_kv(HashKvRequest { revision })
            .await?
            .into_inner();
        hashes.push((reply.hash, reply.compact_revision));
    }
    ensure!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "hashes at revision {revision} differ: {hashes:?}"
    );
    Ok(())
}

/// Nothing is left of transfers beside the rows themselves.
pub async fn no_leftovers(cluster: &Cluster) -> Result<()> {
    for index in 0..cluster.len() {
        let rows = cluster.data_dir(index).join("member/rows");
        let began = Instant::now();
        loop {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&rows)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            // Replaced rows go with their last reader, in the background.
            if names.len() == 2 {
                break;
            }
            ensure!(began.elapsed() < DEADLINE, "member {index} keeps {names:?}");
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Breaks `kills` transfers off, by the end of the receiver and of the sender
/// in turn; each time the members are equal again afterwards. The cluster must
/// cut its log after a thousand entries or so.
///
/// # Errors
/// They are not, or a member does not come back.
pub async fn break_off(cluster: &mut Cluster, kills: u64) -> Result<()> {
    // Enough that a transfer takes a while.
    let first = cluster.leader().await?;
    write(cluster.channel(first)?, 4_096, KEYS, |number| number < KEYS).await?;
    let (mut broken, mut senders, mut over) = (0, 0, 0);
    while broken < kills {
        ensure!(
            over <= kills + 3,
            "{over} transfers were over before they could be broken off, {broken} were not"
        );
        let leader = cluster.leader().await?;
        let behind = (leader + 1) % cluster.len();
        leave_behind(cluster, leader, behind, 4_000, 100).await?;
        let (begun, installed) = (
            count(cluster, behind, BEGUN)?,
            count(cluster, behind, INSTALLED)?,
        );
        cluster.spawn(behind)?;
        wait_for(cluster, behind, BEGUN, begun).await?;
        let victim = if broken % 2 == 0 { behind } else { leader };
        cluster.kill(victim)?;
        // A transfer that was over already does not count.
        if count(cluster, behind, INSTALLED)? == installed {
            broken += 1;
            senders += u64::from(victim == leader);
        } else {
            over += 1;
        }
        cluster.spawn(victim)?;
        for index in 0..cluster.len() {
            cluster.wait_ready(index).await?;
        }
        same_hash(cluster).await?;
    }
    no_leftovers(cluster).await?;
    println!(
        "{broken} transfers broken off, {senders} of them by the end of their sender; {over} were over before"
    );
    Ok(())
}
