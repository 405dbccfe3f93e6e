//! Small file systems in memory, one for each member.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: &str = "size=512m,mode=0700";

/// Unmounted when dropped.
#[derive(Default)]
pub struct Disks {
    mounted: Vec<PathBuf>,
}

impl Disks {
    /// Makes the directory and mounts a file system on it, which takes root's
    /// rights.
    pub fn mount(&mut self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .arg(dir)
            .status()
            .context("run mount")?;
        ensure!(status.success(), "mount {}: {status}", dir.display());
        self.mounted.push(dir.to_path_buf());
        Ok(())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for dir in &self.mounted {
            // A process that has not ended yet keeps it until it has.
            let _left = Command::new("umount").arg("-l").arg(dir).status();
        }
    }
}
