//! What it takes to bring a member up to date by a snapshot, and what clients
//! of the others notice: one that missed writes and the purge of the log, an
//! empty one that joins, and transfers whose sender or receiver is killed.
//!
//! `cargo run --release -p mizzen-tests --bin catch_up -- --writes 500000 --kills 20`

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use mizzen_proto::etcdserverpb::{
    MemberAddRequest, MemberRemoveRequest, cluster_client::ClusterClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::load::Load;
use mizzen_tests::snapshot::{INSTALLED, count, leave_behind, same_hash};
use tonic::transport::Channel;

#[derive(Parser)]
struct Arguments {
    /// Puts that a stopped member misses.
    #[arg(long, default_value_t = 500_000)]
    writes: u64,
    /// Bytes of their values.
    #[arg(long, default_value_t = 1_024)]
    value: usize,
    /// Transfers that are broken off.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Empty members that join, one after the other left.
    #[arg(long, default_value_t = 1)]
    joins: u64,
    /// Puts a second whose time is taken.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Seconds of the window before each event that it is compared with.
    #[arg(long, default_value_t = 15)]
    window: u64,
}

fn channels(cluster: &Cluster, members: &[usize]) -> Result<Vec<Channel>> {
    let members = members.iter();
    members.map(|member| cluster.channel(*member)).collect()
}

/// Takes the time of puts over `members`, before and while `event` happens.
async fn compare(
    name: &str,
    cluster: &mut Cluster,
    members: &[usize],
    arguments: &Arguments,
    event: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let load = Load::start(channels(cluster, members)?, arguments.rate);
    load.flows(arguments.rate as usize).await?;
    let control = Instant::now();
    tokio::time::sleep(Duration::from_secs(arguments.window)).await;
    let (before, puts_before) = load.percentile(control, 99);
    let (median_before, _) = load.percentile(control, 50);
    let began = Instant::now();
    event(cluster).await?;
    let took = began.elapsed();
    let (during, puts) = load.percentile(began, 99);
    let (median, _) = load.percentile(began, 50);
    let slowest = load.slowest(began);
    let outcome = load.stop().await?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name}: {:.1} s; put p50 {:.2} ms, p99 {:.2} ms of {puts} puts; before it {:.2} and {:.2} ms of {puts_before}; p99 {:.2}x; failed: {:?}",
        took.as_secs_f64(),
        millis(median),
        millis(during),
        millis(median_before),
        millis(before),
        millis(during) / millis(before),
        outcome.failed,
    );
    println!("{name}: slowest put of each second: {slowest:.1?}");
    outcome.ensure_kept(cluster.channel(members[0])?).await
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let leader = cluster.leader().await?;
        let behind = (leader + 1) % 3;
        let others = [leader, (leader + 2) % 3];
        let began = Instant::now();
        leave_behind(cluster, leader, behind, arguments.writes, arguments.value).await?;
        println!(
            "{} writes of {} bytes missed, and the purge of the log: {:.1} s",
            arguments.writes,
            arguments.value,
            began.elapsed().as_secs_f64()
        );
        let before = count(cluster, behind, INSTALLED)?;
        compare(
            "a member comes back",
            cluster,
            &others,
            &arguments,
            async |cluster| cluster.restart(behind).await,
        )
        .await?;
        ensure!(
            count(cluster, behind, INSTALLED)? > before,
            "the log reached back far enough: nothing was tested"
        );
        same_hash(cluster).await?;

        for _ in 0..arguments.joins {
            join_and_leave(cluster, leader, &arguments).await?;
        }
        Ok(())
    })
    .await?;
    broken_off(&arguments).await
}

/// An empty member joins, and is removed again.
async fn join_and_leave(cluster: &mut Cluster, leader: usize, arguments: &Arguments) -> Result<()> {
    let new = cluster.reserve()?;
    let mut client = ClusterClient::new(cluster.channel(leader)?);
    let mut added = None;
    let id = &mut added;
    compare(
        "an empty member joins",
        cluster,
        &[0, 1, 2],
        arguments,
        async |cluster| {
            let mut client = ClusterClient::new(cluster.channel(leader)?);
            let request = MemberAddRequest {
                peer_ur_ls: vec![cluster.peer_url(new)],
                is_learner: false,
            };
            *id = client.member_add(request).await?.into_inner().member;
            cluster.join(new, &[0, 1, 2, new])?;
            cluster.wait_ready(new).await
        },
    )
    .await?;
    ensure!(
        count(cluster, new, INSTALLED)? > 0,
        "it joined without a snapshot"
    );
    same_hash(cluster).await?;
    let id = added.context("no member")?.id;
    client.member_remove(MemberRemoveRequest { id }).await?;
    cluster.discard_last()
}

/// Kills receivers and senders in turn, in the middle of transfers.
async fn broken_off(arguments: &Arguments) -> Result<()> {
    if arguments.kills == 0 {
        return Ok(());
    }
    let options = Options::new(cluster::mizzen()?)
        .flag("--snapshot-count=1000")
        .flag("--snapshot-catchup-entries=500");
    Cluster::run(options, async |cluster| {
        mizzen_tests::snapshot::break_off(cluster, arguments.kills).await
    })
    .await
}
