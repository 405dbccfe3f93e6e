//! What the system says of a process.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Its resident memory, bytes.
///
/// # Errors
/// It has ended.
pub fn rss(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
}
