//! The resource API takes history out of the store, so that a store with a
//! quota goes on taking writes. Two servers over one member.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{AlarmRequest, RangeRequest};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use serde_json::{Value, json};

/// The store's quota, bytes.
const QUOTA: usize = 64 << 20;
/// Of one object, bytes.
const BYTES: usize = 16 << 10;
/// Objects that are written over and over, all at a time.
const OBJECTS: usize = 16;
/// Writes of one object between two waits for a compaction. History is kept for
/// up to two intervals, and the store gives back what a thousand revisions took:
/// all that and the objects themselves fit the quota.
const WRITES: usize = 50;
/// Together they write ten times the quota.
const ROUNDS: usize = 10 * QUOTA / (OBJECTS * WRITES * BYTES) + 1;
const INTERVAL: &str = "--etcd-compaction-interval=200ms";
const POLL: Duration = Duration::from_millis(20);
/// A compaction is due every 200 ms.
const PATIENCE: Duration = Duration::from_secs(60);

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(number: usize, round: usize, write: usize) -> Value {
    let text = format!("{round}/{write} {}", "x".repeat(BYTES));
    json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": format!("turned-over-{number}"), "labels": {"test": "compaction"}},
        "data": {"text": text}})
}

async fn compacted(cluster: &Cluster, revision: i64) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        let request = RangeRequest {
            key: "/registry/health".into(),
            revision,
            ..RangeRequest::default()
        };
        let reply = KvClient::new(cluster.channel(0)?).range(request).await;
        match reply {
            Err(status) if status.message().contains("has been compacted") => return Ok(()),
            Err(status) => return Err(status.into()),
            Ok(_) => {}
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "revision {revision} is not compacted"
        );
        tokio::time::sleep(POLL).await;
    }
}

async fn revision(cluster: &Cluster) -> Result<i64> {
    let request = RangeRequest {
        key: "/registry/health".into(),
        ..RangeRequest::default()
    };
    let reply = KvClient::new(cluster.channel(0)?).range(request).await?;
    Ok(reply.into_inner().header.context("a header")?.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_a_small_quota_turns_over() -> Result<()> {
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .flag(format!("--quota-backend-bytes={QUOTA}"));
    Cluster::run(options, async |cluster| {
        let endpoints = cluster.endpoints();
        let servers = [
            ApiServer::start_with(&endpoints, &[INTERVAL])?,
            ApiServer::start_with(&endpoints, &[INTERVAL])?,
        ];
        let doors = [
            Https::connect(&servers[0]).await?,
            Https::connect(&servers[1]).await?,
        ];
        turned_over(cluster, &doors).await
    })
    .await
}

async fn turned_over(cluster: &Cluster, doors: &[Https; 2]) -> Result<()> {
    for number in 0..OBJECTS {
        doors[0]
            .json(Method::POST, MAPS, Some(&map(number, 0, 0)))
            .await?;
    }
    let path =
        format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dturned-over-0&resourceVersion=0");
    let watch = doors[1]
        .open(Method::GET, &path, &HeaderMap::new(), Bytes::new())
        .await?;
    ensure!(watch.status() == StatusCode::OK);
    let follower = tokio::spawn(events(watch.into_body(), 1 + ROUNDS * WRITES));
    let first = doors[0]
        .json(Method::GET, &format!("{MAPS}?limit=1"), None)
        .await?;
    let token = first["metadata"]["continue"].as_str().context("a token")?;
    for round in 1..=ROUNDS {
        let before = revision(cluster).await?;
        let objects = (0..OBJECTS).map(|number| written(&doors[number % 2], number, round));
        try_join_all(objects).await?;
        compacted(cluster, before).await?;
    }
    let alarms = MaintenanceClient::new(cluster.channel(0)?)
        .alarm(AlarmRequest::default())
        .await?;
    ensure!(alarms.into_inner().alarms.is_empty(), "an alarm was raised");
    goes_on(&doors[0], token).await?;
    // A watch that was open all the time missed nothing.
    let seen = follower.await??;
    ensure!(seen == 1 + ROUNDS * WRITES, "{seen} events");
    Ok(())
}

/// Writes one object over and over.
async fn written(door: &Https, number: usize, round: usize) -> Result<()> {
    let path = format!("{MAPS}/turned-over-{number}");
    for write in 0..WRITES {
        door.json(Method::PUT, &path, Some(&map(number, round, write)))
            .await
            .with_context(|| format!("round {round}, object {number}, write {write}"))?;
    }
    Ok(())
}

/// A list whose revision is gone is told so, and how to go on.
async fn goes_on(door: &Https, token: &str) -> Result<()> {
    let json = HeaderMap::from_iter([(
        http::header::ACCEPT,
        HeaderValue::from_static("application/json"),
    )]);
    let path = format!("{MAPS}?limit=1&continue={token}");
    let gone = door.send(Method::GET, &path, &json, Bytes::new()).await?;
    ensure!(gone.code == StatusCode::GONE, "{}", gone.code);
    let status = gone.json()?;
    ensure!(status["reason"] == "Expired", "{status}");
    let token = status["metadata"]["continue"].as_str().context("a token")?;
    let path = format!("{MAPS}?limit=1&continue={token}");
    let rest = door.json(Method::GET, &path, None).await?;
    let items = rest["items"].as_array().context("items")?;
    ensure!(items.len() == 1, "{} items", items.len());
    Ok(())
}

/// Reads so many events, each an object of its kind.
async fn events(mut body: hyper::body::Incoming, wanted: usize) -> Result<usize> {
    let (mut seen, mut line) = (0, Vec::new());
    while seen < wanted {
        let frame = body.frame().await.context("the watch ended")??;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        for byte in data {
            line.push(byte);
            if byte == b'\n' {
                let event: Value = serde_json::from_slice(&line)?;
                ensure!(event["object"]["kind"] == "ConfigMap", "{event}");
                seen += 1;
                line.clear();
            }
        }
    }
    Ok(seen)
}
