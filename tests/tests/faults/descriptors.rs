//! Members that may not have many files open, and clients that take all of them.

use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{PutRequest, kv_client::KvClient};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::raw::Connection;

/// Connections that do nothing: more than the limit of open files.
const IDLE: usize = 1_100;
/// Bytes of values written: more than the rows keep in memory, so that they are
/// flushed, and several segments of the log.
const WRITTEN: usize = 160 << 20;
const VALUE: usize = 256 << 10;
const WRITERS: usize = 8;

fn put(number: usize) -> PutRequest {
    PutRequest {
        key: Bytes::from(format!("key-{number}")),
        value: vec![b'v'; VALUE].into(),
        ..PutRequest::default()
    }
}

/// Writes all values, some at a time, over one connection that is there before.
async fn write(client: KvClient<tonic::transport::Channel>) -> Result<()> {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            for number in (writer..WRITTEN / VALUE).step_by(WRITERS) {
                client
                    .put(put(number))
                    .await
                    .with_context(|| format!("put {number}"))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}

/// Opens connections that stay; gives those that the member keeps.
fn crowd(endpoint: &str) -> Result<Vec<Connection>> {
    let mut kept = Vec::new();
    for _ in 0..IDLE {
        // Refused, it breaks while it says its hello, or a moment later.
        if let Ok(connection) = Connection::open(endpoint) {
            kept.push(connection);
        }
    }
    let begun = Instant::now();
    kept.retain(|connection| {
        let Ok(mut socket) = connection.socket() else {
            return false;
        };
        // Who is served is greeted at once.
        let patience = Duration::from_secs(5).saturating_sub(begun.elapsed());
        socket
            .set_read_timeout(Some(patience.max(Duration::from_millis(1))))
            .is_ok()
            && socket.read(&mut [0]).is_ok_and(|count| count > 0)
    });
    Ok(kept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_idle_clients_stops_no_member_from_writing() -> Result<()> {
    // The hard limit too: a soft one is raised.
    let own = mizzen_descriptors::raise()?;
    ensure!(own > 2 * IDLE as u64, "this test may open {own} files only");
    let options = Options::new(cluster::mizzen()?).run_by(&["prlimit", "--nofile=1024:1024"]);
    Cluster::run(options, async |cluster| {
        let leader = cluster.leader().await?;
        let mut client = KvClient::new(cluster.channel(leader)?);
        client.put(put(0)).await?;
        let endpoint = cluster.endpoint(leader).to_owned();
        let crowd = tokio::task::block_in_place(|| crowd(&endpoint))?;
        println!("{} of {IDLE} idle connections are kept", crowd.len());
        ensure!(crowd.len() > 100, "only {} are kept", crowd.len());
        ensure!(crowd.len() < 1_000, "{} are kept", crowd.len());
        write(client).await?;
        for index in 0..cluster.len() {
            ensure!(!cluster.has_ended(index)?, "member {index} has ended");
            if index != leader {
                cluster.wait_ready(index).await?;
            }
        }
        let log = std::fs::read_to_string(cluster.log_path(leader))?;
        ensure!(log.contains("refused a connection"), "no line about it");
        ensure!(
            log.matches("refused a connection").count() < 20,
            "a line for each"
        );
        drop(crowd);
        // Places are free again.
        cluster.wait_ready(leader).await
    })
    .await
}

#[tokio::test]
async fn too_few_descriptors_are_refused_with_the_numbers() -> Result<()> {
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .run_by(&["prlimit", "--nofile=64:64"]);
    Cluster::prepare(options)
        .await?
        .attend(async |cluster| {
            cluster.spawn(0)?;
            ensure!(!cluster.wait_end(0).await?.success());
            let log = std::fs::read_to_string(cluster.log_path(0))?;
            ensure!(log.contains("the limit of open files is 64"), "{log}");
            ensure!(log.lines().count() == 1, "more than one line: {log}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_soft_limit_is_raised() -> Result<()> {
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .run_by(&["prlimit", "--nofile=64:4096"]);
    Cluster::run(options, async |cluster| {
        let log = std::fs::read_to_string(cluster.log_path(0))?;
        ensure!(log.contains("\"descriptors\":4096"), "{log}");
        Ok(())
    })
    .await
}
