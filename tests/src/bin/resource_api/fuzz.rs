//! Sends malformed requests to a resource API of its own, over a three-replica
//! store, and checks that each is refused and that none changes anything.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::malformed::{self, Settings};

/// Sends malformed requests to the resource API.
#[derive(Args)]
pub struct Arguments {
    /// [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Number of the first request.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Requests that are malformed for sure.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// End after so many that were not refused.
    #[arg(long, default_value_t = 1)]
    findings: usize,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let settings = Settings {
        seed: arguments.seed.unwrap_or(clock),
        first: arguments.first,
        requests: arguments.requests,
        findings: arguments.findings,
    };
    println!("seed {}", settings.seed);
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let server = ApiServer::start(&cluster.endpoints())?;
        let report = malformed::run(&server, &cluster.channel(0)?, &settings).await?;
        for ((what, code), count) in &report {
            println!("{count:>8}  {code}  {what}");
        }
        println!("{:>8}  requests", report.values().sum::<u64>());
        Ok(())
    })
    .await
}
