//! One run from the start of the cluster to the end of its processes. Leaves
//! a directory with the history and the logs; judges nothing.

use crate::cli::RunArgs;
use crate::client::Bench;
use crate::client::stats::Stats;
use crate::clock::Clock;
use crate::cluster::apiservers::ApiServers;
use crate::cluster::certificates::{Certificates, Holder};
use crate::cluster::ports::{MAX_APISERVERS, Ports};
use crate::cluster::{self, Cluster, faketime};
use crate::evidence::Collected;
use crate::evidence::scan::Scanner;
use crate::evidence::watch::{self, Watcher};
use crate::finale;
use crate::history::file::Writer;
use crate::history::record::{Meta, Phase, Record, WatchNote};
use crate::nemesis::kind::Kind;
use crate::nemesis::probe::Probe;
use crate::nemesis::{Nemesis, Now, Plan};
use crate::net::link::Links;
use crate::net::proxy;
use crate::progress::Progress;
use crate::seed;
use crate::workload::{self, Actor, Shared, objects};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long a new cluster may take to answer.
const BOOT: Duration = Duration::from_secs(60);
/// How long all members may take to answer after the last fault was undone.
const HEAL: Duration = Duration::from_secs(60);
/// Load goes on this long after healing, so that it shows in the history.
const SETTLE: Duration = Duration::from_secs(2);
const DEFAULT_TIME: Duration = Duration::from_secs(60);
/// With a number of faults and no time given, the run ends at the latest after
/// twice the interval and this for each fault.
const LONGEST_FAULT: Duration = Duration::from_secs(30);
const MONITOR: Duration = Duration::from_millis(100);
/// The id of the client that compacts.
const COMPACTOR: u32 = 3_000_000;

pub const HISTORY: &str = "history.jsonl";
pub const LOGS: &str = "logs";

/// Everything of a run that is going on.
struct Stage {
    args: RunArgs,
    kinds: Vec<Kind>,
    seed: u64,
    bench: Arc<Bench>,
    cluster: Arc<Mutex<Cluster>>,
    links: Option<Links>,
    probe: Probe,
    now: Arc<Now>,
    /// Of the workload on the resource API.
    apis: Option<Arc<Mutex<ApiServers>>>,
}

/// Runs, and returns once all processes ended and the history is on disk.
pub async fn run(args: &RunArgs, seed: u64, dir: &Path) -> Result<()> {
    let kinds = args.kinds().map_err(anyhow::Error::msg)?;
    let members = usize::from(args.members);
    let proxied = kinds.iter().any(|k| k.needs_proxy());
    ensure!(
        !proxied || members > 2,
        "faults of the network need at least three members"
    );
    let binary = args
        .binary
        .canonicalize()
        .with_context(|| format!("no binary {}", args.binary.display()))?;
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let (sink, writer) = Writer::create(&dir.join(HISTORY))?;
    let ports = Ports::claim()?;
    let clock = Clock::start();
    let certificates = match args.speaks_tls(&kinds) {
        true => Some(Certificates::new(&dir.join("certificates"))?),
        false => None,
    };
    let config = cluster::Config {
        binary,
        members,
        dir: dir.to_path_buf(),
        proxied,
        faketime: faketime::library().filter(|_| kinds.contains(&Kind::Clock)),
        small_disks: kinds.iter().any(|k| k.needs_small_disks()),
        forgetful: kinds.contains(&Kind::PowerLoss),
        certificates: certificates.clone(),
        server_args: [args.workload.server_args(), args.server_args.clone()].concat(),
    };
    ensure!(
        config.faketime.is_some() || !kinds.contains(&Kind::Clock),
        "clock takes libfaketime, which is not installed"
    );
    let cluster = Cluster::new(&config, &ports, clock, sink.clone())?;
    let view = cluster.view();
    let apis = apiservers(args, dir, &ports, &view.urls)?;
    let links = proxied.then(|| Links::new(members));
    if let Some(links) = &links {
        for m in 0..members {
            proxy::start(
                m,
                ports.proxy(m),
                ports.peer(m),
                links.clone(),
                Arc::clone(&view),
            )
            .await?;
        }
    }
    let bench = Arc::new(Bench::new(
        clock,
        view,
        sink,
        Arc::new(Stats::default()),
        args.timeout,
        certificates,
    ));
    let stage = Stage {
        args: args.clone(),
        kinds,
        seed,
        probe: Probe::new(&bench),
        bench,
        cluster: Arc::new(Mutex::new(cluster)),
        links,
        now: Arc::new(Now::default()),
        apis,
    };
    let progress = tokio::spawn(stage.progress().run());
    let outcome = tokio::select! {
            outcome = stage.play() => outcome,
    why = interrupted() => Err(why),
        };
    progress.abort();
    let _ended = progress.await.is_err();
    let stopped = stage.shut_down(outcome.is_ok()).await;
    drop(stage);
    let lines = tokio::task::spawn_blocking(|| writer.finish()).await??;
    eprintln!(
        "history: {lines} records in {}",
        dir.join(HISTORY).display()
    );
    outcome.and(stopped)
}

/// Servers of the resource API over all members, if the workload takes them.
fn apiservers(
    args: &RunArgs,
    dir: &Path,
    ports: &Ports,
    store: &[String],
) -> Result<Option<Arc<Mutex<ApiServers>>>> {
    if args.workload != workload::Kind::Objects {
        return Ok(None);
    }
    let binary = args.apiserver.as_ref();
    let binary = binary.context("the workload objects takes --apiserver")?;
    let binary = binary
        .canonicalize()
        .with_context(|| format!("no binary {}", binary.display()))?;
    let count = store.len().min(MAX_APISERVERS);
    let ports: Vec<u16> = (0..count).map(|i| ports.apiserver(i)).collect();
    let servers = ApiServers::new(binary, store, dir, &ports)?;
    Ok(Some(Arc::new(Mutex::new(servers))))
}

/// Ends when the harness is asked to stop, so that it can end its processes.
async fn interrupted() -> anyhow::Error {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => anyhow::anyhow!("interrupted"),
        _ = terminated => anyhow::anyhow!("terminated"),
    }
}

impl Stage {
    fn progress(&self) -> Progress {
        Progress {
            clock: self.bench.clock,
            stats: Arc::clone(&self.bench.stats),
            now: Arc::clone(&self.now),
            cluster: Arc::clone(&self.cluster),
        }
    }

    /// The whole run, given up when a member does not stay up.
    async fn play(&self) -> Result<()> {
        tokio::select! {
            played = async { self.boot().await?; self.acts().await } => played,
            why = self.monitor() => Err(why),
        }
    }

    async fn acts(&self) -> Result<()> {
        let (collected, collectors) = self.start_evidence().await?;
        let stop = Arc::new(AtomicBool::new(false));
        let load = match &self.apis {
            Some(apis) => self.start_objects(apis, &stop).await?,
            None => self.start_load(&stop, &collected)?,
        };
        self.phase(Phase::LoadStart).await;
        self.faults(&collected).await?;
        let healthy = self.heal().await?;
        tokio::time::sleep(SETTLE).await;
        stop.store(true, Ordering::Relaxed);
        load.join_all().await;
        self.phase(Phase::LoadEnd).await;
        self.finish(&collected, collectors, healthy).await
    }

    async fn phase(&self, phase: Phase) {
        self.bench
            .sink
            .record(Record::Phase {
                at: self.bench.clock.now(),
                phase,
            })
            .await;
    }

    async fn boot(&self) -> Result<()> {
        self.cluster.lock().await.start_all()?;
        let late = self.probe.unhealthy(BOOT).await;
        if !late.is_empty() {
            bail!("members {late:?} of the new cluster do not answer; see the logs");
        }
        let meta = Meta {
            command: self.args.repeat(self.seed),
            binary: self.args.binary.display().to_string(),
            version: self.probe.version(0).await,
            seed: self.seed,
            members: self.bench.view.members(),
            clients: self.args.clients,
            workload: self.args.workload.name().into(),
            faults: self.kinds.iter().map(|k| k.name().to_string()).collect(),
            times: self.args.times,
        };
        self.bench.sink.record(Record::Meta(meta)).await;
        if !finale::initial(&self.bench).await? {
            bail!("the first read of the new cluster failed");
        }
        if self.args.workload == workload::Kind::Auth
            && !workload::auth::enable(&self.bench).await?
        {
            bail!("authentication could not be switched on");
        }
        Ok(())
    }

    /// Notices members that end by themselves; ends when one keeps doing so.
    async fn monitor(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(MONITOR).await;
            if let Err(why) = self.cluster.lock().await.watch_over().await {
                return why;
            }
        }
    }

    /// A watch on each member, or one scanner where there is no watch.
    async fn start_evidence(&self) -> Result<(Arc<Collected>, JoinSet<()>)> {
        let mut collectors = JoinSet::new();
        let members = self.bench.view.members();
        let watched = !self.args.no_watch && watch::supported(&self.bench, 0).await;
        let collected = Arc::new(Collected::new(if watched { members } else { 1 }));
        if watched {
            for member in 0..members {
                let watcher = Watcher {
                    bench: Arc::clone(&self.bench),
                    member,
                    collected: Arc::clone(&collected),
                };
                collectors.spawn(watcher.run());
            }
        } else {
            if !self.args.no_watch {
                let at = self.bench.clock.now();
                self.bench
                    .sink
                    .record(Record::WatchNote {
                        member: 0,
                        at,
                        note: WatchNote::Unimplemented,
                    })
                    .await;
            }
            collectors.spawn(Scanner::new(&self.bench, &collected)?.run());
        }
        Ok((collected, collectors))
    }

    async fn start_objects(
        &self,
        apis: &Mutex<ApiServers>,
        stop: &Arc<AtomicBool>,
    ) -> Result<JoinSet<()>> {
        let mut apis = apis.lock().await;
        apis.start_all().await?;
        let api = objects::Api::new(Arc::clone(&self.bench), apis.addresses(), self.seed);
        drop(apis);
        api.prepare().await?;
        let api = Arc::new(api);
        let mut load = JoinSet::new();
        for id in 0..self.args.clients {
            load.spawn(objects::ApiActor::new(&api, id).run(Arc::clone(stop)));
        }
        Ok(load)
    }

    fn start_load(
        &self,
        stop: &Arc<AtomicBool>,
        collected: &Arc<Collected>,
    ) -> Result<JoinSet<()>> {
        let mut load = JoinSet::new();
        let shared = Arc::new(Shared::new(self.seed, self.args.clients));
        let pace = (self.args.rate > 0)
            .then(|| Duration::from_secs(1) * self.args.clients / self.args.rate);
        for id in 0..self.args.clients {
            let actor = Actor::new(
                &self.bench,
                &shared,
                id,
                workload::auth::holder(self.args.workload, id),
            )?;
            load.spawn(actor.run(self.args.workload, pace, Arc::clone(stop)));
        }
        if self.args.workload.compacts() {
            let actor = Actor::new(&self.bench, &shared, COMPACTOR, Holder::Root)?;
            load.spawn(workload::compaction::run(
                actor,
                Arc::clone(collected),
                Arc::clone(stop),
            ));
        }
        Ok(load)
    }

    /// Until the time is over, or all faults asked for are done.
    async fn faults(&self, collected: &Arc<Collected>) -> Result<()> {
        let halt = Arc::new(AtomicBool::new(false));
        let counted = self.args.times > 0 && !self.kinds.is_empty();
        let longest = (self.args.interval * 2 + LONGEST_FAULT) * self.args.times;
        let default = if counted { longest } else { DEFAULT_TIME };
        let time = self.args.time.unwrap_or(default);
        let nemesis = Nemesis {
            bench: Arc::clone(&self.bench),
            cluster: Arc::clone(&self.cluster),
            links: self.links.clone(),
            apis: self.apis.clone(),
            probe: self.probe.clone(),
            collected: Arc::clone(collected),
            rng: seed::stream(self.seed, "fault", 0),
            plan: Plan {
                kinds: self.kinds.clone(),
                interval: self.args.interval,
                times: self.args.times,
            },
            now: Arc::clone(&self.now),
            stop: Arc::clone(&halt),
        };
        // In a set, so that it ends with this run whatever happens.
        let mut task = JoinSet::new();
        task.spawn(nemesis.run());
        let deadline = Instant::now() + time;
        match tokio::time::timeout_at(deadline, task.join_next()).await {
            Ok(Some(ended)) => {
                ended??;
                if self.kinds.is_empty() {
                    sleep_until(deadline).await;
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(_) => {
                halt.store(true, Ordering::Relaxed);
                task.join_next().await.map_or(Ok(()), |ended| ended?)
            }
        }
    }

    /// Undoes whatever may be left; true once every member answers.
    async fn heal(&self) -> Result<bool> {
        if let Some(links) = &self.links {
            links.heal();
        }
        self.cluster.lock().await.start_all()?;
        self.phase(Phase::Healed).await;
        let late = self.probe.unhealthy(HEAL).await;
        self.phase(if late.is_empty() {
            Phase::AllHealthy
        } else {
            Phase::Unhealthy
        })
        .await;
        Ok(late.is_empty())
    }

    async fn finish(
        &self,
        collected: &Collected,
        mut collectors: JoinSet<()>,
        healthy: bool,
    ) -> Result<()> {
        let head = if healthy {
            finale::operations(&self.bench).await?
        } else {
            0
        };
        if head > 0 {
            finale::hashes(&self.bench, head).await?;
        }
        collected.set_goal(head.max(self.bench.stats.head()));
        while let Some(ended) = collectors.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Ends all processes: in order after a whole run, at once after a broken one.
    async fn shut_down(&self, in_order: bool) -> Result<()> {
        if let Some(apis) = &self.apis {
            apis.lock().await.kill_all().await?;
        }
        let mut cluster = self.cluster.lock().await;
        if in_order {
            cluster.stop_all().await
        } else {
            let running = cluster.running();
            cluster.kill_unwatched(&running).await.map(|_| ())
        }
    }
}

/// Where a run's files go when the command line does not say.
pub fn default_dir(args: &RunArgs, seed: u64) -> PathBuf {
    let fault = args.fault.replace(',', "+");
    let name = format!(
        "{}-{fault}-{seed}-{}",
        args.workload.name(),
        std::process::id()
    );
    std::env::temp_dir().join("mizzen-jepsen").join(name)
}
