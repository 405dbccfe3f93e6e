//! Measures a resource API over a three-replica store beside a server of hyper
//! and rustls that answers the same bytes without work. Rates are of this
//! machine, clients included; CPU is what the servers' processes used. Needs
//! h2load (Debian's nghttp2-client).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::bytes_server::{self, Content};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/bench/configmaps";
const PODS: &str = "/api/v1/namespaces/bench/pods";

/// Measures a resource API.
#[derive(Args)]
pub struct Arguments {
    /// Requests of each kind that h2load sends.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Pods of 10 KB in the lists.
    #[arg(long, default_value_t = 10_000)]
    pods: u64,
    #[arg(long, default_value_t = 1_000)]
    watchers: u64,
    /// Changes that every watcher is told of.
    #[arg(long, default_value_t = 200)]
    changes: u64,
    /// Be the server that answers the bytes in this folder.
    #[arg(long, hide = true, requires = "address")]
    serve: Option<PathBuf>,
    #[arg(long, hide = true)]
    address: Option<String>,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    if let (Some(folder), Some(address)) = (&arguments.serve, &arguments.address) {
        let read = |name: &str| std::fs::read(folder.join(name)).map(Bytes::from);
        let content = Content {
            object: read("object")?,
            list: read("list")?,
            frame: read("frame")?,
        };
        let pki = folder.join("pki");
        let (cert, key) = (pki.join("apiserver.crt"), pki.join("apiserver.key"));
        return bytes_server::serve(address, &cert, &key, content).await;
    }
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let server = ApiServer::start(&cluster.endpoints())?;
        let https = Https::connect(&server).await?;
        let members = (0..cluster.len()).filter_map(|index| cluster.pid(index));
        let bench = Bench {
            api: server.pid().context("a process")?,
            members: members.collect(),
            url: server.url(),
            https,
            arguments: &arguments,
        };
        bench.all(&server).await
    })
    .await
}

struct Bench<'a> {
    api: u32,
    members: Vec<u32>,
    url: String,
    https: Https,
    arguments: &'a Arguments,
}

/// CPU of a process in microseconds, user and system.
fn cpu(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("a name")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // Linux counts hundredths of a second for everybody.
    Ok(ticks * 10_000)
}

/// A line of a process's status, in MB.
fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let text = status
        .lines()
        .find_map(|one| one.strip_prefix(line))
        .context("the line")?;
    let kilobytes: u64 = text.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
    Ok(kilobytes / 1_024)
}

/// Starts the count of a process's peak memory anew.
fn reset_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

struct Used {
    seconds: f64,
    api: u64,
    store: u64,
}

impl Bench<'_> {
    async fn measured<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Used)> {
        let store = || -> Result<u64> { self.members.iter().map(|pid| cpu(*pid)).sum() };
        let (api, members, started) = (cpu(self.api)?, store()?, Instant::now());
        let value = work.await?;
        let used = Used {
            seconds: started.elapsed().as_secs_f64(),
            api: cpu(self.api)? - api,
            store: store()? - members,
        };
        Ok((value, used))
    }

    fn print(&self, what: &str, count: u64, used: &Used) {
        println!(
            "{what:<34} {:>9.0}/s  server {:>8.1} us  store {:>8.1} us",
            count as f64 / used.seconds,
            used.api as f64 / count as f64,
            used.store as f64 / count as f64
        );
    }

    async fn all(&self, server: &ApiServer) -> Result<()> {
        let namespace =
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "bench"}});
        self.https
            .json(Method::POST, "/api/v1/namespaces", Some(&namespace))
            .await?;
        let object = self
            .https
            .json(Method::POST, MAPS, Some(&map("one", 0)))
            .await?;
        let body = server.directory().join("body");
        let mut fresh = map("", 0);
        fresh["metadata"] = json!({"generateName": "m-"});
        std::fs::write(&body, fresh.to_string())?;
        let requests = self.arguments.requests;
        for (clients, streams) in [(1, 1), (8, 8)] {
            let count = if clients == 1 {
                requests / 10
            } else {
                requests
            };
            let url = format!("{}{MAPS}/one", self.url);
            let ((), used) = self
                .measured(h2load(clients, streams, count, &url, None))
                .await?;
            self.print(&format!("get {clients}x{streams}"), count, &used);
            let url = format!("{}{MAPS}?resourceVersion=0", self.url);
            let url = url.replace("configmaps?", "configmaps/one?");
            let ((), used) = self
                .measured(h2load(clients, streams, count, &url, None))
                .await?;
            self.print(&format!("get from cache {clients}x{streams}"), count, &used);
            let url = format!("{}{MAPS}", self.url);
            let ((), used) = self
                .measured(h2load(clients, streams, count / 4, &url, Some(&body)))
                .await?;
            self.print(&format!("create {clients}x{streams}"), count / 4, &used);
        }
        let ((), used) = self.measured(self.updates(64, requests / 4)).await?;
        self.print("update, 64 at a time", requests / 4 / 64 * 64, &used);
        let frame = self.watches().await?;
        let list = self.lists().await?;
        self.baseline(server, &object, frame, list, &body).await
    }

    /// Updates by as many writers, each of an object of its own.
    async fn updates(&self, writers: u64, count: u64) -> Result<()> {
        let tasks = (0..writers).map(|number| async move {
            let name = format!("updated-{number}");
            self.https
                .json(Method::POST, MAPS, Some(&map(&name, 0)))
                .await?;
            for turn in 1..count / writers {
                let path = format!("{MAPS}/{name}");
                self.https
                    .json(Method::PUT, &path, Some(&map(&name, turn)))
                    .await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(tasks).await.map(|_| ())
    }

    /// Reads all changes on as many streams as there are watchers, a hundred to
    /// a connection; the connections must stay.
    async fn readers(
        &self,
        path: &str,
        seen: &Arc<AtomicU64>,
    ) -> Result<(tokio::task::JoinSet<Result<Bytes>>, Vec<Https>)> {
        let mut tasks = tokio::task::JoinSet::new();
        let mut connections = Vec::new();
        for number in 0..self.arguments.watchers {
            if number % 100 == 0 {
                connections.push(self.https.again().await?);
            }
            let https = connections.last().context("a connection")?;
            let answer = https
                .open(Method::GET, path, &HeaderMap::new(), Bytes::new())
                .await?;
            ensure!(answer.status().is_success(), "{}", answer.status());
            let changes = self.arguments.changes;
            tasks.spawn(read_events(answer.into_body(), changes, seen.clone()));
        }
        Ok((tasks, connections))
    }

    /// Watchers of config maps; gives the bytes of one event.
    async fn watches(&self) -> Result<Bytes> {
        let (watchers, changes) = (self.arguments.watchers, self.arguments.changes);
        self.https
            .json(Method::POST, MAPS, Some(&map("watched", 0)))
            .await?;
        let query = format!(
            "{MAPS}?watch=1&fieldSelector=metadata.name%3Dwatched&resourceVersion={}",
            self.version(&format!("{MAPS}/watched")).await?
        );
        let seen = Arc::new(AtomicU64::new(0));
        let (mut tasks, _connections) = self.readers(&query, &seen).await?;
        let work = async {
            for turn in 1..=changes {
                let path = format!("{MAPS}/watched");
                self.https
                    .json(Method::PUT, &path, Some(&map("watched", turn)))
                    .await?;
            }
            let mut last = Bytes::new();
            while let Some(read) = tasks.join_next().await {
                last = read??;
            }
            Ok(last)
        };
        let (frame, used) = self.measured(work).await?;
        let deliveries = seen.load(Ordering::Relaxed);
        self.print(&format!("{watchers} watchers, delivery"), deliveries, &used);
        Ok(frame)
    }

    async fn version(&self, path: &str) -> Result<String> {
        let object = self.https.json(Method::GET, path, None).await?;
        let version = object["metadata"]["resourceVersion"].as_str();
        Ok(version.context("a version")?.to_owned())
    }

    /// Lists of pods of 10 KB; gives the bytes of one.
    async fn lists(&self) -> Result<Bytes> {
        let pods = self.arguments.pods;
        let tasks = (0..64).map(|number| async move {
            for pod in (number..pods).step_by(64) {
                self.https
                    .json(Method::POST, PODS, Some(&pod_of_10_kb(pod)))
                    .await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(tasks).await?;
        // The cache is filled by the first one.
        self.list(PODS).await?;
        for (what, path) in [
            ("list", PODS.to_owned()),
            ("list of any state", format!("{PODS}?resourceVersion=0")),
        ] {
            reset_peak(self.api)?;
            let before = memory(self.api, "VmRSS:")?;
            let ((list, first), used) = self.measured(self.list(&path)).await?;
            println!(
                "{what} of {pods} pods, {} MB: first byte {first:?}, whole {:.0} ms, server {} ms, peak {} MB (before {before} MB)",
                list.len() >> 20,
                used.seconds * 1e3,
                used.api / 1_000,
                memory(self.api, "VmHWM:")?
            );
        }
        reset_peak(self.api)?;
        let before = memory(self.api, "VmRSS:")?;
        let all = async {
            let connections = futures::future::try_join_all((0..20).map(|_| self.https.again()));
            let connections = connections.await?;
            let lists = connections.iter().map(|https| drain(https, PODS));
            futures::future::try_join_all(lists).await
        };
        let (firsts, used) = self.measured(all).await?;
        println!(
            "20 lists at once: last first byte {:?}, whole {:.0} ms, server {} ms, peak {} MB (before {before} MB)",
            firsts.iter().max().context("lists")?,
            used.seconds * 1e3,
            used.api / 1_000,
            memory(self.api, "VmHWM:")?
        );
        Ok(self.list(PODS).await?.0)
    }

    async fn list(&self, path: &str) -> Result<(Bytes, Duration)> {
        let started = Instant::now();
        let answer = self
            .https
            .open(Method::GET, path, &HeaderMap::new(), Bytes::new())
            .await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let first = started.elapsed();
        Ok((answer.into_body().collect().await?.to_bytes(), first))
    }

    /// The same requests to a server that answers these bytes.
    async fn baseline(
        &self,
        server: &ApiServer,
        object: &Value,
        frame: Bytes,
        list: Bytes,
        body: &Path,
    ) -> Result<()> {
        let folder = server.directory();
        std::fs::write(folder.join("object"), object.to_string())?;
        std::fs::write(folder.join("frame"), &frame)?;
        std::fs::write(folder.join("list"), &list)?;
        let port = cluster::free_ports(1)?[0];
        let address = format!("127.0.0.1:{port}");
        let plain = Plain(
            Command::new(std::env::current_exe()?)
                .args(["bench", "--serve"])
                .arg(folder)
                .args(["--address", &address])
                .stdin(Stdio::null())
                .spawn()?,
        );
        let url = format!("https://{address}");
        let https = loop {
            match Https::connect_to(&url, &server.ca()).await {
                Ok(https) => break https,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let bench = Bench {
            api: plain.0.id(),
            members: Vec::new(),
            url,
            https,
            arguments: self.arguments,
        };
        bench.plain(body).await
    }

    async fn plain(&self, body: &Path) -> Result<()> {
        let requests = self.arguments.requests;
        for (clients, streams) in [(1, 1), (8, 8)] {
            let count = if clients == 1 {
                requests / 10
            } else {
                requests
            };
            for (what, body) in [("get", None), ("create", Some(body))] {
                let url = format!("{}/object", self.url);
                let ((), used) = self
                    .measured(h2load(clients, streams, count, &url, body))
                    .await?;
                let what = format!("hyper + rustls: {what} {clients}x{streams}");
                self.print(&what, count, &used);
            }
        }
        let changes = self.arguments.changes;
        let seen = Arc::new(AtomicU64::new(0));
        let path = format!("/watch/{changes}");
        let work = async {
            let (mut tasks, _connections) = self.readers(&path, &seen).await?;
            while let Some(read) = tasks.join_next().await {
                read??;
            }
            Ok(())
        };
        let ((), used) = self.measured(work).await?;
        let deliveries = seen.load(Ordering::Relaxed);
        self.print("hyper + rustls: delivery", deliveries, &used);
        let ((list, first), used) = self.measured(self.list("/list")).await?;
        println!(
            "hyper + rustls: list of {} MB: first byte {first:?}, whole {:.0} ms, server {} ms",
            list.len() >> 20,
            used.seconds * 1e3,
            used.api / 1_000
        );
        Ok(())
    }
}

struct Plain(Child);

impl Drop for Plain {
    fn drop(&mut self) {
        // It may have ended by itself: nothing is left to stop then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a list to its end without keeping it; gives the time to its head.
async fn drain(https: &Https, path: &str) -> Result<Duration> {
    let started = Instant::now();
    let answer = https
        .open(Method::GET, path, &HeaderMap::new(), Bytes::new())
        .await?;
    let first = started.elapsed();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(first)
}

/// Reads so many events; gives the last one's bytes.
async fn read_events(
    mut body: hyper::body::Incoming,
    count: u64,
    seen: Arc<AtomicU64>,
) -> Result<Bytes> {
    let (mut read, mut last) = (0, Vec::new());
    while read < count {
        let frame = body.frame().await.context("the watch ended")??;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if last.last() == Some(&b'\n') {
                last.clear();
            }
            last.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                read += 1;
            }
        }
    }
    seen.fetch_add(read, Ordering::Relaxed);
    Ok(last.into())
}

/// A config map of 1.3 KB.
fn map(name: &str, turn: u64) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name},
        "data": {"turn": turn.to_string(), "filler": "0123456789abcdef".repeat(68)}})
}

fn pod_of_10_kb(number: u64) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": format!("pod-{number}"), "annotations": {"filler": "0123456789abcdef".repeat(590)}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]}})
}

/// Sends requests with h2load, all of which must succeed.
async fn h2load(
    clients: u64,
    streams: u64,
    count: u64,
    url: &str,
    body: Option<&Path>,
) -> Result<()> {
    let mut command = Command::new("h2load");
    command
        .args(["-c", &clients.to_string(), "-m", &streams.to_string()])
        .args(["-n", &count.to_string(), "-t", "1"])
        .args(["-H", "content-type: application/json"]);
    if let Some(body) = body {
        command.arg("-d").arg(body);
    }
    command.arg(url).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.context("run h2load (Debian's nghttp2-client)")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        printed.contains(&format!("status codes: {count} 2xx")),
        "{url}:\n{printed}"
    );
    Ok(())
}
