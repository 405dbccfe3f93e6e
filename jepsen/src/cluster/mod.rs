//! A cluster of real processes of one binary, on loopback.
//!
//! Knows processes, ports, data directories and signals. Must not know
//! workloads, checks or why a process is stopped.

pub mod apiservers;
pub mod certificates;
pub mod disks;
pub mod faketime;
pub mod member;
pub mod ports;

use crate::clock::Clock;
use crate::history::file::Sink;
use crate::history::record::{Exit, Record};
use anyhow::{Context, Result};
use certificates::Certificates;
use member::Member;
use ports::Ports;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A member that ended by itself is started again this often before the run
/// is given up.
const SELF_EXITS: u32 = 5;
/// Heeded by a build of the store with the feature `planted`.
const FORGETS: &str = "MIZZEN_FORGETS";
/// What such a member says at its start.
const FORGETFUL: &str = "forgets what is not synced";
const TERM_PATIENCE: Duration = Duration::from_secs(20);

/// What clients may see of the cluster without a lock.
pub struct View {
    pub urls: Vec<String>,
    incarnations: Vec<AtomicU32>,
    pids: Vec<AtomicU32>,
}

impl View {
    /// Process ids of the last started processes, to tell which member
    /// opened a connection.
    pub fn pids(&self) -> Vec<(usize, u32)> {
        self.pids
            .iter()
            .map(|p| p.load(Ordering::SeqCst))
            .enumerate()
            .filter(|(_, pid)| *pid != 0)
            .collect()
    }

    pub fn members(&self) -> usize {
        self.urls.len()
    }

    /// Counts the starts of a member; zero before the first.
    pub fn incarnation(&self, member: usize) -> u32 {
        self.incarnations
            .get(member)
            .map_or(0, |n| n.load(Ordering::SeqCst))
    }
}

pub struct Config {
    pub binary: PathBuf,
    pub members: usize,
    /// Holds `data/` and `logs/`.
    pub dir: PathBuf,
    /// Peers reach each other through the link proxies.
    pub proxied: bool,
    /// Each member's files lie on a small file system of their own.
    pub small_disks: bool,
    /// The members' logs are to forget what was not synced when they are killed.
    pub forgetful: bool,
    /// The library by which the members' clocks can be moved.
    pub faketime: Option<PathBuf>,
    /// Members and clients speak mutual TLS.
    pub certificates: Option<Certificates>,
    /// Further flags for every member.
    pub server_args: Vec<String>,
}

pub struct Cluster {
    members: Vec<Member>,
    view: Arc<View>,
    clock: Clock,
    sink: Sink,
    self_exits: Vec<u32>,
    /// Members whose end is awaited and which are not started again.
    left_alone: Vec<bool>,
    /// Where each member's peers find it.
    peer_urls: Vec<String>,
    /// The members ask the library for the time that moves their clocks.
    heeds_clock: bool,
    _disks: disks::Disks,
}

impl Cluster {
    /// Prepares directories and command lines; starts nothing.
    pub fn new(config: &Config, ports: &Ports, clock: Clock, sink: Sink) -> Result<Cluster> {
        let logs = config.dir.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let mut members: Vec<Member> = (0..config.members)
            .map(|i| {
                let data = data_dir(&config.dir, i);
                // Of a connection that speaks TLS the scheme is not the
                // client's business.
                let url = format!("http://127.0.0.1:{}", ports.client(i));
                let args = arguments(config, ports, i, &data);
                Member::new(
                    i,
                    config.binary.clone(),
                    url,
                    data,
                    logs.join(format!("m{i}.log")),
                    args,
                )
            })
            .collect();
        let view = Arc::new(View {
            urls: members.iter().map(|m| m.client_url.clone()).collect(),
            incarnations: members.iter().map(|_| AtomicU32::new(0)).collect(),
            pids: members.iter().map(|_| AtomicU32::new(0)).collect(),
        });
        let self_exits = vec![0; members.len()];
        let left_alone = vec![false; members.len()];
        for member in &mut members {
            if let Some(library) = &config.faketime {
                let file = clock_file(&member.log);
                faketime::shift(&file, 0)?;
                member.environment = faketime::environment(library, &file);
            }
            if config.forgetful {
                member.environment.push((FORGETS.into(), "1".into()));
            }
        }
        let mut disks = disks::Disks::default();
        for member in members.iter().filter(|_| config.small_disks) {
            disks.mount(&member.data)?;
        }
        Ok(Cluster {
            members,
            view,
            clock,
            sink,
            self_exits,
            left_alone,
            heeds_clock: config.faketime.is_some() && !faketime::is_go(&config.binary)?,
            peer_urls: (0..config.members)
                .map(|i| peer_url(config, ports, i))
                .collect(),
            _disks: disks,
        })
    }

    /// Where the peers of a member find it.
    pub fn peer_url(&self, i: usize) -> Result<String> {
        let url = self.peer_urls.get(i);
        url.cloned().with_context(|| format!("no member {i}"))
    }

    /// Moves a member's wall clock this far from the true time. True when its
    /// process heeds that.
    pub fn shift_clock(&self, i: usize, seconds: i64) -> Result<bool> {
        let member = self.member(i)?;
        faketime::shift(&clock_file(&member.log), seconds)?;
        Ok(self.heeds_clock && member.pid().is_some_and(faketime::reaches))
    }

    /// True when every member said that its log forgets what is not synced.
    pub fn forgets(&self) -> Result<bool> {
        let said = |member: &Member| -> Result<bool> {
            let log = std::fs::read(&member.log)
                .with_context(|| format!("read {}", member.log.display()))?;
            Ok(String::from_utf8_lossy(&log).contains(FORGETFUL))
        };
        let said: Result<Vec<bool>> = self.members.iter().map(said).collect();
        Ok(said?.into_iter().all(|said| said))
    }

    /// From here on (or no longer) the end of this member's process surprises
    /// nobody.
    pub fn leave_alone(&mut self, i: usize, alone: bool) {
        if let Some(left) = self.left_alone.get_mut(i) {
            *left = alone;
        }
    }

    /// Takes a stopped member's files away. It joins the others when it starts.
    pub fn empty(&mut self, i: usize) -> Result<()> {
        let member = self.member_mut(i)?;
        for entry in std::fs::read_dir(&member.data)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            }
            .with_context(|| format!("remove {}", path.display()))?;
        }
        for arg in &mut member.args {
            *arg = arg.replace(
                "--initial-cluster-state=new",
                "--initial-cluster-state=existing",
            );
        }
        Ok(())
    }

    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    pub fn member(&self, i: usize) -> Result<&Member> {
        self.members
            .get(i)
            .with_context(|| format!("no member {i}"))
    }

    pub fn member_mut(&mut self, i: usize) -> Result<&mut Member> {
        self.members
            .get_mut(i)
            .with_context(|| format!("no member {i}"))
    }

    pub fn running(&self) -> Vec<usize> {
        self.members
            .iter()
            .filter(|m| m.running())
            .map(|m| m.index)
            .collect()
    }

    /// One character for each member: up, paused or down.
    pub fn sketch(&self) -> String {
        let mark = |m: &Member| match (m.running(), m.paused()) {
            (true, false) => 'U',
            (true, true) => 'P',
            (false, _) => '-',
        };
        self.members.iter().map(mark).collect()
    }

    pub fn start(&mut self, i: usize) -> Result<()> {
        let now = self.clock.now();
        let counter = self
            .view
            .incarnations
            .get(i)
            .with_context(|| format!("no member {i}"))?;
        let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let member = self.member_mut(i)?;
        member.start(&format!("start {n} at {now} ns"))?;
        let pid = member.pid().unwrap_or(0);
        if let Some(p) = self.view.pids.get(i) {
            p.store(pid, Ordering::SeqCst);
        }
        Ok(())
    }

    pub fn start_all(&mut self) -> Result<()> {
        (0..self.members.len())
            .filter(|i| !self.members[*i].running() && !self.left_alone[*i])
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|i| self.start(i))
    }

    /// SIGKILL to all of these with nothing in between, then waits for them.
    /// Returns how many ended by that signal.
    pub async fn kill(&mut self, targets: &[usize]) -> Result<u32> {
        // A process that ended by itself must not pass for one that was killed.
        self.watch_over().await?;
        self.kill_unwatched(targets).await
    }

    /// The same without a look at what ended before.
    pub async fn kill_unwatched(&mut self, targets: &[usize]) -> Result<u32> {
        for &i in targets {
            self.member(i)?.send_kill()?;
        }
        let mut killed = 0;
        for &i in targets {
            let status = self.member_mut(i)?.wait_gone().await?;
            killed += u32::from(status.signal() == Some(9));
            self.exited(i, true, status).await;
        }
        Ok(killed)
    }

    /// SIGTERM and wait. True when the process ended by itself with status 0
    /// or by that signal.
    pub async fn stop(&mut self, i: usize) -> Result<bool> {
        self.watch_over().await?;
        self.member_mut(i)?.send_term()?;
        self.await_end(i).await
    }

    /// SIGTERM to all at once, and wait.
    pub async fn stop_all(&mut self) -> Result<()> {
        self.watch_over().await?;
        let running = self.running();
        for &i in &running {
            self.member_mut(i)?.send_term()?;
        }
        for &i in &running {
            self.await_end(i).await?;
        }
        Ok(())
    }

    async fn await_end(&mut self, i: usize) -> Result<bool> {
        let stopped = self.member_mut(i)?.wait_end(TERM_PATIENCE).await?;
        self.exited(i, true, stopped.status).await;
        Ok(!stopped.killed && (stopped.status.success() || stopped.status.signal() == Some(15)))
    }

    /// Records processes that ended though nobody asked, and starts them
    /// again. An error means that a member does not stay up at all.
    pub async fn watch_over(&mut self) -> Result<()> {
        for i in 0..self.members.len() {
            let Some(status) = self.member_mut(i)?.reap()? else {
                continue;
            };
            let alone = self.left_alone[i];
            self.exited(i, alone, status).await;
            if alone {
                continue;
            }
            self.self_exits[i] += 1;
            let log = self.members[i].log.display().to_string();
            anyhow::ensure!(
                self.self_exits[i] < SELF_EXITS,
                "member {i} keeps ending ({status}); see {log}"
            );
            self.start(i)?;
        }
        Ok(())
    }

    async fn exited(&self, member: usize, asked: bool, status: ExitStatus) {
        let exit = Exit {
            member,
            at: self.clock.now(),
            asked,
            status: status.to_string(),
        };
        self.sink.record(Record::Exit(exit)).await;
    }
}

/// Beside the log of the member whose clock it moves.
fn clock_file(log: &Path) -> PathBuf {
    log.with_extension("clock")
}

pub fn data_dir(dir: &Path, member: usize) -> PathBuf {
    dir.join("data").join(format!("m{member}"))
}

fn peer_url(config: &Config, ports: &Ports, i: usize) -> String {
    let port = if config.proxied {
        ports.proxy(i)
    } else {
        ports.peer(i)
    };
    format!("{}://127.0.0.1:{port}", scheme(config))
}

fn scheme(config: &Config) -> &'static str {
    match config.certificates {
        Some(_) => "https",
        None => "http",
    }
}

fn arguments(config: &Config, ports: &Ports, i: usize, data: &Path) -> Vec<String> {
    let scheme = scheme(config);
    let client = format!("{scheme}://127.0.0.1:{}", ports.client(i));
    let advertised = |j: usize| peer_url(config, ports, j);
    let initial: Vec<String> = (0..config.members)
        .map(|j| format!("m{j}={}", advertised(j)))
        .collect();
    let flags = [
        ("name", format!("m{i}")),
        ("data-dir", data.display().to_string()),
        ("listen-client-urls", client.clone()),
        ("advertise-client-urls", client),
        (
            "listen-peer-urls",
            format!("{scheme}://127.0.0.1:{}", ports.peer(i)),
        ),
        ("initial-advertise-peer-urls", advertised(i)),
        ("initial-cluster", initial.join(",")),
        ("initial-cluster-state", "new".to_string()),
        (
            "initial-cluster-token",
            format!("jepsen-{}", ports.client(0)),
        ),
    ];
    let mut args: Vec<String> = flags
        .into_iter()
        .map(|(flag, value)| format!("--{flag}={value}"))
        .collect();
    args.extend(config.certificates.iter().flat_map(Certificates::flags));
    args.extend(config.server_args.iter().cloned());
    args
}
