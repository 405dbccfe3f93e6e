//! One member: its command line, its process, its signals.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a process may take to be gone after SIGKILL.
const GONE: Duration = Duration::from_secs(10);

pub struct Member {
    pub index: usize,
    pub client_url: String,
    pub data: PathBuf,
    pub log: PathBuf,
    pub args: Vec<String>,
    pub binary: PathBuf,
    /// Added to the process's environment.
    pub environment: Vec<(String, String)>,
    child: Option<Child>,
    paused: bool,
}

/// How a process that was asked to stop ended.
pub struct Stopped {
    pub status: ExitStatus,
    /// True when SIGTERM was not enough within the time given.
    pub killed: bool,
}

impl Member {
    pub fn new(
        index: usize,
        binary: PathBuf,
        client_url: String,
        data: PathBuf,
        log: PathBuf,
        args: Vec<String>,
    ) -> Member {
        Member {
            index,
            client_url,
            data,
            log,
            args,
            binary,
            environment: Vec::new(),
            child: None,
            paused: false,
        }
    }

    pub fn running(&self) -> bool {
        self.child.is_some()
    }

    pub fn paused(&self) -> bool {
        self.paused
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the process. Its output is appended to the log, below a line
    /// that marks the start.
    pub fn start(&mut self, note: &str) -> Result<()> {
        if self.child.is_some() {
            bail!("member {} is already running", self.index);
        }
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        writeln!(
            log,
            "=== {note}: {} {}",
            self.binary.display(),
            self.args.join(" ")
        )?;
        let errors = log.try_clone()?;
        let child = Command::new(&self.binary)
            .args(&self.args)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // A child that is not reaped yet keeps its id, so this can never hit
        // another process.
        let pid = self
            .pid()
            .and_then(|p| i32::try_from(p).ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid else {
            bail!("member {} is not running", self.index)
        };
        kill_process(pid, signal).with_context(|| format!("signal member {}", self.index))
    }

    /// SIGKILL without waiting, for killing several at once.
    pub fn send_kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.paused = true;
        Ok(())
    }

    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.paused = false;
        Ok(())
    }

    /// Waits until a process that was sent SIGKILL is gone.
    pub async fn wait_gone(&mut self) -> Result<ExitStatus> {
        let Some(child) = self.child.as_mut() else {
            bail!("member {} is not running", self.index)
        };
        let status = tokio::time::timeout(GONE, child.wait())
            .await
            .with_context(|| format!("member {} survived SIGKILL", self.index))??;
        self.child = None;
        self.paused = false;
        Ok(status)
    }

    /// SIGTERM without waiting. A paused process goes on, to hear it.
    pub fn send_term(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.paused { self.resume() } else { Ok(()) }
    }

    /// Waits for the end of a process that was sent SIGTERM; SIGKILL when it
    /// has not ended within `patience`.
    pub async fn wait_end(&mut self, patience: Duration) -> Result<Stopped> {
        let Some(child) = self.child.as_mut() else {
            bail!("member {} is not running", self.index)
        };
        match tokio::time::timeout(patience, child.wait()).await {
            Ok(status) => {
                self.child = None;
                Ok(Stopped {
                    status: status?,
                    killed: false,
                })
            }
            Err(_) => {
                self.send_kill()?;
                Ok(Stopped {
                    status: self.wait_gone().await?,
                    killed: true,
                })
            }
        }
    }

    /// The status of a process that ended on its own since the last call.
    pub fn reap(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = self.child.as_mut() else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
            self.paused = false;
        }
        Ok(status)
    }
}
