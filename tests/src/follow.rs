//! Informers that follow changing objects while servers are killed: client-go's
//! own, one on each of two resource APIs over a three-replica store, and the
//! watcher of kube-rs on one of them.
//!
//! Every object carries a counter that each change raises by one, so a follower
//! knows when it missed a change; every version must be newer than the one
//! before, so it knows when one came twice. Writers own their objects, name the
//! version they change, and read again whenever an outcome is not known.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use mizzen_proto::etcdserverpb::RangeRequest;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::apiserver::ApiServer;
use crate::cluster::{self, Cluster};
use crate::https::Https;

const NAMESPACE: &str = "followed";
const KILLED: &str = "the server that is killed";
const LIVES: &str = "the server that lives";
const COLLECTION: &str = "/api/v1/namespaces/followed/configmaps";
/// Writers at a time.
const WRITERS: u64 = 32;
/// Pause before a writer tries again where nobody listened.
const PAUSE: Duration = Duration::from_millis(20);
/// A change that does not succeed for so long fails the run.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much is done.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub objects: u64,
    pub changes: u64,
}

/// What an informer saw.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Which server it followed.
    #[serde(skip)]
    pub of: String,
    pub objects: u64,
    pub events: u64,
    /// How often it read everything; the first time counts.
    pub lists: u64,
    pub watches: u64,
    /// Events of a version that was not newer.
    pub repeated: u64,
    /// Events that came after one that was missed.
    pub jumped: u64,
}

struct Informer {
    of: String,
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Informer {
    /// Starts one and waits until it has its first list.
    fn start(program: &Path, server: &ApiServer, of: &str) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(server.kubeconfig())
            .arg(NAMESPACE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout")?;
        let mut informer = Self {
            of: of.to_owned(),
            child,
            lines: BufReader::new(stdout),
        };
        let line = informer.line()?;
        ensure!(line.trim() == "synced", "the informer said {line:?}");
        Ok(informer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line)
    }

    /// Tells it what its cache must become and gives its report.
    fn finish(mut self, expected: &str) -> Result<Report> {
        let mut stdin = self.child.stdin.take().context("stdin")?;
        // Nothing after it: the program ends as soon as it has seen it all.
        let told = stdin.write_all(expected.as_bytes());
        drop(stdin);
        let line = self.line()?;
        let status = self.child.wait()?;
        told.with_context(|| format!("the informer on {} had ended: {status}", self.of))?;
        ensure!(status.success(), "the informer on {}: {status}", self.of);
        let mut report: Report = serde_json::from_str(&line)?;
        report.of = self.of.clone();
        Ok(report)
    }
}

impl Drop for Informer {
    fn drop(&mut self) {
        // It may have ended by itself: nothing is left to stop then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the program of kube-rs's watcher. It is a workspace of its own, in
/// the same folder of built things.
///
/// # Errors
/// It cannot be built.
pub fn build_kube_rs() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube-rs/Cargo.toml");
    let built = std::env::current_exe()?;
    let release = built
        .ancestors()
        .skip(1)
        .find(|folder| folder.ends_with("release"))
        .context("a folder of release builds")?;
    let target = release.parent().context("a target folder")?;
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", target)
        .status()?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(target.join("release/kube-rs-follow"))
}

/// Builds the informer's program into a folder; `None` without Go.
///
/// # Errors
/// It cannot be built.
pub fn build(folder: &Path) -> Result<Option<PathBuf>> {
    if cluster::find_tool("go").is_empty() {
        return Ok(None);
    }
    let program = folder.join("follow");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg("./follow")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes"))
        .status()?;
    ensure!(status.success(), "go build: {status}");
    Ok(Some(program))
}

/// Where writers find the servers: any of them.
struct Doors {
    urls: Vec<(String, PathBuf)>,
    next: AtomicU64,
}

impl Doors {
    async fn connect(&self) -> Https {
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let at = usize::try_from(turn).unwrap_or(0) % self.urls.len();
            let (url, authority) = &self.urls[at];
            match Https::connect_to(url, authority).await {
                Ok(https) => return https,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// An object as its writer knows it.
#[derive(Clone, Default)]
struct Known {
    /// Of the object that is there.
    version: Option<String>,
    counter: u64,
}

struct Writer {
    doors: Arc<Doors>,
    https: Https,
    rng: StdRng,
    done: Arc<AtomicU64>,
    target: u64,
    objects: BTreeMap<String, Known>,
}

impl Writer {
    async fn run(mut self) -> Result<()> {
        let names: Vec<String> = self.objects.keys().cloned().collect();
        for name in &names {
            self.change(name, false).await?;
        }
        while self.done.load(Ordering::Relaxed) < self.target {
            let name = &names[self.rng.random_range(0..names.len())];
            let delete = self.rng.random_bool(0.1);
            self.change(name, delete).await?;
        }
        Ok(())
    }

    /// Carries one change of an object through.
    async fn change(&mut self, name: &str, delete: bool) -> Result<()> {
        let before = self.objects[name].clone();
        let started = Instant::now();
        loop {
            let known = self.objects[name].clone();
            // What was sent before is there after all.
            if known.counter != before.counter || known.version != before.version {
                break;
            }
            if !self.attempt(name, &known, delete).await? {
                ensure!(
                    started.elapsed() < PATIENCE,
                    "{name} could not be changed for {PATIENCE:?}"
                );
                self.read(name).await?;
            }
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a change; whether its success is known.
    async fn attempt(&mut self, name: &str, known: &Known, delete: bool) -> Result<bool> {
        let path = format!("{COLLECTION}/{name}");
        let counter = known.counter + 1;
        let mut object = json!({"kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": name}, "data": {"n": counter.to_string(), "filler": "x".repeat(200)}});
        let (method, path, body) = match &known.version {
            None => (Method::POST, COLLECTION.to_owned(), object),
            Some(version) if delete => {
                let options = json!({"kind": "DeleteOptions", "apiVersion": "v1",
                    "preconditions": {"resourceVersion": version}});
                (Method::DELETE, path, options)
            }
            Some(version) => {
                object["metadata"]["resourceVersion"] = version.as_str().into();
                (Method::PUT, path, object)
            }
        };
        let deleted = method == Method::DELETE;
        let Some((code, answer)) = self.send(method, &path, Some(&body)).await else {
            return Ok(false);
        };
        if !code.is_success() {
            // Another may have been faster only if an earlier try of ours was;
            // anything of the 4xx kind but these two is a mistake.
            ensure!(
                !code.is_client_error()
                    || code == StatusCode::CONFLICT
                    || code == StatusCode::NOT_FOUND
                    || code == StatusCode::TOO_MANY_REQUESTS,
                "{path}: {code} {answer}"
            );
            return Ok(false);
        }
        let known = self.objects.get_mut(name).context("an object")?;
        if deleted {
            known.version = None;
        } else {
            known.version = answer["metadata"]["resourceVersion"]
                .as_str()
                .map(str::to_owned);
            known.counter = counter;
        }
        Ok(true)
    }

    /// Reads what an object has become.
    async fn read(&mut self, name: &str) -> Result<()> {
        let path = format!("{COLLECTION}/{name}");
        let started = Instant::now();
        loop {
            let known = match self.send(Method::GET, &path, None).await {
                Some((StatusCode::OK, object)) => Some(Known {
                    version: object["metadata"]["resourceVersion"]
                        .as_str()
                        .map(str::to_owned),
                    counter: object["data"]["n"].as_str().context("n")?.parse()?,
                }),
                Some((StatusCode::NOT_FOUND, _)) => Some(Known {
                    version: None,
                    counter: self.objects[name].counter,
                }),
                _ => None,
            };
            if let Some(known) = known {
                self.objects.insert(name.to_owned(), known);
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "{name} could not be read");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The answer, if there is one.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(StatusCode, Value)> {
        let bytes = body.map(|body| body.to_string().into());
        let mut headers = http::HeaderMap::new();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        let sent = self
            .https
            .send(method, path, &headers, bytes.unwrap_or_default());
        match tokio::time::timeout(PATIENCE / 2, sent).await {
            Ok(Ok(answer)) => {
                let value = answer.json().ok()?;
                Some((answer.code, value))
            }
            _ => {
                self.https = self.doors.connect().await;
                None
            }
        }
    }
}

/// Follows changes while the store's leader is killed twice and one of the two
/// servers once; gives what the informers saw.
///
/// # Errors
/// Writers or informers fail, or a final cache is not what the store has.
pub async fn run(
    cluster: &mut Cluster,
    client_go: Option<&Path>,
    kube_rs: &Path,
    settings: &Settings,
) -> Result<Vec<Report>> {
    let endpoints = cluster.endpoints();
    let mut servers = [ApiServer::start(&endpoints)?, ApiServer::start(&endpoints)?];
    let doors = Arc::new(Doors {
        urls: servers
            .iter()
            .map(|server| (server.url(), server.ca()))
            .collect(),
        next: AtomicU64::new(0),
    });
    let namespace =
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": NAMESPACE}});
    let https = doors.connect().await;
    https
        .json(Method::POST, "/api/v1/namespaces", Some(&namespace))
        .await?;
    let mut informers = Vec::new();
    for (program, by) in [(client_go, "client-go"), (Some(kube_rs), "kube-rs")] {
        let Some(program) = program else {
            continue;
        };
        for (server, which) in servers.iter().zip([KILLED, LIVES]) {
            informers.push(Informer::start(
                program,
                server,
                &format!("{by} on {which}"),
            )?);
        }
    }
    let done = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let names = (number..settings.objects).step_by(usize::try_from(WRITERS)?);
        let writer = Writer {
            doors: doors.clone(),
            https: doors.connect().await,
            rng: StdRng::seed_from_u64(settings.seed.wrapping_mul(1_000).wrapping_add(number)),
            done: done.clone(),
            target: settings.changes,
            objects: names
                .map(|name| (format!("object-{name}"), Known::default()))
                .collect(),
        };
        writers.spawn(writer.run());
    }
    for (part, fault) in [(3, 0), (5, 1), (7, 0)] {
        reached(&mut writers, &done, settings.changes * part / 10).await?;
        if fault == 0 {
            let leader = cluster.leader().await?;
            cluster.kill(leader)?;
            cluster.restart(leader).await?;
        } else {
            servers[0].kill()?;
            servers[0].restart()?;
        }
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let expected = expected(cluster, &doors).await?;
    informers
        .into_iter()
        .map(|informer| informer.finish(&expected))
        .collect()
}

/// Waits until so many changes are done, or a writer failed.
async fn reached(writers: &mut JoinSet<Result<()>>, done: &AtomicU64, changes: u64) -> Result<()> {
    while done.load(Ordering::Relaxed) < changes {
        match tokio::time::timeout(PAUSE, writers.join_next()).await {
            Ok(Some(ended)) => ended??,
            Ok(None) => break,
            Err(_) => {}
        }
    }
    Ok(())
}

/// What the store has: revisions by its own word, counters by a server's.
async fn expected(cluster: &Cluster, doors: &Doors) -> Result<String> {
    let prefix = format!("/registry/configmaps/{NAMESPACE}/");
    let mut end = prefix.clone().into_bytes();
    *end.last_mut().context("a prefix")? += 1;
    let request = RangeRequest {
        key: prefix.clone().into(),
        range_end: end.into(),
        ..RangeRequest::default()
    };
    let mut kv = KvClient::new(cluster.channel(0)?).max_decoding_message_size(usize::MAX);
    let reply = kv.range(request).await?.into_inner();
    let list = doors
        .connect()
        .await
        .json(Method::GET, COLLECTION, None)
        .await?;
    let items = list["items"].as_array().context("items")?;
    let counters: BTreeMap<&str, &str> = items
        .iter()
        .filter_map(|item| {
            Some((
                item["metadata"]["name"].as_str()?,
                item["data"]["n"].as_str()?,
            ))
        })
        .collect();
    ensure!(
        counters.len() == reply.kvs.len(),
        "{} keys, {} listed",
        reply.kvs.len(),
        counters.len()
    );
    let mut expected = BTreeMap::new();
    for pair in &reply.kvs {
        let name = std::str::from_utf8(&pair.key)?.trim_start_matches(&prefix);
        let counter = counters
            .get(name)
            .with_context(|| format!("{name} is not listed"))?;
        expected.insert(name, format!("{}/{counter}", pair.mod_revision));
    }
    Ok(serde_json::to_string(&expected)?)
}

/// What must hold of the reports.
///
/// # Errors
/// An event came twice, or was missed without a new list that made up for it.
pub fn judge(reports: &[Report]) -> Result<()> {
    for report in reports {
        ensure!(report.repeated == 0, "an event came twice: {report:?}");
        // Only who lists again is allowed to skip what lay between.
        ensure!(
            report.jumped == 0 || report.lists > 1,
            "an event was missed: {report:?}"
        );
    }
    for report in reports.iter().filter(|one| one.of.ends_with(LIVES)) {
        ensure!(report.jumped == 0, "an event was missed: {report:?}");
    }
    Ok(())
}
