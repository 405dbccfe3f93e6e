//! Loads the watches of two servers in turn, and says what a delivery costs.
//!
//! `fanout`: many watchers of one range, a writer that waits for each put.
//! `stalled`: the same at a steady rate, with some watchers that do not read.
//! The rounds without and with them come in turn, and differ in nothing else:
//! those watchers are there in both, each with a connection of its own, and
//! read in the one and do not in the other. So as many deliveries are offered,
//! on as many connections. Times of deliveries are those of the other watchers.
//! The last two lines hold the times of all rounds.

use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use mizzen_proto::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::process::rss;
use mizzen_tests::raw::{Connection, Messages, Piece, count_fields, number_field};
use prost::Message as _;
use rand::RngCore as _;

const EVENTS: u64 = 11;
const WATCH_ID: u64 = 2;
const CREATED: u64 = 3;
const PREFIX: &str = "/registry/leases/";

/// Loads watches and measures deliveries.
#[derive(Parser)]
struct Arguments {
    #[arg(value_enum)]
    mode: Mode,
    /// Servers to compare, by default etcd and mizzen.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<PathBuf>,
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000,10000")]
    watchers: Vec<usize>,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// A stream for each watcher instead of one for each connection.
    #[arg(long)]
    own_streams: bool,
    /// Those among the watchers that do not read, each with a connection of its
    /// own.
    #[arg(long, default_value_t = 100)]
    stalled: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Puts per second of `stalled`.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Fanout,
    Stalled,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut servers = arguments.servers.clone();
    if servers.is_empty() {
        servers = vec![cluster::reference()?, cluster::mizzen()?];
    }
    match arguments.mode {
        Mode::Fanout => println!(
            "{:<28} {:>8} {:>8} {:>12} {:>14} {:>12}",
            "server", "watchers", "puts/s", "deliveries/s", "us/delivery", "RSS MiB"
        ),
        Mode::Stalled => println!(
            "{:<28} {:>8} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}",
            "server",
            "stalled",
            "put p50",
            "put p99",
            "event p50",
            "event p99",
            "RSS MiB",
            "caught up"
        ),
    }
    for server in servers {
        let options = Options::new(&server).flag("--quota-backend-bytes=17179869184");
        Cluster::run(options, async |cluster| {
            let cluster = &*cluster;
            let leader = cluster.leader().await?;
            let bench = Bench {
                name: server
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                endpoint: cluster.endpoint(leader).to_owned(),
                pids: (0..cluster.len())
                    .filter_map(|index| cluster.pid(index))
                    .collect(),
                leader: cluster.pid(leader).context("the leader runs")?,
                arguments: &arguments,
            };
            tokio::task::block_in_place(|| bench.run())
        })
        .await?;
    }
    Ok(())
}

struct Bench<'a> {
    name: String,
    endpoint: String,
    pids: Vec<u32>,
    leader: u32,
    arguments: &'a Arguments,
}

/// What all readers have seen.
#[derive(Default)]
struct Tally {
    created: AtomicU64,
    events: AtomicU64,
    /// When each put was sent, for the time to its deliveries.
    sent: Mutex<Vec<Instant>>,
    latencies: Mutex<Vec<Duration>>,
    timed: AtomicBool,
}

struct Readers {
    tally: Arc<Tally>,
    threads: Vec<thread::JoinHandle<Result<()>>>,
    sockets: Vec<std::net::TcpStream>,
}

fn create() -> Vec<u8> {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: PREFIX.into(),
            range_end: PREFIX.replace("s/", "s0").into(),
            prev_kv: true,
            ..Default::default()
        })),
    }
    .encode_to_vec()
}

fn open(endpoint: &str, watchers: usize, own_streams: bool) -> Result<Connection> {
    const PATH: &str = "/etcdserverpb.Watch/Watch";
    let mut connection = Connection::open(endpoint)?;
    if own_streams {
        for _ in 0..watchers {
            connection.call(PATH, &create(), false)?;
        }
    } else if watchers > 0 {
        let stream = connection.call(PATH, &create(), false)?;
        for _ in 1..watchers {
            connection.send(stream, &create())?;
        }
    }
    Ok(connection)
}

fn read(mut connection: Connection, tally: &Tally) -> Result<()> {
    let mut streams: Vec<Messages> = Vec::new();
    // Events seen by each watch of each stream.
    let mut seen: Vec<Vec<usize>> = Vec::new();
    let mut latencies = Vec::new();
    loop {
        let goes_on = connection.receive(|stream, piece| {
            let place = usize::try_from(stream / 2)?;
            if streams.len() <= place {
                streams.resize_with(place + 1, Messages::default);
                seen.resize(place + 1, Vec::new());
            }
            let Piece::Data(data) = piece else {
                return Ok(());
            };
            let mut events = 0;
            let timed = tally.timed.load(Ordering::Relaxed);
            streams[place].take(data, |message| {
                let count = count_fields(message, EVENTS);
                events += count;
                if count == 0 && number_field(message, CREATED) == Some(1) {
                    tally.created.fetch_add(1, Ordering::Relaxed);
                }
                if timed && count > 0 {
                    let watch = number_field(message, WATCH_ID).unwrap_or(0) as usize;
                    let seen = &mut seen[place];
                    seen.resize(seen.len().max(watch + 1), 0);
                    let sent = tally.sent.lock().expect("no reader panics");
                    let now = Instant::now();
                    for event in seen[watch]..seen[watch] + count {
                        latencies.extend(sent.get(event).map(|sent| now - *sent));
                    }
                    seen[watch] += count;
                }
            });
            tally.events.fetch_add(events as u64, Ordering::Relaxed);
            Ok(())
        })?;
        if !goes_on {
            tally
                .latencies
                .lock()
                .expect("no reader panics")
                .extend(latencies);
            return Ok(());
        }
    }
}

impl Readers {
    fn start(
        endpoint: &str,
        watchers: usize,
        connections: usize,
        own_streams: bool,
        timed: bool,
    ) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        tally.timed.store(timed, Ordering::Relaxed);
        let mut readers = Self {
            tally: tally.clone(),
            threads: Vec::new(),
            sockets: Vec::new(),
        };
        let connections = connections.min(watchers);
        for number in 0..connections {
            let share = watchers / connections + usize::from(number < watchers % connections);
            let connection = open(endpoint, share, own_streams)?;
            readers.sockets.push(connection.socket()?);
            let tally = tally.clone();
            readers
                .threads
                .push(thread::spawn(move || read(connection, &tally)));
        }
        readers.wait(
            |tally| tally.created.load(Ordering::Relaxed) == watchers as u64,
            "watches are made",
        )?;
        Ok(readers)
    }

    fn wait(&self, done: impl Fn(&Tally) -> bool, what: &str) -> Result<()> {
        let start = Instant::now();
        while !done(&self.tally) {
            ensure!(
                start.elapsed() < Duration::from_secs(180),
                "{what}: not within three minutes; {} events seen",
                self.tally.events.load(Ordering::Relaxed)
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn stop(self) -> Result<Vec<Duration>> {
        for socket in &self.sockets {
            socket.shutdown(Shutdown::Both)?;
        }
        for thread in self.threads {
            thread.join().expect("no reader panics")?;
        }
        let latencies =
            std::mem::take(&mut *self.tally.latencies.lock().expect("no reader panics"));
        Ok(latencies)
    }
}

struct Writer {
    connection: Connection,
    value: Vec<u8>,
}

impl Writer {
    fn new(endpoint: &str, value_bytes: usize) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(endpoint)?,
            value: vec![0; value_bytes],
        })
    }

    /// Puts and waits for the answer.
    fn put(&mut self, number: u64) -> Result<()> {
        rand::rng().fill_bytes(&mut self.value);
        let request = PutRequest {
            key: format!("{PREFIX}{:06}", number % 100).into(),
            value: self.value.clone().into(),
            ..Default::default()
        };
        let own = self
            .connection
            .call("/etcdserverpb.KV/Put", &request.encode_to_vec(), true)?;
        let mut ended = false;
        while !ended {
            let goes_on = self.connection.receive(|stream, piece| {
                ended |= stream == own && matches!(piece, Piece::End);
                Ok(())
            })?;
            ensure!(goes_on, "the connection of the writer was closed");
        }
        Ok(())
    }
}

impl Bench<'_> {
    fn run(&self) -> Result<()> {
        match self.arguments.mode {
            Mode::Fanout => {
                for watchers in &self.arguments.watchers {
                    self.fanout(*watchers)?;
                }
            }
            Mode::Stalled => {
                let mut sides = [Times::default(), Times::default()];
                for _ in 0..self.arguments.rounds {
                    for (asleep, side) in [false, true].into_iter().zip(&mut sides) {
                        side.add(self.stalled(asleep)?);
                    }
                }
                for (asleep, side) in [false, true].into_iter().zip(&mut sides) {
                    self.print(asleep, side, "all rounds");
                }
            }
        }
        Ok(())
    }

    fn fanout(&self, watchers: usize) -> Result<()> {
        let Arguments {
            connections,
            own_streams,
            value_bytes,
            seconds,
            ..
        } = self.arguments;
        let readers = Readers::start(&self.endpoint, watchers, *connections, *own_streams, false)?;
        let mut writer = Writer::new(&self.endpoint, *value_bytes)?;
        // All keys have a value before.
        for number in 0..100 {
            writer.put(number)?;
        }
        let before = 100 * watchers as u64;
        readers.wait(
            |tally| tally.events.load(Ordering::Relaxed) == before,
            "first events are delivered",
        )?;
        let cpu = cpu(&self.pids)?;
        let start = Instant::now();
        let mut puts = 0;
        while start.elapsed() < Duration::from_secs(*seconds) {
            writer.put(puts)?;
            puts += 1;
        }
        let put_time = start.elapsed();
        let expected = before + puts * watchers as u64;
        readers.wait(
            |tally| tally.events.load(Ordering::Relaxed) >= expected,
            "events are delivered",
        )?;
        let time = start.elapsed();
        let used = self::cpu(&self.pids)? - cpu;
        let delivered = puts as f64 * watchers as f64;
        println!(
            "{:<28} {watchers:>8} {:>8.0} {:>12.0} {:>14.2} {:>12}",
            self.name,
            puts as f64 / put_time.as_secs_f64(),
            delivered / time.as_secs_f64(),
            used.as_secs_f64() * 1e6 / delivered,
            rss(self.leader)? >> 20,
        );
        readers.stop()?;
        Ok(())
    }

    /// One round, in which the watchers on connections of their own are asleep
    /// or not.
    fn stalled(&self, asleep: bool) -> Result<Times> {
        let Arguments {
            connections,
            own_streams,
            value_bytes,
            seconds,
            rate,
            watchers,
            stalled,
            ..
        } = self.arguments;
        let all = watchers.first().copied().unwrap_or(1_000);
        ensure!(*stalled < all, "some watchers must read");
        let aside = (0..*stalled)
            .map(|_| open(&self.endpoint, 1, true))
            .collect::<Result<Vec<_>>>()?;
        let (mut aside, mut waiting) = (Some(aside), None);
        if !asleep {
            waiting = aside.take().map(read_together).transpose()?;
        }
        let readers = Readers::start(
            &self.endpoint,
            all - stalled,
            *connections,
            *own_streams,
            true,
        )?;
        let mut writer = Writer::new(&self.endpoint, *value_bytes)?;
        let start = Instant::now();
        let puts = rate * seconds;
        let mut times = Times::default();
        for number in 0..puts {
            let due = start + Duration::from_nanos(1_000_000_000 / rate * number);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // What waits for the writer counts as well.
            readers
                .tally
                .sent
                .lock()
                .expect("no reader panics")
                .push(due);
            writer.put(number)?;
            times.puts.push(due.elapsed());
        }
        let expected = puts * (all - stalled) as u64;
        readers.wait(
            |tally| tally.events.load(Ordering::Relaxed) >= expected,
            "events are delivered",
        )?;
        let rss = rss(self.leader)? >> 20;
        // Those that were asleep now read everything.
        let woken = Instant::now();
        if let Some(aside) = aside {
            waiting = Some(wake(aside)?);
        }
        if let Some(late) = waiting {
            late.wait(
                |tally| tally.events.load(Ordering::Relaxed) >= puts * *stalled as u64,
                "the other watchers catch up",
            )?;
            late.stop()?;
        }
        let caught_up = woken.elapsed().as_secs_f64();
        times.events = readers.stop()?;
        self.print(asleep, &mut times, &format!("{rss:>10} {caught_up:>8.2}s"));
        Ok(times)
    }

    fn print(&self, asleep: bool, times: &mut Times, rest: &str) {
        let stalled = if asleep { self.arguments.stalled } else { 0 };
        println!(
            "{:<28} {stalled:>8} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {rest}",
            self.name,
            milliseconds(&mut times.puts, 0.5),
            milliseconds(&mut times.puts, 0.99),
            milliseconds(&mut times.events, 0.5),
            milliseconds(&mut times.events, 0.99),
        );
    }
}

/// What puts and deliveries took.
#[derive(Default)]
struct Times {
    puts: Vec<Duration>,
    events: Vec<Duration>,
}

impl Times {
    fn add(&mut self, more: Self) {
        self.puts.extend(more.puts);
        self.events.extend(more.events);
    }
}

fn milliseconds(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let place = (times.len() as f64 * share) as usize;
    times
        .get(place.min(times.len().saturating_sub(1)))
        .map_or(0.0, Duration::as_secs_f64)
        * 1e3
}

/// Begins to read connections.
fn wake(connections: Vec<Connection>) -> Result<Readers> {
    let tally = Arc::new(Tally::default());
    let mut readers = Readers {
        tally: tally.clone(),
        threads: Vec::new(),
        sockets: Vec::new(),
    };
    for connection in connections {
        readers.sockets.push(connection.socket()?);
        let tally = tally.clone();
        readers
            .threads
            .push(thread::spawn(move || read(connection, &tally)));
    }
    Ok(readers)
}

/// Reads connections in one thread, now and then: a thread for each would take
/// more of the processors than the deliveries to it, and no socket fills
/// meanwhile.
fn read_together(connections: Vec<Connection>) -> Result<Readers> {
    const PAUSE: Duration = Duration::from_millis(100);
    let tally = Arc::new(Tally::default());
    let mut sockets = Vec::new();
    for connection in &connections {
        let socket = connection.socket()?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let seen = tally.clone();
    let mut open: Vec<_> = connections
        .into_iter()
        .map(|connection| (connection, Messages::default()))
        .collect();
    let thread = thread::spawn(move || {
        while !open.is_empty() {
            let mut still = Vec::new();
            for (mut connection, mut messages) in open {
                let goes_on = connection.receive(|_, piece| {
                    if let Piece::Data(data) = piece {
                        messages.take(data, |message| {
                            let events = count_fields(message, EVENTS) as u64;
                            seen.events.fetch_add(events, Ordering::Relaxed);
                        });
                    }
                    Ok(())
                });
                if goes_on.or_else(nothing_came)? {
                    still.push((connection, messages));
                }
            }
            open = still;
            thread::sleep(PAUSE);
        }
        Ok(())
    });
    Ok(Readers {
        tally,
        threads: vec![thread],
        sockets,
    })
}

fn nothing_came(error: anyhow::Error) -> Result<bool> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
        _ => Err(error),
    }
}

/// Processor time of the processes, in user and kernel.
fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
        let (_, after) = stat.rsplit_once(')').context("the format of /proc")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    }
    Ok(Duration::from_millis(10 * ticks))
}
