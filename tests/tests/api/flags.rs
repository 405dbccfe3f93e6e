//! What flags of etcd do that no other test looks at.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, WatchOptions};
use mizzen_tests::cluster::{self, Cluster, Options, free_ports};
use mizzen_tests::pages;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the log has a line with all of these.
async fn logged(path: &Path, parts: &[&str]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let log = std::fs::read_to_string(path)?;
        let has = |line: &str| parts.iter().all(|part| line.contains(part));
        if log.lines().any(has) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "no line with {parts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// With `--listen-client-http-urls` one address has gRPC alone, and the other HTTP
/// alone.
#[tokio::test]
async fn http_may_have_an_address_of_its_own() -> Result<()> {
    let port = free_ports(1)?[0];
    let http = format!("127.0.0.1:{port}");
    let flag = format!("--listen-client-http-urls=http://{http}");
    let options = Options::new(cluster::mizzen()?).members(1).flag(flag);
    Cluster::run(options, async |cluster| {
        let grpc = cluster.endpoint(0).to_owned();
        let mut client = Client::connect([&grpc], None).await?;
        client.put("k", "v", None).await?;
        for path in ["/health", "/version", "/metrics", "/debug/vars"] {
            let page = pages::get(&http, path).await?;
            ensure!(page.code == 200, "{path}: {page:?}");
            let page = pages::get(&grpc, path).await?;
            ensure!(page.code == 415, "{path} where gRPC alone is: {page:?}");
        }
        let mut client = Client::connect([&http], None).await?;
        let asked = tokio::time::timeout(PATIENCE, client.get("k", None)).await?;
        ensure!(asked.is_err(), "gRPC where HTTP alone is: {asked:?}");
        for traffic in ["\"traffic\":\"grpc\"", "\"traffic\":\"http\""] {
            logged(cluster.log_path(0), &["serving client traffic", traffic]).await?;
        }
        Ok(())
    })
    .await
}

/// What etcd publishes there that is no Go program's: who it is, and its Raft group.
#[tokio::test]
async fn debug_vars_tell_of_the_member() -> Result<()> {
    let metrics = format!("127.0.0.1:{}", free_ports(1)?[0]);
    let flag = format!("--listen-metrics-urls=http://{metrics}");
    let options = Options::new(cluster::mizzen()?).members(1).flag(flag);
    Cluster::run(options, async |cluster| {
        let address = cluster.endpoint(0);
        let page = pages::get(address, "/debug/vars").await?;
        let kind = page.headers.get("content-type").map(String::as_str);
        ensure!(
            page.code == 200 && kind == Some("application/json; charset=utf-8"),
            "{page:?}"
        );
        let vars: serde_json::Value = serde_json::from_str(&page.body)?;
        let raft = &vars["raft.status"];
        ensure!(
            raft["raftState"] == "StateLeader" && raft["id"] == raft["lead"],
            "{vars}"
        );
        ensure!(
            vars["file_descriptor_limit"].as_u64() > Some(0) && vars["cmdline"].is_array(),
            "{vars}"
        );
        let page = pages::request(address, "POST", "/debug/vars").await?;
        ensure!(page.code == 405, "{page:?}");
        // As in etcd, clients' ports alone have it.
        let page = pages::get(&metrics, "/debug/vars").await?;
        ensure!(page.code == 404, "{page:?}");
        Ok(())
    })
    .await
}

/// Where the first members are to meet, who comes too late is refused, and where
/// nothing is prepared everybody. As by etcd, in etcd's words; `etcd_suite` has clusters
/// that come together.
#[tokio::test]
async fn discovery_refuses_as_etcd_does() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let meeting = Options::new(cluster::reference()?).members(1);
    Cluster::run(meeting, async |etcd| {
        let mut client = Client::connect(etcd.endpoints(), None).await?;
        let key = |token: &str, rest: &str| format!("/_etcd/registry/{token}/{rest}");
        client.put(key("full", "_config/size"), "1", None).await?;
        client.put(key("bad", "_config/size"), "none", None).await?;
        client
            .put(key("full", "members/1"), "a=http://127.0.0.1:1", None)
            .await?;
        for token in ["none", "bad", "full"] {
            let reason = match token {
                "none" => "discovery: size key not found",
                "bad" => "discovery: size key is bad",
                _ => "discovery: cluster is full",
            };
            let ports = free_ports(2)?;
            for (index, program) in [cluster::mizzen()?, cluster::reference()?]
                .iter()
                .enumerate()
            {
                let dir = folder.path().join(format!("{token}-{index}"));
                let peer = format!("http://127.0.0.1:{}", ports[0]);
                let clients = format!("http://127.0.0.1:{}", ports[1]);
                let output = tokio::process::Command::new(program)
                    .arg(format!("--data-dir={}", dir.display()))
                    .arg(format!("--listen-peer-urls={peer}"))
                    .arg(format!("--initial-advertise-peer-urls={peer}"))
                    .arg(format!("--listen-client-urls={clients}"))
                    .arg(format!("--advertise-client-urls={clients}"))
                    .arg(format!("--discovery-token={token}"))
                    .arg(format!("--discovery-endpoints={}", etcd.endpoint(0)))
                    .kill_on_drop(true)
                    .output();
                let output = tokio::time::timeout(PATIENCE, output).await??;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(
                    !output.status.success() && said.contains(reason),
                    "{program:?} {token}: {said}"
                );
            }
        }
        Ok(())
    })
    .await
}

/// Names of flags up to 3.6 do what they did, and are warned of.
#[tokio::test]
async fn experimental_names_of_flags_go_on() -> Result<()> {
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .flag("--experimental-initial-corrupt-check")
        .flag("--experimental-watch-progress-notify-interval=200ms");
    Cluster::run(options, async |cluster| {
        let log = cluster.log_path(0);
        logged(log, &["initial corruption checking passed"]).await?;
        logged(
            log,
            &[
                "experimental-initial-corrupt-check",
                "--feature-gates=InitialCorruptCheck=true",
            ],
        )
        .await?;
        logged(
            log,
            &["experimental-watch-progress-notify-interval", "\"warn\""],
        )
        .await?;
        let mut client = Client::connect(cluster.endpoints(), None).await?;
        let options = WatchOptions::new().with_progress_notify();
        let mut watch = client.watch("idle", Some(options)).await?;
        let told = async {
            loop {
                let message = watch.message().await?.context("a message")?;
                if !message.created() && message.events().is_empty() {
                    return Ok::<_, anyhow::Error>(());
                }
            }
        };
        // By default it comes every ten minutes.
        tokio::time::timeout(PATIENCE, told).await?
    })
    .await
}

#[tokio::test]
async fn slow_requests_are_logged_without_their_keys() -> Result<()> {
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .flag("--warning-unary-request-duration=1us");
    Cluster::run(options, async |cluster| {
        let mut client = Client::connect(cluster.endpoints(), None).await?;
        client.put("secret-key", "v", None).await?;
        let path = "/etcdserverpb.KV/Put";
        logged(cluster.log_path(0), &["request stats", "time spent", path]).await?;
        let log = std::fs::read_to_string(cluster.log_path(0))?;
        ensure!(!log.contains("secret-key"), "a key is in the log");
        Ok(())
    })
    .await
}

/// A connection without traffic is asked whether anybody is there.
#[tokio::test]
async fn idle_connections_are_pinged() -> Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .flag("--grpc-keepalive-interval=1s")
        .flag("--grpc-keepalive-timeout=1s");
    Cluster::run(options, async |cluster| {
        let mut stream = tokio::net::TcpStream::connect(cluster.endpoint(0)).await?;
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await?;
        stream.write_all(&settings).await?;
        // Acknowledges the settings, and answers no ping: it is closed then.
        stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await??;
        let ping = bytes
            .windows(9)
            .any(|head| head == [0, 0, 8, 6, 0, 0, 0, 0, 0]);
        ensure!(ping, "closed without a ping: {bytes:?}");
        Ok(())
    })
    .await
}
