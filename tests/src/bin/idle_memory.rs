//! What it costs a server that clients are there and do nothing: memory for each
//! idle connection, and for each watch stream.
//!
//! Both are differences of the resident memory of one lone member, looked at
//! when it has settled: `connections` greeted and silent, then `streams` watch
//! streams of one watch each, 100 to a connection.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use mizzen_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request::RequestUnion};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::process::rss;
use mizzen_tests::raw::{Connection, Messages, Piece};
use prost::Message as _;

/// Watch streams of one connection.
const TOGETHER: usize = 100;
/// Until memory is looked at: both servers give some back.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Parser)]
struct Arguments {
    /// Servers to compare, by default etcd and mizzen.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<PathBuf>,
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One for each connection, and this program's own.
    let descriptors = mizzen_descriptors::raise()?;
    let needed = arguments.connections + arguments.streams / TOGETHER + 100;
    ensure!(
        descriptors >= needed as u64,
        "{needed} files open are needed, {descriptors} may be"
    );
    let mut servers = arguments.servers.clone();
    if servers.is_empty() {
        servers = vec![cluster::reference()?, cluster::mizzen()?];
    }
    println!(
        "{:<28} {:<12} {:>8} {:>10} {:>14}",
        "server", "kind", "number", "RSS MiB", "bytes each"
    );
    for server in servers {
        // Each from the start of a server: what the first kind used would be free
        // for the second one.
        for streams in [false, true] {
            let options = Options::new(&server).members(1);
            Cluster::run(options, async |cluster| {
                let pid = cluster.pid(0).context("it runs")?;
                let endpoint = cluster.endpoint(0);
                let before = settled(pid).await?;
                let (kind, number) = match streams {
                    false => ("connections", arguments.connections),
                    true => ("streams", arguments.streams),
                };
                let (idle, watching) = match streams {
                    false => (idle(endpoint, number)?, Vec::new()),
                    true => (Vec::new(), watch(endpoint, number)?),
                };
                let after = settled(pid).await?;
                drop((idle, watching));
                println!(
                    "{:<28} {kind:<12} {number:>8} {:>10.1} {:>14.0}",
                    server.display(),
                    after as f64 / 1_048_576.0,
                    after.saturating_sub(before) as f64 / number.max(1) as f64
                );
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// Connections that were greeted.
fn idle(endpoint: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        // Its buffers are of no use here.
        let mut socket = Connection::open(endpoint)?.socket()?;
        ensure!(
            socket.read(&mut [0; 64])? > 0,
            "connection {number} was refused"
        );
        idle.push(socket);
    }
    Ok(idle)
}

/// Connections with streams whose watches have been made.
fn watch(endpoint: &str, streams: usize) -> Result<Vec<Connection>> {
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: b"key".as_slice().into(),
            ..Default::default()
        })),
    }
    .encode_to_vec();
    let mut watching = Vec::new();
    let mut left = streams;
    while left > 0 {
        let share = left.min(TOGETHER);
        left -= share;
        let mut connection = Connection::open(endpoint)?;
        for _ in 0..share {
            connection.call("/etcdserverpb.Watch/Watch", &create, false)?;
        }
        let mut made = 0;
        let mut messages: Vec<Messages> = Vec::new();
        while made < share {
            let goes_on = connection.receive(|stream, piece| {
                let place = usize::try_from(stream / 2)?;
                if messages.len() <= place {
                    messages.resize_with(place + 1, Messages::default);
                }
                match piece {
                    Piece::Data(data) => messages[place].take(data, |_| made += 1),
                    Piece::End => anyhow::bail!("a watch was refused"),
                }
                Ok(())
            })?;
            ensure!(goes_on, "a connection was closed");
        }
        watching.push(connection);
    }
    Ok(watching)
}

async fn settled(pid: u32) -> Result<u64> {
    tokio::time::sleep(SETTLE).await;
    rss(pid)
}
