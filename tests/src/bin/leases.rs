//! Leases by the ten thousands: kept and abandoned while the leader is killed,
//! and ending all in the same second. Prints what was seen; fails if one ends
//! early, or an abandoned one late.
//!
//! `cargo run --release -p mizzen-tests --bin leases -- churn --leases 100000`

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::leases::{churn, storm};

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Leases kept and abandoned while the leader is killed.
    Churn,
    /// Leases that end in the same second, beside puts.
    Storm,
}

#[derive(Parser)]
struct Arguments {
    what: What,
    #[arg(long, default_value_t = 100_000)]
    leases: usize,
    /// Time to live of kept leases, in seconds.
    #[arg(long, default_value_t = 60)]
    ttl: u64,
    /// How long leases are kept, in seconds.
    #[arg(long, default_value_t = 150)]
    time: u64,
    #[arg(long, default_value_t = 2)]
    kills: u32,
    /// Puts a second beside the storm.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Time for the grants before a storm, in seconds.
    #[arg(long, default_value_t = 60)]
    lead: u64,
    /// Time of puts alone before a storm, in seconds.
    #[arg(long, default_value_t = 15)]
    control: u64,
    /// How much later than the election timeout allows a lease may end, in
    /// seconds.
    #[arg(long, default_value_t = 1)]
    slack: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take the reference server instead.
    #[arg(long)]
    reference: bool,
}

const ELECTION: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = if arguments.reference {
        cluster::reference()?
    } else {
        cluster::mizzen()?
    };
    let options = Options::new(binary)
        .flag("--heartbeat-interval=100")
        .flag(format!("--election-timeout={}", ELECTION.as_millis()));
    let seconds = Duration::from_secs;
    Cluster::run(options, async |cluster| {
        match arguments.what {
            What::Churn => {
                let plan = churn::Plan {
                    leases: arguments.leases,
                    ttl: seconds(arguments.ttl),
                    kills: arguments.kills,
                    time: seconds(arguments.time),
                    election: ELECTION,
                    slack: seconds(arguments.slack),
                    seed: arguments.seed,
                };
                println!("{plan:?}\n{:?}", churn::run(cluster, plan).await?);
            }
            What::Storm => {
                let plan = storm::Plan {
                    leases: arguments.leases,
                    lead: seconds(arguments.lead),
                    control: seconds(arguments.control),
                    rate: arguments.rate,
                };
                println!("{plan:?}\n{:?}", storm::run(cluster, plan).await?);
            }
        }
        Ok(())
    })
    .await
}
