//! Faults of processes: kill -9, SIGSTOP, SIGTERM.

use super::kind::Kind;
use super::{Done, Nemesis};
use crate::history::record::Injected;
use anyhow::Result;
use rand::Rng;
use rand::seq::IndexedRandom;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The state letter the kernel shows for a stopped process.
const STOPPED: char = 'T';

fn installed(seen: bool) -> Injected {
    if seen {
        Injected::Installed
    } else {
        Injected::Indeterminate
    }
}

/// A victim, and whether it leads.
async fn victim(n: &mut Nemesis, leader_only: bool) -> Option<(usize, bool)> {
    let leader = n.leader().await;
    let running = n.cluster.lock().await.running();
    let random = running.choose(&mut n.rng).copied();
    let chosen = if leader_only {
        leader.filter(|l| running.contains(l))
    } else {
        random
    };
    chosen.map(|c| (c, Some(c) == leader))
}

/// Keeps all processors computing until it is dropped.
struct Busy {
    end: Arc<AtomicBool>,
}

impl Busy {
    fn start() -> Result<Self> {
        let busy = Self {
            end: Arc::default(),
        };
        for _ in 0..std::thread::available_parallelism()?.get() {
            let end = Arc::clone(&busy.end);
            std::thread::Builder::new()
                .name("busy".into())
                .spawn(move || {
                    while !end.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })?;
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// kill -9 of one member, a while without it, start, wait for its answer.
pub async fn kill(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    let Some((m, hit_leader)) = victim(n, kind == Kind::KillLeader).await else {
        return Ok(Done::skipped("no victim known"));
    };
    let down = n.downtime();
    let _busy = (kind == Kind::KillBusy).then(Busy::start).transpose()?;
    let kills = n.cluster.lock().await.kill(&[m]).await?;
    n.hold(down).await;
    n.cluster.lock().await.start(m)?;
    let detail = n.recover(&[m], false).await;
    Ok(Done {
        members: vec![m],
        hit_leader,
        injected: installed(kills == 1),
        kills,
        detail,
    })
}

/// kill -9 of all members at one moment, then start all. It is a loss of power
/// for members that forget what they had not synced.
pub async fn kill_all(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    let down = Duration::from_millis(n.rng.random_range(0..300));
    let mut cluster = n.cluster.lock().await;
    let all = cluster.running();
    let forgetful = kind != Kind::PowerLoss || cluster.forgets()?;
    let kills = cluster.kill(&all).await?;
    drop(cluster);
    tokio::time::sleep(down).await;
    n.cluster.lock().await.start_all()?;
    let mut detail = n.recover(&all, true).await;
    if !forgetful {
        detail.push_str("; the members forget nothing when they are killed");
    }
    let complete = kills as usize == all.len() && all.len() == n.bench.view.members();
    let seen = complete && forgetful;
    Ok(Done {
        members: all,
        hit_leader: true,
        injected: installed(seen),
        kills,
        detail,
    })
}

/// SIGSTOP of one member, a while, SIGCONT.
pub async fn pause(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    let Some((m, hit_leader)) = victim(n, kind == Kind::PauseLeader).await else {
        return Ok(Done::skipped("no victim known"));
    };
    let length = n.cut_time();
    let mut cluster = n.cluster.lock().await;
    cluster.member_mut(m)?.pause()?;
    let pid = cluster.member(m)?.pid();
    drop(cluster);
    n.hold(length).await;
    let seen = pid.is_some_and(|p| state(p) == Some(STOPPED));
    n.cluster.lock().await.member_mut(m)?.resume()?;
    let detail = format!(
        "stopped for {:.1} s; {}",
        length.as_secs_f64(),
        n.recover(&[m], false).await
    );
    Ok(Done {
        members: vec![m],
        hit_leader,
        injected: installed(seen),
        kills: 0,
        detail,
    })
}

/// The state letter of a process, from the kernel.
fn state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state follows it.
    text.rsplit(')').next()?.trim_start().chars().next()
}

/// SIGTERM, wait for the end, start, wait for the answer: each member in turn.
pub async fn rolling_restart(n: &mut Nemesis) -> Result<Done> {
    let members = n.cluster.lock().await.running();
    let mut orderly = true;
    let mut detail = Vec::new();
    for &m in &members {
        let mut cluster = n.cluster.lock().await;
        orderly &= cluster.stop(m).await?;
        cluster.start(m)?;
        drop(cluster);
        detail.push(format!("m{m} {}", n.recover(&[m], false).await));
    }
    if !orderly {
        detail.push("a member did not end in order on SIGTERM".into());
    }
    Ok(Done {
        members,
        hit_leader: true,
        injected: installed(orderly),
        kills: 0,
        detail: detail.join("; "),
    })
}
