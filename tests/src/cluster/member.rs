//! One server process: its arguments, its life and its log.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Bytes of a log that a failure shows.
const TAIL: u64 = 4096;

#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub client: String,
    pub peer: String,
    /// Of both.
    pub scheme: &'static str,
}

#[derive(Debug)]
pub(super) struct Member {
    /// What the command begins with: words before the binary.
    runner: Vec<String>,
    binary: PathBuf,
    arguments: Vec<String>,
    addresses: Addresses,
    data_dir: PathBuf,
    log_path: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// Member `index` of those at `addresses`, not started yet.
    pub fn new(
        binary: &Path,
        directory: &Path,
        index: usize,
        addresses: &[Addresses],
        flags: &[String],
    ) -> Self {
        let name = name(index);
        Self {
            runner: Vec::new(),
            binary: binary.to_owned(),
            arguments: arguments(directory, index, addresses, "new", flags),
            addresses: addresses[index].clone(),
            log_path: directory.join(format!("{name}.log")),
            data_dir: directory.join(name),
            child: None,
        }
    }

    /// Member `index`, not started yet, to join the running cluster of
    /// `members`, itself included.
    pub fn joining(
        binary: &Path,
        directory: &Path,
        index: usize,
        own: Addresses,
        flags: &[String],
    ) -> Self {
        let name = name(index);
        Self {
            runner: Vec::new(),
            binary: binary.to_owned(),
            arguments: flags.to_vec(),
            addresses: own,
            log_path: directory.join(format!("{name}.log")),
            data_dir: directory.join(name),
            child: None,
        }
    }

    /// The members it is told of when it starts for the first time.
    pub fn set_members(&mut self, index: usize, members: &[(usize, Addresses)], flags: &[String]) {
        let directory = self.data_dir.parent().expect("it has a parent").to_owned();
        self.arguments = arguments_among(&directory, index, members, "existing", flags);
    }

    pub fn move_peer(&mut self, peer: String) {
        let before = std::mem::replace(&mut self.addresses.peer, peer);
        for argument in &mut self.arguments {
            *argument = argument.replace(&before, &self.addresses.peer);
        }
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn add_argument(&mut self, argument: String) {
        self.arguments.push(argument);
    }

    /// Has another command start it, which must become its process.
    pub fn run_by(&mut self, command: Vec<String>) {
        self.runner = command;
    }

    pub fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// Starts it with `once` added to its arguments.
    pub fn spawn(&mut self, once: &[&str]) -> Result<()> {
        if let Some(pid) = self.pid() {
            bail!("already running as {pid}");
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log_path)?;
        let mut words = self.runner.iter().map(OsStr::new);
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        let child = command
            .args(&self.arguments)
            .args(once)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The exit status if the process has ended; `None` while it runs.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.as_mut().context("not running")?.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub fn signal_term(&self) -> Result<()> {
        let child = self.child.as_ref().context("not running")?;
        kill_process(Pid::from_child(child), Signal::TERM)?;
        Ok(())
    }

    /// The end of the log under a heading with its path.
    pub fn log_tail(&self) -> String {
        let text = read_tail(&self.log_path).unwrap_or_else(|error| error.to_string());
        format!("\n--- end of {}:\n{text}", self.log_path.display())
    }
}

fn arguments(
    directory: &Path,
    index: usize,
    addresses: &[Addresses],
    state: &str,
    flags: &[String],
) -> Vec<String> {
    let members: Vec<(usize, Addresses)> = addresses.iter().cloned().enumerate().collect();
    arguments_among(directory, index, &members, state, flags)
}

fn arguments_among(
    directory: &Path,
    index: usize,
    members: &[(usize, Addresses)],
    state: &str,
    flags: &[String],
) -> Vec<String> {
    let name = name(index);
    let own = members
        .iter()
        .find(|(member, _)| *member == index)
        .map(|(_, addresses)| addresses)
        .expect("it is one of the members");
    let peers: Vec<String> = members
        .iter()
        .map(|(member, of)| format!("{}={}://{}", self::name(*member), of.scheme, of.peer))
        .collect();
    let mut arguments = vec![
        format!("--name={name}"),
        format!("--data-dir={}", directory.join(&name).display()),
        format!("--listen-client-urls={}://{}", own.scheme, own.client),
        format!("--advertise-client-urls={}://{}", own.scheme, own.client),
        format!("--listen-peer-urls={}://{}", own.scheme, own.peer),
        format!(
            "--initial-advertise-peer-urls={}://{}",
            own.scheme, own.peer
        ),
        format!("--initial-cluster={}", peers.join(",")),
        format!("--initial-cluster-state={state}"),
        "--initial-cluster-token=mizzen-tests".to_owned(),
    ];
    arguments.extend_from_slice(flags);
    arguments
}

/// Names count from 1, as in etcd's documentation.
pub(super) fn name(index: usize) -> String {
    format!("m{}", index + 1)
}

fn read_tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
