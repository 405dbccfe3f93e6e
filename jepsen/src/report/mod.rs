//! The report of a run: one page that needs nothing else to be read.

pub mod chart;
mod escape;
pub mod page;
pub mod series;

use crate::check::Finding;
use crate::history::History;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Writes `report.html` into the directory of the run.
pub fn write(dir: &Path, history: &History, findings: &[Finding]) -> Result<PathBuf> {
    let path = dir.join("report.html");
    std::fs::write(&path, page::page(history, findings))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
