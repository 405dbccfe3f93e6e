//! Floods a server by every method that HTTP/2 offers, beside clients that mean
//! well, and says what those notice of it.
//!
//! For each flood: latencies of the good clients alone and beside it, the
//! memory of the server's processes, and how the server ended the hostile
//! connections, by the code of its GOAWAY or RST_STREAM. Works against any
//! server of etcd's API. Keys below `hostile/` are overwritten.

mod attack;
mod floods;
mod good;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;

use attack::Closes;
use floods::{FLOODS, Flood};
use good::{GoodClients, Latencies};

/// Floods a server beside good clients.
#[derive(Parser)]
struct Arguments {
    /// Client endpoint, as `host:port`.
    #[arg(long)]
    endpoint: String,
    /// Good clients, each with a connection of its own.
    #[arg(long, default_value_t = 100)]
    good: usize,
    /// Requests per second of each of them, puts and gets in turn.
    #[arg(long, default_value_t = 5)]
    rate: u32,
    /// A flood's name, several with commas between them, or `all`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    flood: Vec<String>,
    /// How long each flood lasts, and as long again the good clients are alone.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The server's processes, whose memory is looked at.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Only say which floods there are.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for flood in &FLOODS {
            println!("{:<20} {}", flood.name, flood.what);
        }
        return Ok(());
    }
    let floods = wanted(&arguments.flood)?;
    good::fill(&arguments.endpoint)?;
    println!(
        "{:<20} {:>17} {:>17} {:>7} {:>7} {:>13}  closed",
        "flood", "alone p50/p99 ms", "beside p50/p99 ms", "ratio", "failed", "MiB peak"
    );
    for flood in floods {
        one(&arguments, flood).with_context(|| format!("flood {}", flood.name))?;
    }
    Ok(())
}

fn wanted(names: &[String]) -> Result<Vec<&'static Flood>> {
    if names == ["all"] {
        return Ok(FLOODS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            let found = FLOODS.iter().find(|flood| flood.name == name);
            found.with_context(|| format!("no flood {name}; see --list"))
        })
        .collect()
}

fn one(arguments: &Arguments, flood: &'static Flood) -> Result<()> {
    let length = Duration::from_secs(arguments.seconds);
    let load = || GoodClients {
        endpoint: arguments.endpoint.clone(),
        clients: arguments.good,
        rate: arguments.rate,
        until: Instant::now() + length,
    };
    let alone = load().run()?;
    let before = memory(&arguments.pids)?;
    let peak = AtomicU64::new(before);
    let ended = AtomicBool::new(false);
    let (beside, closes) = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                // A process that has ended holds nothing.
                let now = memory(&arguments.pids).unwrap_or(0);
                peak.fetch_max(now, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let until = Instant::now() + length;
        let attack = scope.spawn(move || attack::run(&arguments.endpoint, flood, until));
        let beside = load().run();
        let closes = attack.join();
        ended.store(true, Ordering::SeqCst);
        (beside, closes)
    });
    let Ok(closes) = closes else {
        bail!("the hostile client broke");
    };
    report(flood, &alone, &beside?, before, peak.into_inner(), &closes?);
    Ok(())
}

fn report(
    flood: &Flood,
    alone: &Latencies,
    beside: &Latencies,
    before: u64,
    peak: u64,
    closes: &Closes,
) {
    let ms = |latencies: &Latencies, part| latencies.part(part).as_secs_f64() * 1e3;
    let ratio = ms(beside, 0.99) / ms(alone, 0.99).max(1e-6);
    println!(
        "{:<20} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>7.2} {:>7} {:>6} {:>6}  {closes}",
        flood.name,
        ms(alone, 0.5),
        ms(alone, 0.99),
        ms(beside, 0.5),
        ms(beside, 0.99),
        ratio,
        beside.failed,
        before >> 20,
        peak >> 20,
    );
}

/// Bytes that the processes hold together.
fn memory(pids: &[u32]) -> Result<u64> {
    let mut bytes = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        ensure!(kilobytes.is_some(), "{path}: no VmRSS");
        bytes += kilobytes.unwrap_or("0").parse::<u64>()? << 10;
    }
    Ok(bytes)
}
