//! Leases end neither early nor late while the leader is killed, and all of
//! those that end in the same second do. In small; for figures:
//! `cargo run --release -p mizzen-tests --bin leases -- --help`.

use std::time::Duration;

use anyhow::{Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::leases::{churn, storm};

const ELECTION: Duration = Duration::from_secs(1);

fn options() -> Result<Options> {
    Ok(Options::new(cluster::mizzen()?)
        .flag("--heartbeat-interval=100")
        .flag(format!("--election-timeout={}", ELECTION.as_millis())))
}

#[tokio::test]
async fn leases_end_in_time_while_leaders_are_killed() -> Result<()> {
    let plan = churn::Plan {
        leases: 2_000,
        ttl: Duration::from_secs(6),
        kills: 2,
        time: Duration::from_secs(15),
        election: ELECTION,
        // A busy machine is no reason to fail.
        slack: Duration::from_secs(20),
        seed: 1,
    };
    Cluster::run(options()?, async |cluster| {
        println!("{:?}", churn::run(cluster, plan).await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn leases_of_the_same_second_all_end_and_puts_go_on() -> Result<()> {
    let plan = storm::Plan {
        leases: 2_000,
        lead: Duration::from_secs(10),
        control: Duration::from_secs(3),
        rate: 100,
    };
    Cluster::run(options()?, async |cluster| {
        let report = storm::run(cluster, plan).await?;
        println!("{report:?}");
        ensure!(report.early == 0, "{} leases ended early", report.early);
        ensure!(report.failed == 0, "{} puts failed", report.failed);
        Ok(())
    })
    .await
}
