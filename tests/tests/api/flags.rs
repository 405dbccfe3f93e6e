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
