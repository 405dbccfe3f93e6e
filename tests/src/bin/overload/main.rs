//! What members of little memory do when ten times as many callers come as
//! before: puts, gets, ranges of 10 MB, watches, and keepalives together.
//!
//! First the callers of one share for a while, then those of many, then of one
//! again, until they are served as in the beginning. Prints, for each phase and
//! kind of call, how many were served and how fast, and how the others were
//! refused. Fails if a member ends.
//!
//! `cargo run --release -p mizzen-tests --bin overload -- --seconds 300`

mod callers;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::process;
use tonic::transport::Channel;

use callers::{Callers, Kind, Seen};

#[derive(Parser)]
struct Arguments {
    /// How long the overload lasts; a tenth of it, the calm before.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Memory of each member, MiB, swap included.
    #[arg(long, default_value_t = 1_024)]
    memory: u64,
    /// How many times as many callers come.
    #[arg(long, default_value_t = 10)]
    factor: usize,
    /// The reference server instead.
    #[arg(long)]
    reference: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = match arguments.reference {
        true => cluster::reference()?,
        false => cluster::mizzen()?,
    };
    let limited = process::limited(arguments.memory << 20)?;
    let words: Vec<&str> = limited.iter().map(String::as_str).collect();
    let options = Options::new(binary).run_by(&words);
    Cluster::run(options, async |cluster| measure(cluster, &arguments).await).await
}

async fn measure(cluster: &mut Cluster, arguments: &Arguments) -> Result<()> {
    let members = (0..cluster.len())
        .map(|index| cluster.channel(index))
        .collect::<Result<Vec<Channel>>>()?;
    callers::fill(&members[0]).await?;
    let overload = Duration::from_secs(arguments.seconds);
    println!("phase     kind      served    p50 ms    p99 ms  refused");
    let calm = phase(cluster, &members, 1, overload / 10).await?;
    print("calm", &calm);
    let crowd = phase(cluster, &members, arguments.factor, overload).await?;
    print("overload", &crowd);
    let begun = Instant::now();
    let back = loop {
        let after = phase(cluster, &members, 1, Duration::from_secs(1)).await?;
        let normal = [Kind::Put, Kind::Get]
            .into_iter()
            .all(|kind| after.percentile(kind, 99) <= 2 * calm.percentile(kind, 99));
        if normal {
            break begun.elapsed();
        }
        ensure!(begun.elapsed() < overload, "not back to normal");
    };
    println!("as before after {:.1} s", back.as_secs_f64());
    for kind in Kind::ALL {
        let ratio = crowd.percentile(kind, 99).as_secs_f64()
            / calm.percentile(kind, 99).as_secs_f64().max(1e-9);
        println!("{kind:?}: p99 {ratio:.2}x");
    }
    for index in 0..cluster.len() {
        let pid = cluster.pid(index).context("a member has ended")?;
        println!("member {index}: {} MiB at most", process::peak(pid)? >> 20);
    }
    Ok(())
}

/// So many shares of callers for so long; no member may end.
async fn phase(
    cluster: &mut Cluster,
    members: &[Channel],
    shares: usize,
    length: Duration,
) -> Result<Seen> {
    let callers = Callers::start(members, shares);
    let until = Instant::now() + length;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(250).min(length)).await;
        for index in 0..cluster.len() {
            ensure!(!cluster.has_ended(index)?, "member {index} has ended");
        }
    }
    callers.stop().await
}

fn print(phase: &str, seen: &Seen) {
    for kind in Kind::ALL {
        let ms = |percent| seen.percentile(kind, percent).as_secs_f64() * 1e3;
        println!(
            "{phase:<9} {:<9} {:>6} {:>9.2} {:>9.2}  {}",
            format!("{kind:?}"),
            seen.served(kind),
            ms(50),
            ms(99),
            seen.refusals(kind),
        );
    }
}
