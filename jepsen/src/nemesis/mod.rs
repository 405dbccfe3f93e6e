//! The nemesis: injects faults one after the other, by a seeded schedule, and
//! records what it did and whether it was seen to work.
//!
//! The choices (kind, victim, duration) follow from the seed; which member
//! leads at that moment does not, and is recorded.

pub mod admin;
pub mod apiserver;
pub mod clock;
pub mod damage;
pub mod disk;
pub mod kind;
pub mod membership;
pub mod network;
pub mod probe;
pub mod process;

use crate::client::Bench;
use crate::clock::Nanos;
use crate::cluster::Cluster;
use crate::cluster::apiservers::ApiServers;
use crate::evidence::Collected;
use crate::history::record::{Fault, Injected, Record};
use crate::net::link::Links;
use anyhow::Result;
use kind::Kind;
use parking_lot::Mutex as State;
use probe::Probe;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// A pause or partition shorter than this would end before an election.
const SHORTEST_CUT: Duration = Duration::from_secs(2);
/// Between the end of a fault and the next one, at the least.
const BREATH: Duration = Duration::from_millis(200);
/// How long a member may take to answer after a fault was undone, before the
/// schedule goes on without it.
const RECOVER: Duration = Duration::from_secs(10);
/// The same after every member was down.
const RECOVER_ALL: Duration = Duration::from_secs(60);

pub struct Plan {
    pub kinds: Vec<Kind>,
    pub interval: Duration,
    /// Stop after this many faults; zero for no limit.
    pub times: u32,
}

/// What the progress line shows.
#[derive(Default)]
pub struct Now {
    pub fault: State<String>,
    pub done: AtomicU32,
    pub kills: AtomicU32,
}

pub struct Nemesis {
    pub bench: Arc<Bench>,
    pub cluster: Arc<Mutex<Cluster>>,
    pub links: Option<Links>,
    pub apis: Option<Arc<Mutex<ApiServers>>>,
    pub probe: Probe,
    pub collected: Arc<Collected>,
    pub rng: StdRng,
    pub plan: Plan,
    pub now: Arc<Now>,
    pub stop: Arc<AtomicBool>,
}

/// What one injection came to.
pub struct Done {
    pub members: Vec<usize>,
    pub hit_leader: bool,
    pub injected: Injected,
    pub kills: u32,
    pub detail: String,
}

impl Done {
    fn skipped(why: &str) -> Done {
        Done {
            members: Vec::new(),
            hit_leader: false,
            injected: Injected::Skipped,
            kills: 0,
            detail: why.into(),
        }
    }
}

impl Nemesis {
    /// Works until stopped or until the planned number of faults is done.
    /// Everything is healed when it returns.
    pub async fn run(mut self) -> Result<()> {
        let mut order: Vec<Kind> = Vec::new();
        let mut due = Instant::now() + self.between();
        while !self.plan.kinds.is_empty() && !self.finished() {
            self.sleep_until(due).await;
            if self.finished() {
                break;
            }
            // Every kind has its turn before any comes again.
            if order.is_empty() {
                order = self.plan.kinds.clone();
                order.shuffle(&mut self.rng);
            }
            let Some(kind) = order.pop() else { break };
            let begun = Instant::now();
            self.inject(kind).await?;
            let pause = if matches!(kind, Kind::KillAll | Kind::PowerLoss) {
                self.between()
            } else {
                BREATH
            };
            due = (begun + self.between()).max(Instant::now() + pause);
        }
        self.now.fault.lock().clear();
        Ok(())
    }

    fn finished(&self) -> bool {
        let done = self.plan.times > 0 && self.now.done.load(Ordering::Relaxed) >= self.plan.times;
        done || self.stop.load(Ordering::Relaxed)
    }

    fn between(&mut self) -> Duration {
        self.plan.interval.mul_f64(self.rng.random_range(0.8..1.2))
    }

    async fn sleep_until(&self, due: Instant) {
        while Instant::now() < due && !self.stop.load(Ordering::Relaxed) {
            sleep((due - Instant::now()).min(Duration::from_millis(100))).await;
        }
    }

    /// Holds a fault for this long, or until the run is stopped.
    pub async fn hold(&self, length: Duration) {
        self.sleep_until(Instant::now() + length).await;
    }

    /// How long a process stays down.
    pub fn downtime(&mut self) -> Duration {
        self.plan.interval.mul_f64(self.rng.random_range(0.1..0.5))
    }

    /// How long a pause or partition lasts.
    pub fn cut_time(&mut self) -> Duration {
        self.plan
            .interval
            .mul_f64(self.rng.random_range(0.5..1.0))
            .max(SHORTEST_CUT)
    }

    async fn inject(&mut self, kind: Kind) -> Result<()> {
        *self.now.fault.lock() = kind.name().to_string();
        let start = self.bench.clock.now();
        let done = match kind {
            Kind::KillRandom | Kind::KillLeader | Kind::KillBusy => {
                process::kill(self, kind).await?
            }
            Kind::KillAll | Kind::PowerLoss => process::kill_all(self, kind).await?,
            Kind::KillApiserver => apiserver::kill(self).await?,
            Kind::PauseRandom | Kind::PauseLeader => process::pause(self, kind).await?,
            Kind::RollingRestart => process::rolling_restart(self).await?,
            Kind::Compact | Kind::Defragment | Kind::MoveLeader => {
                admin::inject(self, kind).await?
            }
            Kind::Clock => clock::inject(self).await?,
            Kind::MemberShrink | Kind::MemberReplace => membership::inject(self, kind).await?,
            Kind::DiskFull | Kind::DiskSlow | Kind::DiskError => disk::inject(self, kind).await?,
            Kind::FlipLog | Kind::FlipRows | Kind::FlipSnapshot | Kind::TruncateLog => {
                damage::inject(self, kind).await?
            }
            _ => network::inject(self, kind).await,
        };
        let end = self.bench.clock.now();
        if done.injected != Injected::Skipped {
            self.now.done.fetch_add(1, Ordering::Relaxed);
        }
        self.now.kills.fetch_add(done.kills, Ordering::Relaxed);
        self.now.fault.lock().clear();
        self.record(kind, start, end, done).await;
        Ok(())
    }

    async fn record(&self, kind: Kind, start: Nanos, end: Nanos, done: Done) {
        let Done {
            members,
            hit_leader,
            injected,
            kills,
            detail,
        } = done;
        let kind = kind.name().to_string();
        self.bench
            .sink
            .record(Record::Fault(Fault {
                kind,
                members,
                hit_leader,
                start,
                end,
                injected,
                kills,
                detail,
            }))
            .await;
    }

    /// The leader, asked from the members whose processes run.
    pub async fn leader(&self) -> Option<usize> {
        let running = self.cluster.lock().await.running();
        self.probe.leader(&running).await
    }

    /// Any member, or why nothing is done: one that is down already.
    pub async fn any_if_all_run(&mut self) -> Result<usize, Done> {
        let running = self.cluster.lock().await.running();
        if running.len() < self.bench.view.members() {
            return Err(Done::skipped("a member is down"));
        }
        let any = running.choose(&mut self.rng).copied();
        any.ok_or_else(|| Done::skipped("no members"))
    }

    /// Waits until these members answer; says what came of it.
    pub async fn recover(&self, members: &[usize], all: bool) -> String {
        let patience = if all { RECOVER_ALL } else { RECOVER };
        let from = Instant::now();
        let mut late = Vec::new();
        for &m in members {
            let left = patience.saturating_sub(from.elapsed());
            if !self.probe.healthy(m, left).await {
                late.push(m);
            }
        }
        match late.is_empty() {
            true => format!("answered again after {:.2} s", from.elapsed().as_secs_f64()),
            false => format!(
                "members {late:?} did not answer within {} s",
                patience.as_secs()
            ),
        }
    }
}
