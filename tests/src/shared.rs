//! Clusters that tests of one program share, started by the first that asks.
//!
//! Tests beside each other must not see each other: each works in a namespace
//! or below a prefix of its own, and what concerns a whole store (revisions,
//! compaction, alarms) takes a turn or a cluster of its own. Nobody kills a
//! shared process.
//!
//! A static is never dropped, so a shell waits for the end of this process,
//! however it comes, and stops the servers then.

use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::apiserver::ApiServer;
use crate::cluster::{self, Cluster, Options};
use crate::https::Https;

/// Two resource APIs over a store of three members.
#[derive(Debug)]
pub struct ResourceApi {
    pub cluster: Cluster,
    pub servers: [ApiServer; 2],
    _reaper: ChildStdin,
}

impl ResourceApi {
    /// A connection to each of the two, for one test.
    ///
    /// # Errors
    /// A server does not listen.
    pub async fn doors(&self) -> Result<[Https; 2]> {
        let [first, second] = &self.servers;
        Ok([Https::connect(first).await?, Https::connect(second).await?])
    }

    /// What a failed test shows: the ends of the logs.
    pub fn failure_report(&self) -> String {
        let mut report = self.cluster.failure_report();
        for server in &self.servers {
            report += &format!("\nlog of {}:\n{}", server.url(), server.log());
        }
        report
    }
}

/// The resource API of all tests that work in namespaces of their own.
///
/// # Errors
/// It does not start.
pub async fn resource_api() -> Result<&'static ResourceApi> {
    static SHARED: OnceCell<ResourceApi> = OnceCell::const_new();
    let start = async || {
        let cluster = start_cluster().await?;
        let endpoints = cluster.endpoints();
        let servers = [ApiServer::start(&endpoints)?, ApiServer::start(&endpoints)?];
        let mut pids = pids(&cluster);
        pids.extend(servers.iter().filter_map(ApiServer::pid));
        let mut folders = vec![folder(&cluster)?];
        folders.extend(servers.iter().map(|one| one.directory().to_owned()));
        anyhow::Ok(ResourceApi {
            _reaper: reaper(&pids, &folders)?,
            cluster,
            servers,
        })
    };
    SHARED.get_or_try_init(start).await
}

/// One test's turn on the shared store.
#[derive(Debug)]
pub struct Turn {
    cluster: &'static Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Turn {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.cluster.failure_report());
        }
    }
}

/// The store of three members that tests use one at a time. Whoever has the
/// turn leaves no alarm and no member behind.
///
/// # Errors
/// It does not start.
pub async fn store() -> Result<Turn> {
    static SHARED: OnceCell<(Cluster, ChildStdin)> = OnceCell::const_new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let start = async || {
        let cluster = start_cluster().await?;
        let reaper = reaper(&pids(&cluster), &[folder(&cluster)?])?;
        anyhow::Ok((cluster, reaper))
    };
    let (cluster, _) = SHARED.get_or_try_init(start).await?;
    Ok(Turn {
        cluster,
        _turn: ONE_AT_A_TIME.lock().await,
    })
}

async fn start_cluster() -> Result<Cluster> {
    let mut cluster = Cluster::start(Options::new(cluster::mizzen()?)).await?;
    cluster.give_machine_back();
    Ok(cluster)
}

fn pids(cluster: &Cluster) -> Vec<u32> {
    (0..cluster.len())
        .filter_map(|index| cluster.pid(index))
        .collect()
}

fn folder(cluster: &Cluster) -> Result<PathBuf> {
    let folder = cluster.log_path(0).parent();
    folder.map(Path::to_owned).context("a log lies in a folder")
}

/// Kills the processes and removes the folders when what it gives is dropped or
/// this process ends.
fn reaper(pids: &[u32], folders: &[PathBuf]) -> Result<ChildStdin> {
    const SCRIPT: &str = "cat; kill -9 $PIDS; rm -rf \"$@\" || { sleep 1; rm -rf \"$@\"; }";
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "reaper"])
        .args(folders)
        .env("PIDS", pids.join(" "))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // What interrupts this process from a terminal does not end the shell.
        .process_group(0)
        .spawn()
        .context("run sh")?;
    shell.stdin.take().context("stdin")
}
