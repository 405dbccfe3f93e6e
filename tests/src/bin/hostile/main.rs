//! Floods a server by every method that HTTP/2 offers, beside clients that mean
//! well, and says what those notice of it.
//!
//! For each flood: latencies of the good clients alone and beside it, the
//! memory of the server's processes, and how the server ended the hostile
//! connections, by the code of its GOAWAY or RST_STREAM.
//!
//! The hostile client is a process of its own that gives way to all others: it has
//! a machine of its own in life, and here it would take the processors that
//! the server and the good clients share. What it makes the server do is what is
//! measured. A few of its floods want more than the rest of a small machine has;
//! then it is slower, as it would be behind a slower network.
//!
//! `cargo run --release -p mizzen-tests --bin hostile -- --reference`

mod attack;
mod floods;
mod good;
mod server;

use std::env;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;

use floods::{FLOODS, Flood};
use good::{GoodClients, Latencies};
use server::Server;

/// How far the hostile client stands back, on the scale of nice(1).
const HOSTILE_NICE: i32 = 19;

/// Floods a server beside good clients.
#[derive(Parser)]
struct Arguments {
    /// Client endpoint of a server that runs already, as `host:port`, instead of
    /// starting a cluster of three. Keys below `hostile/` are overwritten.
    #[arg(long)]
    endpoint: Option<String>,
    /// That server's processes, whose memory is looked at.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Each flood against a cluster of the reference server as well.
    #[arg(long)]
    reference: bool,
    /// Memory of each member that is started, MiB.
    #[arg(long, default_value_t = 2_048)]
    memory: u64,
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
    /// Only say which floods there are.
    #[arg(long)]
    list: bool,
    /// Be the hostile client of this flood.
    #[arg(long, hide = true, requires = "endpoint")]
    attack: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for flood in &FLOODS {
            println!("{:<20} {}", flood.name, flood.what);
        }
        return Ok(());
    }
    let length = Duration::from_secs(arguments.seconds);
    if let (Some(name), Some(endpoint)) = (&arguments.attack, &arguments.endpoint) {
        rustix::process::nice(HOSTILE_NICE)?;
        let closes = attack::run(endpoint, find(name)?, Instant::now() + length)?;
        println!("{closes}");
        return Ok(());
    }
    let floods = match &arguments.flood[..] {
        [all] if all == "all" => FLOODS.iter().collect(),
        names => names.iter().map(|name| find(name)).collect::<Result<_>>()?,
    };
    measure(&arguments, floods)
}

fn find(name: &str) -> Result<&'static Flood> {
    let found = FLOODS.iter().find(|flood| flood.name == name);
    found.with_context(|| format!("no flood {name}; see --list"))
}

fn measure(arguments: &Arguments, floods: Vec<&'static Flood>) -> Result<()> {
    let mut servers = match &arguments.endpoint {
        Some(endpoint) => vec![Server::running(endpoint, &arguments.pids)],
        None => vec![Server::start(false, arguments.memory << 20)?],
    };
    if arguments.reference {
        servers.push(Server::start(true, arguments.memory << 20)?);
    }
    for server in &servers {
        good::fill(&server.endpoint)?;
    }
    println!(
        "{:<16} {:<9} {:>17} {:>17} {:>7} {:>7} {:>13} {:>5}  closed",
        "flood",
        "server",
        "alone p50/p99 ms",
        "beside p50/p99 ms",
        "ratio",
        "failed",
        "MiB peak",
        "ended"
    );
    for flood in floods {
        for server in &mut servers {
            one(arguments, flood, server)
                .with_context(|| format!("flood {} of {}", flood.name, server.name))?;
        }
    }
    Ok(())
}

fn one(arguments: &Arguments, flood: &'static Flood, server: &mut Server) -> Result<()> {
    let length = Duration::from_secs(arguments.seconds);
    let load = || GoodClients {
        endpoint: server.endpoint.clone(),
        clients: arguments.good,
        rate: arguments.rate,
        until: Instant::now() + length,
    };
    server.settle();
    let alone = load().run()?;
    ensure!(alone.any(), "no good client was ever answered");
    let before = server.memory();
    let peak = AtomicU64::new(before);
    let over = AtomicBool::new(false);
    let (beside, closes) = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                peak.fetch_max(server.memory(), Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let attack = scope.spawn(|| attack(arguments, flood, &server.endpoint));
        let beside = load().run();
        let closes = attack.join();
        over.store(true, Ordering::SeqCst);
        (beside, closes)
    });
    let Ok(closes) = closes else {
        bail!("the hostile client broke");
    };
    let (name, beside, closes) = (server.name, beside?, closes?);
    let ended = server.revive()?;
    let ms = |latencies: &Latencies, part| latencies.part(part).as_secs_f64() * 1e3;
    let ratio = ms(&beside, 0.99) / ms(&alone, 0.99).max(1e-6);
    println!(
        "{:<16} {name:<9} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {ratio:>7.2} {:>7} {:>6} {:>6} {ended:>5}  {closes}",
        flood.name,
        ms(&alone, 0.5),
        ms(&alone, 0.99),
        ms(&beside, 0.5),
        ms(&beside, 0.99),
        beside.failed,
        before >> 20,
        peak.into_inner() >> 20,
    );
    Ok(())
}

/// Runs the hostile client, and gives what it says of its connections' ends.
fn attack(arguments: &Arguments, flood: &Flood, endpoint: &str) -> Result<String> {
    let output = Command::new(env::current_exe()?)
        .args(["--attack", flood.name, "--endpoint", endpoint])
        .args(["--seconds", &arguments.seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("start the hostile client")?;
    ensure!(output.status.success(), "the hostile client failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
