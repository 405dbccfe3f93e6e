//! Members brought up to date by snapshots: after a purge of the log, and while
//! either side of the transfer dies.
//!
//! `MIZZEN_SNAPSHOT_WRITES` scales the writes that a member misses (500,000 for
//! the full measure), `MIZZEN_SNAPSHOT_KILLS` the transfers that are broken off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::setting;
use mizzen_tests::snapshot::{
    INSTALLED, KEYS, break_off, count, leave_behind, no_leftovers, percentile, same_hash, write,
};

fn options() -> Result<Options> {
    Ok(Options::new(cluster::mizzen()?)
        .flag("--snapshot-count=1000")
        .flag("--snapshot-catchup-entries=500"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_missed_a_purge_catches_up_while_writes_go_on() -> Result<()> {
    let writes = setting("MIZZEN_SNAPSHOT_WRITES", 10_000);
    Cluster::run(options()?, async |cluster| {
        let leader = cluster.leader().await?;
        let behind = (leader + 1) % cluster.len();
        let channel = cluster.channel(leader)?;
        let mut idle = write(channel.clone(), 100, KEYS, |number| number < 3_000).await?;
        let mut missed = leave_behind(cluster, leader, behind, writes, 100).await?;

        let caught_up = Arc::new(AtomicU64::new(0));
        let seen = caught_up.clone();
        let load = tokio::spawn(write(channel, 100, KEYS, move |_| {
            seen.load(Ordering::Relaxed) == 0
        }));
        let began = Instant::now();
        cluster.restart(behind).await?;
        let took = began.elapsed();
        caught_up.store(1, Ordering::Relaxed);
        let mut during = load.await??;
        ensure!(
            count(cluster, behind, INSTALLED)? > 0,
            "the log reached back far enough: nothing was tested"
        );
        same_hash(cluster).await?;
        no_leftovers(cluster).await?;
        println!(
            "{writes} writes missed, ready after {took:?}; put p99: three members {:?}, two {:?}, catching up {:?}",
            percentile(&mut idle, 99),
            percentile(&mut missed, 99),
            percentile(&mut during, 99),
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_off_begins_anew_and_leaves_nothing() -> Result<()> {
    let kills = setting("MIZZEN_SNAPSHOT_KILLS", 4);
    Cluster::run(options()?, async |cluster| break_off(cluster, kills).await).await
}
