//! What the system says of a process, and what it lets one have.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Per second, in what Linux tells processes of their time (USER_HZ).
const TICKS: u64 = 100;

/// Its resident memory, bytes.
///
/// # Errors
/// It has ended.
pub fn rss(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most resident memory that it had, bytes.
///
/// # Errors
/// It has ended.
pub fn peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| name.to_owned())?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
}

/// How long processors have worked for it.
///
/// # Errors
/// It has ended.
pub fn worked(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // Behind the name, which may have spaces, utime and stime are the 12th and 13th.
    let (_, rest) = stat.rsplit_once(')').context("stat")?;
    let ticks: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(
        ticks.iter().sum::<u64>() * 1_000 / TICKS,
    ))
}

/// A command that starts another in a control group with so many bytes of memory,
/// for [`crate::cluster::Options::run_by`].
///
/// # Errors
/// There are no control groups.
pub fn limited(bytes: u64) -> Result<Vec<String>> {
    let old = Path::new("/sys/fs/cgroup/memory");
    let (root, file) = match old.is_dir() {
        true => (old, "memory.limit_in_bytes"),
        false => (Path::new("/sys/fs/cgroup"), "memory.max"),
    };
    ensure!(root.join("cgroup.procs").exists(), "no control groups here");
    let script = format!(
        "g={}/mizzen-$$ && mkdir -p $g && echo {bytes} > $g/{file} && echo $$ > $g/cgroup.procs && exec \"$@\"",
        root.display()
    );
    Ok(["sh", "-c", &script, "sh"].map(str::to_owned).to_vec())
}
