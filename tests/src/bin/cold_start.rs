//! How long a member with much data takes from its start to the first
//! linearizable read, with a cold page cache: after a clean stop, and after a
//! SIGKILL under writes. Needs root, to empty the page cache.
//!
//! `TMPDIR=/on/disk cargo run --release -p mizzen-tests --bin cold_start -- --gigabytes 8`

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use mizzen_proto::etcdserverpb::{RangeRequest, kv_client::KvClient};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::snapshot::write;

#[derive(Parser)]
struct Arguments {
    /// Values to write in all, in units of 10^9 bytes.
    #[arg(long, default_value_t = 8.0)]
    gigabytes: f64,
    /// Bytes of each value, which is incompressible.
    #[arg(long, default_value_t = 4_096)]
    value: usize,
    /// Restarts of each kind.
    #[arg(long, default_value_t = 3)]
    times: u64,
    /// Megabytes written before each kill: what has not been flushed then is
    /// replayed. A little less than what the store flushes after is the worst.
    #[arg(long, default_value_t = 110)]
    unflushed: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = Options::new(cluster::mizzen()?)
        .members(1)
        .flag("--quota-backend-bytes=100000000000");
    Cluster::run(options, async |cluster| measure(cluster, &arguments).await).await
}

async fn measure(cluster: &mut Cluster, arguments: &Arguments) -> Result<()> {
    let puts = (arguments.gigabytes * 1e9 / arguments.value as f64) as u64;
    let began = Instant::now();
    write(cluster.channel(0)?, arguments.value, puts, move |number| {
        number < puts
    })
    .await?;
    let status = cluster.status(0).await?;
    println!(
        "{puts} puts of {} bytes in {:.0} s; {:.2} GB on disk",
        arguments.value,
        began.elapsed().as_secs_f64(),
        status.db_size as f64 / 1e9
    );
    for _ in 0..arguments.times {
        let began = Instant::now();
        ensure!(
            cluster.terminate(0).await?.success(),
            "it did not stop cleanly"
        );
        let stopping = began.elapsed();
        let first = cold_start(cluster).await?;
        println!("clean stop (took {stopping:.2?}): first read after {first:.2?}");
    }
    for _ in 0..arguments.times {
        let more = arguments.unflushed * 1_000_000 / arguments.value as u64;
        // Still writing when it is killed.
        let done = Arc::new(AtomicU64::new(0));
        let killed = Arc::new(AtomicBool::new(false));
        let (counted, over) = (done.clone(), killed.clone());
        let channel = cluster.channel(0)?;
        let load = tokio::spawn(write(channel, arguments.value, puts, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            !over.load(Ordering::Relaxed)
        }));
        while done.load(Ordering::Relaxed) < more {
            ensure!(!load.is_finished(), "the writes have ended");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.kill(0)?;
        killed.store(true, Ordering::Relaxed);
        // Its writers have lost their connection.
        let _ = load.await;
        let first = cold_start(cluster).await?;
        println!("SIGKILL: first read after {first:.2?}");
    }
    Ok(())
}

/// Starts the stopped member without anything of it in the page cache.
async fn cold_start(cluster: &mut Cluster) -> Result<Duration> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("emptying the page cache")?;
    let began = Instant::now();
    cluster.spawn(0)?;
    loop {
        let request = RangeRequest {
            key: Bytes::from_static(b"key-00000007"),
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(cluster.channel(0)?);
        if let Ok(reply) = client.range(request).await {
            ensure!(reply.into_inner().count == 1, "the key is lost");
            return Ok(began.elapsed());
        }
        ensure!(
            began.elapsed() < Duration::from_secs(120),
            "it never answers"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
