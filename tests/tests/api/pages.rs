//! Pages of a member beside those of etcd: the same codes, headers and texts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mizzen_proto::etcdserverpb::alarm_request::AlarmAction;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{AlarmRequest, AlarmType};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::pages::{self, Page};

const PATHS: [&str; 21] = [
    "/",
    "/foo",
    "/version",
    "/health",
    "/health?serializable=true",
    "/health?exclude=NOSPACE",
    "/health?exclude=NOSPACE&exclude=CORRUPT",
    "/livez",
    "/livez?verbose",
    "/livez?verbose=",
    "/livez/serializable_read",
    "/livez/linearizable_read",
    "/readyz",
    "/readyz?verbose",
    "/readyz?verbose&exclude=linearizable_read",
    "/readyz?exclude=data_corruption&exclude=foo",
    "/readyz/data_corruption?verbose",
    "/readyz/linearizable_read",
    "/readyz/non_learner?verbose",
    "/readyz/",
    "/debug/pprof/",
];

/// A page with what was asked.
type Found = (String, Page);

async fn all(address: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in PATHS {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let page = pages::request(address, method, path).await?;
            found.push((format!("{method} {path}"), page.sorted()));
        }
    }
    Ok(found)
}

async fn alarm(cluster: &Cluster, kind: AlarmType, action: AlarmAction) -> Result<()> {
    let mut client = MaintenanceClient::new(cluster.channel(0)?);
    let member = cluster
        .status(0)
        .await?
        .header
        .context("a header")?
        .member_id;
    let request = AlarmRequest {
        action: action.into(),
        member_id: member,
        alarm: kind.into(),
    };
    client.alarm(request).await?;
    Ok(())
}

/// Returns once members have agreed on the cluster's version, shortly after the
/// start.
async fn version_decided(address: &str) -> Result<()> {
    let decided = async {
        while pages::get(address, "/version")
            .await?
            .body
            .contains("not_decided")
        {}
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), decided)
        .await
        .context("no cluster version")?
}

/// All pages of both ports: of a healthy member, and with each alarm.
async fn member(binary: &Path) -> Result<Vec<Found>> {
    let metrics = format!("127.0.0.1:{}", cluster::free_ports(1)?[0]);
    let options = Options::new(binary)
        .members(1)
        .flag(format!("--listen-metrics-urls=http://{metrics}"));
    let mut found = Vec::new();
    Cluster::run(options, async |cluster| {
        let ports = [cluster.endpoint(0).to_owned(), metrics];
        version_decided(&ports[0]).await?;
        for kind in [None, Some(AlarmType::Nospace), Some(AlarmType::Corrupt)] {
            if let Some(kind) = kind {
                alarm(cluster, kind, AlarmAction::Activate).await?;
            }
            for (port, address) in ["clients", "metrics"].iter().zip(&ports) {
                let name = |asked| format!("{kind:?}, port for {port}: {asked}");
                let pages = all(address).await?.into_iter();
                found.extend(pages.map(|(asked, page)| (name(asked), page)));
            }
            if let Some(kind) = kind {
                alarm(cluster, kind, AlarmAction::Deactivate).await?;
            }
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

#[tokio::test]
async fn pages_are_those_of_etcd() -> Result<()> {
    let ours = member(&cluster::mizzen()?).await?;
    let version = |found: &Found| found.0 == "None, port for clients: GET /version";
    let page = ours.iter().find(|found| version(found)).context("asked")?;
    let expected = r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    ensure!(page.1.body == expected, "{page:?}");
    let theirs = member(&cluster::reference()?).await?;
    ensure!(ours.len() == theirs.len() && ours.len() == 3 * 2 * 4 * PATHS.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        ensure!(ours == theirs, "here: {ours:#?}\netcd: {theirs:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_member_without_a_quorum_is_alive_and_not_ready() -> Result<()> {
    let ports = cluster::free_ports(3)?;
    let metrics: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let mut options = Options::new(cluster::mizzen()?);
    for (index, address) in metrics.iter().enumerate() {
        let flag = format!("--listen-metrics-urls=http://{address}");
        options = options.member_flag(index, flag);
    }
    Cluster::run(options, async |cluster| {
        for address in &metrics {
            ensure!(pages::get(address, "/readyz").await?.code == 200);
        }
        cluster.kill(1)?;
        cluster.kill(2)?;
        let page = async |path| pages::get(&metrics[0], path).await;
        let ready = page("/readyz").await?;
        ensure!(
            ready.code == 503
                && ready
                    .body
                    .contains("[-]linearizable_read failed: etcdserver: "),
            "{ready:?}"
        );
        ensure!(page("/livez").await?.code == 200);
        ensure!(page("/health?serializable=true").await?.code == 200);
        let health = page("/health").await?;
        ensure!(
            health.code == 503 && health.body.starts_with(r#"{"health":"false","reason":""#),
            "{health:?}"
        );
        cluster.restart(1).await?;
        ensure!(page("/readyz").await?.code == 200);
        Ok(())
    })
    .await
}
