//! Clients that mean well: each asks at its own pace and waits for the answer.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_tests::raw::{Connection, Piece};
use prost::Message as _;

pub const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
/// Longest wait for an answer: longer than what any flood may cause.
const ANSWER: Duration = Duration::from_secs(10);
/// Keys for the floods that ask for much, and bytes of each: some 10 MB.
const LARGE_KEYS: usize = 700;
const LARGE_BYTES: usize = 15_000;

/// How long requests took, and how many were not answered.
#[derive(Default)]
pub struct Latencies {
    sorted: Vec<Duration>,
    pub failed: usize,
}

impl Latencies {
    /// Whether anybody was answered.
    pub fn any(&self) -> bool {
        !self.sorted.is_empty()
    }

    pub fn part(&self, part: f64) -> Duration {
        let at = (self.sorted.len() as f64 * part) as usize;
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get(at.min(last)).copied().unwrap_or_default()
    }
}

pub struct GoodClients {
    pub endpoint: String,
    pub clients: usize,
    /// Requests per second of each client.
    pub rate: u32,
    pub until: Instant,
}

impl GoodClients {
    pub fn run(&self) -> Result<Latencies> {
        let mut all = Latencies::default();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|number| scope.spawn(move || self.client(number)))
                .collect();
            for client in clients {
                let Ok(one) = client.join() else {
                    bail!("a good client broke");
                };
                all.sorted.extend(one.sorted);
                all.failed += one.failed;
            }
            Ok(())
        })?;
        all.sorted.sort_unstable();
        Ok(all)
    }

    fn client(&self, number: usize) -> Latencies {
        let mut seen = Latencies::default();
        let pace = Duration::from_secs(1) / self.rate.max(1);
        // They begin one after the other.
        let begin =
            pace * u32::try_from(number).unwrap_or(0) / u32::try_from(self.clients).unwrap_or(1);
        let mut due = Instant::now() + begin;
        let mut connection = None;
        let mut turn = 0_usize;
        while due < self.until {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            match self.ask(&mut connection, number, turn) {
                Ok(()) => seen.sorted.push(asked.elapsed()),
                Err(_) => {
                    seen.failed += 1;
                    connection = None;
                }
            }
            turn += 1;
            // Who was late asks no more often for that.
            due = (due + pace).max(Instant::now());
        }
        seen
    }

    fn ask(&self, connection: &mut Option<Connection>, number: usize, turn: usize) -> Result<()> {
        let connection = match connection {
            Some(connection) => connection,
            empty => empty.insert(open(&self.endpoint)?),
        };
        let key = Bytes::from(format!("hostile/good/{number}"));
        let (path, message) = if turn.is_multiple_of(2) {
            let value = vec![b'v'; 256];
            let put = PutRequest {
                key,
                value: value.into(),
                ..PutRequest::default()
            };
            (PUT, put.encode_to_vec())
        } else {
            let get = RangeRequest {
                key,
                ..RangeRequest::default()
            };
            (RANGE, get.encode_to_vec())
        };
        call(connection, path, &message)
    }
}

fn open(endpoint: &str) -> Result<Connection> {
    let connection = Connection::open(endpoint)?;
    connection.socket()?.set_read_timeout(Some(ANSWER))?;
    Ok(connection)
}

/// Asks, and waits for a message and the end.
fn call(connection: &mut Connection, path: &str, message: &[u8]) -> Result<()> {
    let asked = connection.call(path, message, true)?;
    let (mut bytes, mut ended) = (0, false);
    while !ended {
        let open = connection.receive(|stream, piece| {
            if stream == asked {
                match piece {
                    Piece::Data(data) => bytes += data.len(),
                    Piece::End => ended = true,
                }
            }
            Ok(())
        });
        match open {
            Ok(open) => ensure!(open || ended, "the connection was closed"),
            Err(error) => {
                let late = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
                });
                return Err(error).context(if late { "no answer" } else { "broken" });
            }
        }
    }
    ensure!(bytes > 0, "refused");
    Ok(())
}

/// Stores what some floods ask for.
pub fn fill(endpoint: &str) -> Result<()> {
    let mut connection = open(endpoint)?;
    for at in 0..LARGE_KEYS {
        let put = PutRequest {
            key: format!("hostile/large/{at}").into(),
            value: vec![b'v'; LARGE_BYTES].into(),
            ..PutRequest::default()
        };
        call(&mut connection, PUT, &put.encode_to_vec()).context("store large values")?;
    }
    Ok(())
}
