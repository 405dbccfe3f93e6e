//! `/metrics` of three members: every series that etcd's alerts and dashboard are
//! made of is there with etcd's type, and moves when there is something to count.
//! Source: etcd's mixin (`contrib/mixin`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, ConnectOptions};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::pages;

/// When a series has to have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moves {
    /// Under load.
    Load,
    /// When a member is lost.
    Loss,
    /// It says how things are: it must not be empty.
    Not,
}

/// What the rules and the dashboard ask for: name as it is queried, type of its
/// family.
const WANTED: [(&str, &str, Moves); 32] = [
    ("etcd_server_has_leader", "gauge", Moves::Not),
    ("etcd_server_is_leader", "gauge", Moves::Not),
    ("etcd_server_is_learner", "gauge", Moves::Not),
    ("etcd_server_id", "gauge", Moves::Not),
    ("etcd_server_version", "gauge", Moves::Not),
    ("etcd_cluster_version", "gauge", Moves::Not),
    (
        "etcd_server_leader_changes_seen_total",
        "counter",
        Moves::Loss,
    ),
    ("etcd_server_proposals_pending", "gauge", Moves::Not),
    ("etcd_server_proposals_failed_total", "counter", Moves::Not),
    (
        "etcd_server_proposals_committed_total",
        "gauge",
        Moves::Load,
    ),
    ("etcd_server_proposals_applied_total", "gauge", Moves::Load),
    ("etcd_server_slow_apply_total", "counter", Moves::Not),
    ("etcd_server_quota_backend_bytes", "gauge", Moves::Not),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge", Moves::Load),
    (
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "gauge",
        Moves::Load,
    ),
    ("etcd_mvcc_put_total", "counter", Moves::Load),
    ("etcd_debugging_mvcc_keys_total", "gauge", Moves::Load),
    (
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "histogram",
        Moves::Load,
    ),
    (
        "etcd_disk_wal_fsync_duration_seconds_count",
        "histogram",
        Moves::Load,
    ),
    (
        "etcd_disk_backend_commit_duration_seconds_bucket",
        "histogram",
        Moves::Load,
    ),
    (
        "etcd_disk_backend_commit_duration_seconds_sum",
        "histogram",
        Moves::Load,
    ),
    (
        "etcd_network_peer_round_trip_time_seconds_bucket",
        "histogram",
        Moves::Load,
    ),
    ("etcd_network_peer_sent_bytes_total", "counter", Moves::Load),
    (
        "etcd_network_peer_received_bytes_total",
        "counter",
        Moves::Load,
    ),
    (
        "etcd_network_peer_sent_failures_total",
        "counter",
        Moves::Loss,
    ),
    (
        "etcd_network_client_grpc_received_bytes_total",
        "counter",
        Moves::Load,
    ),
    (
        "etcd_network_client_grpc_sent_bytes_total",
        "counter",
        Moves::Load,
    ),
    ("grpc_server_started_total", "counter", Moves::Load),
    ("grpc_server_handled_total", "counter", Moves::Load),
    (
        "grpc_server_handling_seconds_bucket",
        "histogram",
        Moves::Load,
    ),
    ("process_cpu_seconds_total", "counter", Moves::Load),
    ("process_resident_memory_bytes", "gauge", Moves::Not),
];

/// One scrape of one member: values by series, types by family.
#[derive(Debug, Default)]
struct Scrape {
    series: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Scrape {
    fn parse(text: &str) -> Result<Self> {
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a type")?;
                let twice = scrape.types.insert(name.to_owned(), kind.to_owned());
                ensure!(twice.is_none(), "{name} is there twice");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').context("a value")?;
                let twice = scrape.series.insert(series.to_owned(), value.parse()?);
                ensure!(twice.is_none(), "{series} is there twice");
            }
        }
        Ok(scrape)
    }

    async fn of(address: &str) -> Result<Self> {
        let page = pages::get(address, "/metrics").await?;
        ensure!(page.code == 200, "{page:?}");
        let kind = page.headers.get("content-type").context("a type")?;
        ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Self::parse(&page.body)
    }

    /// All series of a name together; `None` if there is none.
    fn sum(&self, name: &str) -> Option<f64> {
        let found: Vec<f64> = self
            .series
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .map(|(_, value)| *value)
            .collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }

    /// One series, with labels as they are written.
    fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or(f64::NAN)
    }

    fn is_of(&self, name: &str, kind: &str) -> bool {
        let parts = ["_bucket", "_sum", "_count"];
        let family = match kind {
            "histogram" => parts.iter().find_map(|part| name.strip_suffix(part)),
            _ => Some(name),
        };
        family.is_some_and(|family| self.types.get(family).is_some_and(|is| is == kind))
    }
}

async fn scrape(addresses: &[String]) -> Result<Vec<Scrape>> {
    let mut scrapes = Vec::new();
    for address in addresses {
        scrapes.push(Scrape::of(address).await?);
    }
    Ok(scrapes)
}

const PUTS: usize = 200;

/// Some of every kind of call.
async fn load(cluster: &Cluster) -> Result<()> {
    let options = ConnectOptions::new();
    for endpoint in cluster.endpoints() {
        let mut client = Client::connect([endpoint], Some(options.clone())).await?;
        let mut watch = client.watch("metrics", None).await?;
        for value in 0..PUTS {
            client.put("metrics", value.to_string(), None).await?;
            client.get("metrics", None).await?;
        }
        // The first may only say that the watch began.
        while watch
            .message()
            .await?
            .context("events")?
            .events()
            .is_empty()
        {}
        let lease = client.lease_grant(60, None).await?;
        let (mut keeper, mut kept) = client.lease_keep_alive(lease.id()).await?;
        keeper.keep_alive().await?;
        ensure!(kept.message().await?.is_some());
        // A refusal.
        ensure!(client.lease_revoke(1).await.is_err());
    }
    Ok(())
}

/// Of the sums of all members: a series may stand still on one of them.
fn moved(name: &str, before: &[Scrape], after: &[Scrape]) -> bool {
    let sum = |scrapes: &[Scrape]| -> f64 { scrapes.iter().filter_map(|one| one.sum(name)).sum() };
    sum(after) > sum(before)
}

/// What is there after load; etcd measures round trips every half minute.
async fn moved_all(metrics: &[String], before: &[Scrape]) -> Result<Vec<Scrape>> {
    let started = Instant::now();
    loop {
        let after = scrape(metrics).await?;
        let Err(missing) = all_moved(before, &after) else {
            return Ok(after);
        };
        ensure!(started.elapsed() < Duration::from_secs(60), "{missing}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether every series is there, is what it should be, and moves under load.
fn all_moved(before: &[Scrape], after: &[Scrape]) -> Result<()> {
    for (name, kind, moves) in WANTED {
        let there = after.iter().all(|scrape| scrape.sum(name).is_some());
        ensure!(there || moves == Moves::Loss, "{name} is not there");
        ensure!(
            !there || after.iter().all(|scrape| scrape.is_of(name, kind)),
            "{name} is no {kind}"
        );
        let still = moves == Moves::Load && !moved(name, before, after);
        ensure!(!still, "{name} does not move under load");
    }
    Ok(())
}

fn exact(before: &Scrape, after: &Scrape) -> Result<()> {
    let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    let ok = format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}}");
    let started = format!("grpc_server_started_total{{{labels}}}");
    for series in [ok, started] {
        let counted = after.value(&series) - before.value(&series);
        ensure!(counted == PUTS as f64, "{series}: {counted}");
    }
    let refused = r#"grpc_server_handled_total{grpc_code="NotFound",grpc_method="LeaseRevoke",grpc_service="etcdserverpb.Lease",grpc_type="unary"}"#;
    let counted = after.value(refused) - before.value(refused);
    ensure!(counted == 1.0, "{refused}: {counted}");
    let watch =
        r#"{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}"#;
    let told = format!("grpc_server_msg_sent_total{watch}");
    ensure!(after.value(&told) > before.value(&told), "{told}");
    Ok(())
}

async fn series_exist_and_move(binary: &Path) -> Result<()> {
    let ports = cluster::free_ports(3)?;
    let metrics: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let mut options = Options::new(binary).flag("--metrics=extensive");
    for (index, address) in metrics.iter().enumerate() {
        let flag = format!("--listen-metrics-urls=http://{address}");
        options = options.member_flag(index, flag);
    }
    Cluster::run(options, async |cluster| {
        let before = scrape(&metrics).await?;
        load(cluster).await?;
        let after = moved_all(&metrics, &before).await?;
        for (before, after) in before.iter().zip(&after) {
            exact(before, after)?;
        }
        for scrape in &after {
            let one = |name, value| scrape.sum(name) == Some(value);
            ensure!(one("etcd_server_has_leader", 1.0) && one("etcd_server_id", 1.0));
            ensure!(one("etcd_cluster_version", 1.0));
        }
        let leader = cluster.leader().await?;
        cluster.kill(leader)?;
        let (mut rest, mut after) = (metrics.clone(), after);
        rest.remove(leader);
        after.remove(leader);
        let started = Instant::now();
        loop {
            let lost = scrape(&rest).await?;
            let mut awaited = WANTED.iter().filter(|wanted| wanted.2 == Moves::Loss);
            if awaited.all(|(name, ..)| moved(name, &after, &lost)) {
                break;
            }
            ensure!(
                started.elapsed() < Duration::from_secs(30),
                "nothing tells of the loss"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_series_of_the_mixin_exists_and_moves() -> Result<()> {
    series_exist_and_move(&cluster::mizzen()?).await
}

#[tokio::test]
async fn and_etcd_has_them_with_the_same_types() -> Result<()> {
    series_exist_and_move(&cluster::reference()?).await
}

#[tokio::test]
async fn no_name_of_etcds_has_another_type_here() -> Result<()> {
    let families = async |binary: &Path| -> Result<BTreeMap<String, String>> {
        let options = Options::new(binary).members(1).flag("--metrics=extensive");
        let mut types = BTreeMap::new();
        Cluster::run(options, async |cluster| {
            types = Scrape::of(cluster.endpoint(0)).await?.types;
            Ok(())
        })
        .await?;
        Ok(types)
    };
    let ours = families(&cluster::mizzen()?).await?;
    let theirs = families(&cluster::reference()?).await?;
    for (name, kind) in &ours {
        let is = theirs.get(name);
        ensure!(
            is.is_none_or(|is| is == kind),
            "{name}: {kind}, in etcd {is:?}"
        );
        let own = name.starts_with("mizzen_") || name == "process_threads";
        ensure!(is.is_some() || own, "etcd has no {name}");
    }
    Ok(())
}

#[tokio::test]
async fn certificates_tell_when_they_expire() -> Result<()> {
    let metrics = format!("127.0.0.1:{}", cluster::free_ports(1)?[0]);
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .tls()
        .flag(format!("--listen-metrics-urls=http://{metrics}"));
    Cluster::run(options, async |_| {
        let scrape = Scrape::of(&metrics).await?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        for kind in ["client", "peer"] {
            let series =
                format!("mizzen_certificate_expiration_timestamp_seconds{{type=\"{kind}\"}}");
            ensure!(scrape.value(&series) > now.as_secs_f64(), "{series}");
        }
        Ok(())
    })
    .await
}
