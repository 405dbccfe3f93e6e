//! What kubeadm does with an etcd: the static pod's flags and probes, then a second
//! control plane that joins as a learner, is promoted, and leaves.
//! Source: kubeadm's `etcd` phase and its etcd client, Kubernetes 1.37.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mizzen_proto::etcdserverpb::cluster_client::ClusterClient;
use mizzen_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::pages;

/// How long kubeadm tries to promote a learner.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// The static pod's arguments beyond its URLs and certificates.
const FLAGS: [&str; 3] = [
    "--snapshot-count=10000",
    "--feature-gates=InitialCorruptCheck=true",
    "--watch-progress-notify-interval=5s",
];

/// The kubelet's startup and readiness probe, until it is content.
async fn probed(cluster: &mut Cluster, metrics: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let page = pages::get(metrics, "/readyz").await;
        if page.as_ref().is_ok_and(|page| page.code == 200) {
            return Ok(());
        }
        ensure!(!cluster.has_ended(0)?, "the member has ended");
        ensure!(started.elapsed() < PATIENCE, "not ready: {page:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn members(cluster: &Cluster) -> Result<Vec<Member>> {
    let mut client = ClusterClient::new(cluster.channel(0)?);
    let request = MemberListRequest { linearizable: true };
    Ok(client.member_list(request).await?.into_inner().members)
}

async fn joins(cluster: &mut Cluster) -> Result<()> {
    let index = cluster.reserve()?;
    let mut client = ClusterClient::new(cluster.channel(0)?);
    let request = MemberAddRequest {
        peer_ur_ls: vec![cluster.peer_url(index)],
        is_learner: true,
    };
    let added = client.member_add(request).await?.into_inner();
    let id = added.member.context("the member")?.id;
    // An unstarted member is known by its empty name.
    let unstarted = members(cluster).await?;
    let unstarted = unstarted.iter().find(|member| member.id == id);
    ensure!(unstarted.is_some_and(|member| member.name.is_empty() && member.is_learner));
    cluster.join(index, &[0, index])?;
    let started = Instant::now();
    while let Err(status) = client.member_promote(MemberPromoteRequest { id }).await {
        ensure!(started.elapsed() < PATIENCE, "not promoted: {status}");
        tokio::time::sleep(PAUSE).await;
    }
    cluster.wait_ready(index).await?;
    for member in [0, index] {
        let status = cluster.status(member).await?;
        ensure!(status.errors.is_empty() && !status.is_learner, "{status:?}");
    }
    let listed = members(cluster).await?;
    ensure!(
        listed.len() == 2 && listed.iter().all(|member| !member.name.is_empty()),
        "{listed:?}"
    );
    // For some seconds members that have just met count as unhealthy.
    while let Err(status) = client.member_remove(MemberRemoveRequest { id }).await {
        let unhealthy = status.message() == "etcdserver: unhealthy cluster";
        ensure!(
            unhealthy && started.elapsed() < PATIENCE,
            "not removed: {status}"
        );
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(members(cluster).await?.len() == 1);
    Ok(())
}

async fn static_pod(binary: &Path) -> Result<()> {
    let metrics = format!("127.0.0.1:{}", cluster::free_ports(1)?[0]);
    let options = Options::new(binary)
        .members(1)
        .tls()
        .member_flag(0, format!("--listen-metrics-urls=http://{metrics}"));
    let options = FLAGS
        .iter()
        .fold(options, |options, flag| options.flag(*flag));
    let mut cluster = Cluster::prepare(options).await?;
    cluster.spawn(0)?;
    cluster
        .attend(async |cluster| {
            probed(cluster, &metrics).await?;
            let live = pages::get(&metrics, "/livez").await?;
            ensure!(live.code == 200 && live.body == "ok\n", "{live:?}");
            joins(cluster).await?;
            let ready = pages::get(&metrics, "/readyz").await?;
            ensure!(ready.code == 200, "{ready:?}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_static_pod_is_probed_and_a_second_one_comes_and_goes() -> Result<()> {
    static_pod(&cluster::mizzen()?).await
}

#[tokio::test]
async fn and_so_it_is_with_etcd() -> Result<()> {
    static_pod(&cluster::reference()?).await
}

/// What a member with that gate finds when a peer has other rows: see also the
/// comparison's own tests.
#[tokio::test]
async fn members_that_are_equal_start_with_the_corruption_check() -> Result<()> {
    let gate = "--feature-gates=InitialCorruptCheck=true";
    Cluster::run(
        Options::new(cluster::mizzen()?).flag(gate),
        async |cluster| {
            cluster.kill(1)?;
            cluster.restart(1).await?;
            let log = std::fs::read_to_string(cluster.log_path(1))?;
            let passed = log.matches("initial corruption checking passed").count();
            ensure!(passed == 2, "passed {passed} times:\n{log}");
            ensure!(!log.contains("failed hash kv request"), "{log}");
            Ok(())
        },
    )
    .await
}
