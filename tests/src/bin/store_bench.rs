//! Rates and processor time of calls to the leader of three members, ours beside the
//! reference server and whatever else is given, in turn, several times over. Prints the
//! median of each server's rounds, and how ours compares.
//!
//! `cargo run --release -p mizzen-tests --bin store_bench -- --tls`
//!
//! `MIZZEN_BIN` should name what `make build` makes: in a build of the whole workspace
//! tokio's clock is the one for tests, which costs a tenth of a cheap call.
//!
//! Needs h2load (Debian's nghttp2-client). Clients and members share the machine:
//! ratios of one run count, and processor time before rates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::process;
use prost::Message;

const KEY: &[u8] = b"/registry/leases/kube-node-lease/node-000001";
const VALUE: [u8; 256] = [b'x'; 256];

#[derive(Parser)]
struct Arguments {
    /// Clients speak TLS; peers too, with certificates on both sides.
    #[arg(long)]
    tls: bool,
    /// Every server is measured so often; the median is told.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests of a measurement, in thousands: puts at 32 x 32. Others are in
    /// proportion.
    #[arg(long, default_value_t = 20)]
    thousands: u64,
    /// Another executable that takes etcd's flags; may come several times.
    #[arg(long)]
    beside: Vec<PathBuf>,
    /// Leave the reference server out.
    #[arg(long)]
    alone: bool,
}

/// One kind of load: connections, and calls at a time on each.
struct Load {
    call: &'static str,
    connections: u64,
    streams: u64,
    requests: u64,
}

/// What one measurement said.
#[derive(Clone, Copy)]
struct Figures {
    /// Requests per second.
    rate: f64,
    /// Microseconds that all members' processors worked for a request.
    cpu: f64,
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let mut loads = Vec::new();
    let thousand = arguments.thousands * 1_000;
    for (side, share) in [(1, 20), (8, 2), (32, 1)] {
        // Cheap calls need more of them for a figure of the same worth.
        for (call, times) in [("put", 1), ("get", 4), ("serializable get", 16)] {
            loads.push(Load {
                call,
                connections: side,
                streams: side,
                requests: thousand / share * times,
            });
        }
    }
    if arguments.tls {
        loads.push(Load {
            call: "connection",
            connections: thousand / 20,
            streams: 1,
            requests: thousand / 20,
        });
    }
    loads
}

/// The bytes of a request, in gRPC's frame.
fn request(call: &str) -> (&'static str, Vec<u8>) {
    let (method, message) = match call {
        "put" => {
            let put = PutRequest {
                key: KEY.to_vec().into(),
                value: VALUE.to_vec().into(),
                ..PutRequest::default()
            };
            ("Put", put.encode_to_vec())
        }
        _ => {
            let range = RangeRequest {
                key: KEY.to_vec().into(),
                serializable: call != "get",
                ..RangeRequest::default()
            };
            ("Range", range.encode_to_vec())
        }
    };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    (method, [&[0], &length.to_be_bytes()[..], &message].concat())
}

/// Sends requests as h2load does; the answer is their rate.
fn h2load(url: &str, load: &Load, body: &Path, method: &str) -> Result<f64> {
    let output = Command::new("h2load")
        .args(["-n", &load.requests.to_string()])
        .args(["-c", &load.connections.to_string()])
        .args(["-m", &load.streams.to_string()])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg("-d")
        .arg(body)
        .arg(format!("{url}/etcdserverpb.KV/{method}"))
        .output()
        .context("h2load cannot be started: it is in Debian's nghttp2-client")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let all = format!("{} succeeded", load.requests);
    ensure!(text.contains(&all), "requests failed:\n{text}");
    let rate = text
        .lines()
        .find(|line| line.starts_with("finished in"))
        .and_then(|line| line.split(", ").nth(1))
        .and_then(|part| part.trim_end_matches(" req/s").parse().ok());
    rate.with_context(|| format!("h2load said:\n{text}"))
}

fn worked(cluster: &Cluster) -> Result<Duration> {
    let pids = (0..cluster.len()).map(|index| cluster.pid(index).context("a member has ended"));
    pids.map(|pid| process::worked(pid?)).sum()
}

/// All loads once, one after the other.
async fn round(binary: &Path, arguments: &Arguments) -> Result<Vec<Figures>> {
    let mut options = Options::new(binary).flag("--max-concurrent-streams=100000");
    if arguments.tls {
        options = options.tls();
        // h2load shows no certificate.
        for index in 0..3 {
            for flag in [
                "--trusted-ca-file=",
                "--client-cert-auth=false",
                "--client-crl-file=",
            ] {
                options = options.member_flag(index, flag);
            }
        }
    }
    let bodies = tempfile::tempdir()?;
    let mut figures = Vec::new();
    Cluster::run(options, async |cluster| {
        let scheme = if arguments.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", cluster.endpoint(cluster.leader().await?));
        for load in &loads(arguments) {
            let (method, body) = request(load.call);
            let file = bodies.path().join("request");
            fs::write(&file, body)?;
            let warm = Load {
                requests: load.requests.min(load.connections * load.streams * 4),
                ..*load
            };
            h2load(&url, &warm, &file, method)?;
            let before = worked(cluster)?;
            let rate = h2load(&url, load, &file, method)?;
            let cpu = worked(cluster)?.saturating_sub(before);
            figures.push(Figures {
                rate,
                cpu: cpu.as_secs_f64() * 1e6 / load.requests as f64,
            });
        }
        Ok(())
    })
    .await?;
    Ok(figures)
}

fn median(figures: &[Vec<Figures>], load: usize, of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(|round| of(&round[load])).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "no rounds asked for");
    let mut servers = vec![("ours".to_owned(), cluster::mizzen()?)];
    if !arguments.alone {
        servers.push(("reference".to_owned(), cluster::reference()?));
    }
    for path in &arguments.beside {
        servers.push((path.display().to_string(), path.clone()));
    }
    let begun = Instant::now();
    let mut figures = vec![Vec::new(); servers.len()];
    for _ in 0..arguments.rounds {
        for ((_, binary), figures) in servers.iter().zip(&mut figures) {
            figures.push(round(binary, &arguments).await?);
        }
    }
    println!("| call | at a time | server | req/s | CPU us | rate of ours | CPU of ours |");
    println!("|---|---|---|---|---|---|---|");
    for (index, load) in loads(&arguments).iter().enumerate() {
        let rate = |server: usize| median(&figures[server], index, |figures| figures.rate);
        let cpu = |server: usize| median(&figures[server], index, |figures| figures.cpu);
        for (server, (name, _)) in servers.iter().enumerate() {
            let (faster, cheaper) = (rate(0) / rate(server), cpu(0) / cpu(server));
            println!(
                "| {} | {}x{} | {name} | {:.0} | {:.2} | {faster:.2}x | {cheaper:.2}x |",
                load.call,
                load.connections,
                load.streams,
                rate(server),
                cpu(server),
            );
        }
    }
    println!(
        "{} rounds in {:.0} s",
        arguments.rounds,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
