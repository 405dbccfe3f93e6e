//! How long a cluster acknowledges no put when its leader goes: stopped by
//! SIGTERM, and killed. Prints a row for each server and way.
//!
//! `cargo run --release -p mizzen-tests --bin failover -- --times 50`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::load::{Load, spread};

#[derive(Parser)]
struct Arguments {
    /// How often the leader goes, for each way.
    #[arg(long, default_value_t = 50)]
    times: usize,
    /// Puts a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Leave the reference server out.
    #[arg(long)]
    alone: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("server way times gap-p50-ms gap-max-ms puts failed kinds");
    let mut servers: Vec<(&str, PathBuf)> = vec![("mizzen", cluster::mizzen()?)];
    if !arguments.alone {
        servers.push(("etcd", cluster::reference()?));
    }
    for kill in [false, true] {
        for (name, binary) in &servers {
            series(name, binary, kill, &arguments).await?;
        }
    }
    Ok(())
}

async fn series(name: &str, binary: &Path, kill: bool, arguments: &Arguments) -> Result<()> {
    let options = Options::new(binary)
        .flag("--heartbeat-interval=100")
        .flag("--election-timeout=1000");
    Cluster::run(options, async |cluster| {
        let members = (0..cluster.len())
            .map(|index| cluster.channel(index))
            .collect::<Result<Vec<_>>>()?;
        let load = Load::start(members.clone(), arguments.rate);
        let mut gaps = Vec::new();
        for _ in 0..arguments.times {
            // Everyone is up and in touch for a while.
            load.flows(arguments.rate as usize).await?;
            let leader = cluster.leader().await?;
            let gone = Instant::now();
            if kill {
                cluster.kill(leader)?;
            } else {
                cluster.terminate(leader).await?;
            }
            cluster.leader().await?;
            load.flows(arguments.rate as usize / 5).await?;
            gaps.push(load.longest_gap(gone));
            cluster.restart(leader).await?;
        }
        let outcome = load.stop().await?;
        outcome
            .ensure_kept(members[cluster.leader().await?].clone())
            .await?;
        let (median, largest) = spread(&gaps)?;
        let millis = |time: Duration| time.as_millis();
        println!(
            "{name} {} {} {} {} {} {} {:?}",
            if kill { "kill" } else { "term" },
            gaps.len(),
            millis(median),
            millis(largest),
            outcome.sent,
            outcome.failures(),
            outcome.failed,
        );
        Ok(())
    })
    .await
}
