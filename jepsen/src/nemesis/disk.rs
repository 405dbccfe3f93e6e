//! Disks that are full, slow or failing, under one member.
//!
//! A full disk is a small file system of its own, which takes root's rights.
//! Slow and failing ones are system calls that strace delays or fails, so any
//! binary will do, but strace must be there.

use super::kind::Kind;
use super::{Done, Nemesis};
use crate::history::record::Injected;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

const BALLAST: &str = "ballast";
/// Added to each sync of a slow disk, microseconds.
const SLOW: u32 = 100_000;
/// How long a process may go on after its disk failed.
const END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

pub async fn inject(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    let leader = n.leader().await;
    let m = match n.any_if_all_run().await {
        Ok(m) => m,
        Err(skipped) => return Ok(skipped),
    };
    n.cluster.lock().await.leave_alone(m, true);
    let (seen, what) = match kind {
        Kind::DiskFull => full(n, m).await?,
        Kind::DiskSlow => slow(n, m).await?,
        _ => failing(n, m).await?,
    };
    let mut cluster = n.cluster.lock().await;
    cluster.watch_over().await?;
    let ended = !cluster.running().contains(&m);
    if ended {
        cluster.start(m)?;
    }
    cluster.leave_alone(m, false);
    drop(cluster);
    let went_on = if ended { "ended" } else { "went on" };
    let recovered = n.recover(&[m], false).await;
    Ok(Done {
        members: vec![m],
        hit_leader: leader == Some(m),
        injected: if seen {
            Injected::Installed
        } else {
            Injected::Indeterminate
        },
        kills: 0,
        detail: format!("m{m}: {what}; the process {went_on}; {recovered}"),
    })
}

/// Fills the member's file system, and frees it again.
async fn full(n: &mut Nemesis, m: usize) -> Result<(bool, String)> {
    let data = n.cluster.lock().await.member(m)?.data.clone();
    let path = data.join(BALLAST);
    let ballast = path.clone();
    let filled = tokio::task::spawn_blocking(move || fill(&ballast)).await??;
    let length = n.cut_time();
    n.hold(length).await;
    // What was freed meanwhile is taken too.
    let ballast = path.clone();
    let more = tokio::task::spawn_blocking(move || fill(&ballast)).await??;
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    let what = format!(
        "no space for {:.1} s, {filled} bytes taken at first, {} later",
        length.as_secs_f64(),
        more.saturating_sub(filled)
    );
    Ok((true, what))
}

/// Writes until there is no space; gives the length of the file.
fn fill(path: &Path) -> Result<u64> {
    let mut file = File::options().create(true).append(true).open(path)?;
    for size in [1 << 20, 4096, 1] {
        let block = vec![0x55; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(file.metadata()?.len())
}

/// Starts strace on a member with this rule for the calls that sync files.
async fn strace(n: &Nemesis, m: usize, rule: &str) -> Result<Option<Child>> {
    let Some(pid) = n.cluster.lock().await.member(m)?.pid() else {
        return Ok(None);
    };
    let calls = "fsync,fdatasync,sync_file_range,msync";
    let started = Command::new("strace")
        .args(["-q", "-f", "-o", "/dev/null"])
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:{rule}"))
        .arg("-p")
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    Ok(started.ok())
}

/// Ends strace in order, so that the member goes on without it.
async fn let_go(mut strace: Child) -> Result<bool> {
    let attached = strace.try_wait()?.is_none();
    if let Some(pid) = strace
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        kill_process(pid, Signal::INT)?;
        let _ended = timeout(END, strace.wait()).await;
    }
    Ok(attached)
}

async fn slow(n: &mut Nemesis, m: usize) -> Result<(bool, String)> {
    let length = n.cut_time();
    let Some(strace) = strace(n, m, &format!("delay_exit={SLOW}")).await? else {
        return Ok((false, "strace could not be started".into()));
    };
    n.hold(length).await;
    let seen = let_go(strace).await?;
    let what = format!(
        "every sync took {} ms more for {:.1} s",
        SLOW / 1000,
        length.as_secs_f64()
    );
    Ok((seen, what))
}

/// Every sync fails from some moment on. A process that goes on after that
/// may acknowledge what it does not have.
async fn failing(n: &mut Nemesis, m: usize) -> Result<(bool, String)> {
    let Some(strace) = strace(n, m, "error=EIO").await? else {
        return Ok((false, "strace could not be started".into()));
    };
    let from = Instant::now();
    let mut ended = false;
    while !ended && from.elapsed() < END {
        sleep(POLL).await;
        let mut cluster = n.cluster.lock().await;
        cluster.watch_over().await?;
        ended = !cluster.running().contains(&m);
    }
    let _attached = let_go(strace).await?;
    let what = format!("syncs failed for {:.2} s", from.elapsed().as_secs_f64());
    Ok((ended, what))
}
