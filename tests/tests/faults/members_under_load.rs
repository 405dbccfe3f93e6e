//! Clients go on writing while leaders stop, crash, and every member is
//! replaced: nothing acknowledged is lost, and each failure says that the
//! client may try again.
//!
//! `MIZZEN_TEST_ROUNDS` sets how often each thing happens (1 if not given). For
//! figures: `cargo run --release -p mizzen-tests --bin failover`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mizzen_proto::etcdserverpb::{
    HashKvRequest, MemberAddRequest, MemberRemoveRequest, cluster_client::ClusterClient,
    maintenance_client::MaintenanceClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::load::Load;
use mizzen_tests::setting;
use tonic::transport::Channel;

const PER_SECOND: u32 = 300;

fn rounds() -> u64 {
    setting("MIZZEN_TEST_ROUNDS", 1)
}

fn channels(cluster: &Cluster, members: &[usize]) -> Result<Vec<Channel>> {
    members
        .iter()
        .map(|index| cluster.channel(*index))
        .collect()
}

async fn leaders_go(kill: bool) -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let load = Load::start(channels(cluster, &[0, 1, 2])?, PER_SECOND);
        for _ in 0..rounds() {
            load.flows(100).await?;
            let leader = cluster.leader().await?;
            if kill {
                cluster.kill(leader)?;
            } else {
                ensure!(cluster.terminate(leader).await?.success());
            }
            load.flows(100).await?;
            cluster.restart(leader).await?;
        }
        let outcome = load.stop().await?;
        println!("{} puts, failed: {:?}", outcome.sent, outcome.failed);
        outcome.ensure_retryable()?;
        for index in 0..3 {
            outcome.ensure_kept(cluster.channel(index)?).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopping_leader_hands_over() -> Result<()> {
    leaders_go(false).await
}

#[tokio::test]
async fn a_killed_leader_is_replaced() -> Result<()> {
    leaders_go(true).await
}

#[tokio::test]
async fn all_members_are_replaced_one_by_one() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let mut members = vec![0, 1, 2];
        let load = Load::start(channels(cluster, &members)?, PER_SECOND);
        for _ in 0..3 * rounds() {
            load.flows(100).await?;
            let new = cluster.reserve()?;
            let request = MemberAddRequest {
                peer_ur_ls: vec![cluster.peer_url(new)],
                is_learner: false,
            };
            changed(cluster, members[1], async |client| {
                client.member_add(request.clone()).await.map(drop)
            })
            .await?;
            members.push(new);
            cluster.join(new, &members)?;
            cluster.wait_ready(new).await?;

            let old = members.remove(0);
            let status = cluster.status(old).await?;
            let id = status.header.context("a header")?.member_id;
            // Clients are told before the member goes.
            load.set_members(channels(cluster, &members)?);
            changed(cluster, new, async |client| {
                client
                    .member_remove(MemberRemoveRequest { id })
                    .await
                    .map(drop)
            })
            .await?;
            ensure!(cluster.wait_end(old).await?.success());
        }
        let outcome = load.stop().await?;
        println!("{} puts, failed: {:?}", outcome.sent, outcome.failed);
        outcome.ensure_retryable()?;
        let mut hashes = Vec::new();
        for &index in &members {
            outcome.ensure_kept(cluster.channel(index)?).await?;
            let mut client = MaintenanceClient::new(cluster.channel(index)?);
            let reply = client.hash_kv(HashKvRequest::default()).await?.into_inner();
            hashes.push((reply.hash, reply.hash_revision));
        }
        ensure!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "{hashes:?}"
        );
        Ok(())
    })
    .await
}

/// Makes a change that is refused as long as connections between members are
/// younger than some seconds.
async fn changed(
    cluster: &Cluster,
    through: usize,
    mut change: impl AsyncFnMut(&mut ClusterClient<Channel>) -> Result<(), tonic::Status>,
) -> Result<()> {
    let mut client = ClusterClient::new(cluster.channel(through)?);
    let started = Instant::now();
    loop {
        match change(&mut client).await {
            Err(status)
                if status.message() == "etcdserver: unhealthy cluster"
                    && started.elapsed() < Duration::from_secs(30) =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return Ok(other?),
        }
    }
}
