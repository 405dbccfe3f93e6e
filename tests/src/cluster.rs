//! Clusters of etcd-compatible server processes on loopback.
//!
//! Knows etcd's command line, signals and the client API. Must not know which
//! server runs behind them: whatever passes here can be swapped for etcd.
//!
//! Members are numbered from 0. Ports stay the same over restarts.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{RangeRequest, StatusRequest, StatusResponse};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::hosts::Hosts;
use crate::machine::{self, Machine};

mod binary;
mod member;
mod pki;
mod ports;

pub use binary::{apiserver, certs, find_tool, mizzen, mizzen_older, reference};
use member::Member;
pub use pki::{Pki, client_config, secure_channel};
pub use ports::free as free_ports;

/// Bound of every wait in this module. Far above what a healthy server needs.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(20);
/// Bound of one probing call, so that a hung member does not use up the deadline.
const PROBE: Duration = Duration::from_secs(2);

/// What a member that serves says to strangers where there are users.
const USER_EMPTY: &str = "etcdserver: user name is empty";

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    binary: PathBuf,
    members: usize,
    first_port: Option<u16>,
    flags: Vec<String>,
    member_flags: Vec<(usize, String)>,
    directory: Option<PathBuf>,
    hosts: Option<Arc<Hosts>>,
    alone: bool,
    runner: Vec<String>,
    tls: bool,
}

impl Options {
    /// Three members of `binary` on free ports.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            members: 3,
            first_port: None,
            flags: Vec::new(),
            member_flags: Vec::new(),
            directory: None,
            hosts: None,
            alone: false,
            runner: Vec::new(),
            tls: false,
        }
    }

    /// No other test of the program runs beside the cluster: for those that
    /// judge how long something takes.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Each member is started by this command, which must become its process;
    /// with [`Options::hosts`] it is not.
    #[must_use]
    pub fn run_by(mut self, command: &[&str]) -> Self {
        self.runner = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Clients and peers speak mutual TLS, with the certificates of a [`Pki`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Each member runs on a host of its own instead of loopback.
    #[must_use]
    pub fn hosts(mut self, hosts: Arc<Hosts>) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// The number of members: 1, 3 or 5.
    #[must_use]
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// Member `i` gets client port `first + 2i` and peer port `first + 2i + 1`.
    #[must_use]
    pub fn first_port(mut self, first: u16) -> Self {
        self.first_port = Some(first);
        self
    }

    /// Below which the data goes, instead of the system's temporary directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// One more argument for every member, in `--name=value` form.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// One more argument for one member.
    #[must_use]
    pub fn member_flag(mut self, index: usize, flag: impl Into<String>) -> Self {
        self.member_flags.push((index, flag.into()));
        self
    }
}

/// A cluster in a temporary directory. Dropping it kills its processes, waits
/// for them and removes the directory, unless the thread is panicking: then the
/// directory stays and the ends of the logs are printed.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    flags: Vec<String>,
    members: Vec<Member>,
    directory: TempDir,
    /// None of a cluster that outlives its test.
    machine: Option<Machine>,
    pki: Option<Pki>,
}

impl Cluster {
    /// Starts the members and waits until each answers a linearizable read.
    ///
    /// # Errors
    /// A member exits or is not ready within a minute. The logs are printed and kept.
    pub async fn start(options: Options) -> Result<Self> {
        let mut cluster = Self::prepare(options).await?;
        match cluster.launch().await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.keep();
                Err(error)
            }
        }
    }

    /// A cluster of which no member has been started yet.
    ///
    /// # Errors
    /// No free ports, or no directory.
    pub async fn prepare(mut options: Options) -> Result<Self> {
        ensure!(
            [1, 3, 5].contains(&options.members),
            "{} members asked for",
            options.members
        );
        let parent = options.directory.take().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(parent)?;
        let pki = match options.tls {
            true => Some(Pki::new(&directory.path().join("pki"))?),
            false => None,
        };
        options.flags.extend(pki.iter().flat_map(Pki::flags));
        let ports = match options.first_port {
            Some(first) => (first..).take(2 * options.members).collect(),
            None => ports::free(2 * options.members)?,
        };
        let host = |index| {
            let hosts = options.hosts.as_ref();
            hosts.map_or(Ipv4Addr::LOCALHOST, |hosts| hosts.address(index))
        };
        let addresses: Vec<member::Addresses> = (0..)
            .zip(ports.chunks_exact(2))
            .map(|(index, pair)| member::Addresses {
                client: format!("{}:{}", host(index), pair[0]),
                peer: format!("{}:{}", host(index), pair[1]),
                scheme: if options.tls { "https" } else { "http" },
            })
            .collect();
        let machine = Some(if options.alone {
            machine::alone().await
        } else {
            machine::shared().await
        });
        let mut cluster = Self {
            binary: options.binary,
            flags: options.flags,
            members: Vec::new(),
            directory,
            machine,
            pki,
        };
        for index in 0..options.members {
            let mut member = Member::new(
                &cluster.binary,
                cluster.directory.path(),
                index,
                &addresses,
                &cluster.flags,
            );
            let own = options.member_flags.iter().filter(|(of, _)| *of == index);
            own.for_each(|(_, flag)| member.add_argument(flag.clone()));
            if let Some(hosts) = &options.hosts {
                member.run_by(hosts.prefix(index));
            } else {
                member.run_by(options.runner.clone());
            }
            cluster.members.push(member);
        }
        Ok(cluster)
    }

    /// From now on the cluster is no reason for others to wait.
    pub fn give_machine_back(&mut self) {
        self.machine = None;
    }

    async fn launch(&mut self) -> Result<()> {
        for index in 0..self.len() {
            self.spawn(index)?;
        }
        for index in 0..self.len() {
            self.wait_ready(index).await?;
        }
        Ok(())
    }

    /// Runs a test against a cluster of its own. If it fails, the directory stays
    /// and the ends of the logs are printed, as when it panics.
    ///
    /// # Errors
    /// As [`start`](Self::start), or the test's own.
    pub async fn run(
        options: Options,
        test: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        Self::start(options).await?.attend(test).await
    }

    /// Runs a test against this cluster, as [`run`](Self::run) does.
    ///
    /// # Errors
    /// The test's own.
    pub async fn attend(mut self, test: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let result = test(&mut self).await;
        if result.is_err() {
            self.keep();
        }
        result
    }

    /// Addresses for one more member, which is not started and which no member
    /// knows of yet. Gives its number.
    ///
    /// # Errors
    /// No free ports.
    pub fn reserve(&mut self) -> Result<usize> {
        let index = self.members.len();
        let ports = ports::free(2)?;
        let own = member::Addresses {
            client: format!("127.0.0.1:{}", ports[0]),
            peer: format!("127.0.0.1:{}", ports[1]),
            scheme: if self.pki.is_some() { "https" } else { "http" },
        };
        let directory = self.directory.path();
        let member = Member::joining(&self.binary, directory, index, own, &self.flags);
        self.members.push(member);
        Ok(index)
    }

    /// Kills the member reserved last and forgets it with all it has stored.
    ///
    /// # Errors
    /// Its data cannot be removed.
    pub fn discard_last(&mut self) -> Result<()> {
        if let Some(mut last) = self.members.pop() {
            last.kill()?;
            std::fs::remove_dir_all(last.data_dir())?;
            std::fs::remove_file(last.log_path())?;
        }
        Ok(())
    }

    /// Starts a reserved member as one of `members`, which the running cluster
    /// must list, without waiting for it.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn join(&mut self, index: usize, members: &[usize]) -> Result<()> {
        let members: Vec<_> = members
            .iter()
            .map(|member| (*member, self.members[*member].addresses().clone()))
            .collect();
        self.members[index].set_members(index, &members, &self.flags);
        self.spawn(index)
    }

    /// Has a stopped member listen for its peers where `spare` would.
    pub fn move_peer(&mut self, index: usize, spare: usize) {
        let peer = self.members[spare].addresses().peer.clone();
        self.members[index].move_peer(peer);
    }

    /// What the members call a member.
    pub fn name(&self, index: usize) -> String {
        member::name(index)
    }

    /// The peer URL of a member.
    pub fn peer_url(&self, index: usize) -> String {
        let addresses = self.members[index].addresses();
        format!("{}://{}", addresses.scheme, addresses.peer)
    }

    /// The certificates, if the members speak TLS.
    pub fn pki(&self) -> Option<&Pki> {
        self.pki.as_ref()
    }

    /// Whether a member has ended by itself.
    ///
    /// # Errors
    /// The member is not running.
    pub fn has_ended(&mut self, index: usize) -> Result<bool> {
        Ok(self.members[index].try_wait()?.is_some())
    }

    /// Waits until a member has ended by itself.
    ///
    /// # Errors
    /// It still runs after a minute.
    pub async fn wait_end(&mut self, index: usize) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.members[index].try_wait()? {
                return Ok(status);
            }
            ensure!(started.elapsed() < DEADLINE, "member {index} runs on");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The number of members, running or not.
    #[allow(clippy::len_without_is_empty, reason = "a cluster has members")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The client address of a member, as `host:port`.
    pub fn endpoint(&self, index: usize) -> &str {
        &self.members[index].addresses().client
    }

    /// The client addresses of all members, as `host:port`.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.len())
            .map(|index| self.endpoint(index).to_owned())
            .collect()
    }

    /// A connection to one member, opened by its first call.
    ///
    /// # Errors
    /// None for an address made here.
    pub fn channel(&self, index: usize) -> Result<Channel> {
        if let Some(pki) = &self.pki {
            return secure_channel(self.endpoint(index), pki.client()?);
        }
        let uri = format!("http://{}", self.endpoint(index));
        Ok(Endpoint::from_shared(uri)?.connect_lazy())
    }

    /// The process id of a running member.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.members[index].pid()
    }

    /// The file with all output of a member, over restarts.
    pub fn log_path(&self, index: usize) -> &Path {
        self.members[index].log_path()
    }

    /// The data directory of a member.
    pub fn data_dir(&self, index: usize) -> &Path {
        self.members[index].data_dir()
    }

    /// Kills a member with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// The member is not running.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.members[index].kill()
    }

    /// Asks a member to stop with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// The member is not running, or still runs after a minute.
    pub async fn terminate(&mut self, index: usize) -> Result<ExitStatus> {
        self.members[index].signal_term()?;
        self.wait_end(index).await
    }

    /// Starts a stopped member on its data directory, without waiting for it.
    ///
    /// # Errors
    /// The member is running, or the binary cannot be started.
    pub fn spawn(&mut self, index: usize) -> Result<()> {
        self.members[index].spawn(&[])
    }

    /// As [`spawn`](Self::spawn), this once with more arguments.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_with(&mut self, index: usize, once: &[&str]) -> Result<()> {
        self.members[index].spawn(once)
    }

    /// The program that a member is from its next start on.
    pub fn set_binary(&mut self, index: usize, binary: &Path) {
        self.members[index].set_binary(binary);
    }

    /// Starts a stopped member on its data directory and waits until it is ready.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`wait_ready`](Self::wait_ready).
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.spawn(index)?;
        self.wait_ready(index).await
    }

    /// As [`restart`](Self::restart), for members whose certificates are not
    /// those they began with.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn restart_with(
        &mut self,
        index: usize,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<()> {
        self.spawn(index)?;
        let channel = secure_channel(self.endpoint(index), config)?;
        self.wait_ready_by(index, channel).await
    }

    /// Waits until a member answers a linearizable read, or asks who reads.
    ///
    /// # Errors
    /// It exits, or does not answer within a minute.
    pub async fn wait_ready(&mut self, index: usize) -> Result<()> {
        let channel = self.channel(index)?;
        self.wait_ready_by(index, channel).await
    }

    async fn wait_ready_by(&mut self, index: usize, channel: Channel) -> Result<()> {
        let mut client = KvClient::new(channel);
        let started = Instant::now();
        loop {
            let request = RangeRequest {
                key: Bytes::from_static(b"ready"),
                count_only: true,
                ..Default::default()
            };
            let failure = match tokio::time::timeout(PROBE, client.range(request)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) if status.message() == USER_EMPTY => return Ok(()),
                Ok(Err(status)) => status.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            let member = &mut self.members[index];
            if let Some(status) = member.try_wait()? {
                bail!("member {index} ended with {status}");
            }
            if started.elapsed() > DEADLINE {
                bail!("member {index} is not ready: {failure}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The reply of one member to Maintenance Status.
    ///
    /// # Errors
    /// The member does not answer.
    pub async fn status(&self, index: usize) -> Result<StatusResponse> {
        let mut client = MaintenanceClient::new(self.channel(index)?);
        let reply = tokio::time::timeout(PROBE, client.status(StatusRequest {})).await;
        Ok(reply.context("no answer to status")??.into_inner())
    }

    /// Waits until a running member says that it leads and gives its number. Of
    /// several the one with the highest term counts: the others are out of date.
    ///
    /// # Errors
    /// No leader within a minute.
    pub async fn leader(&self) -> Result<usize> {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            let mut leader = None;
            for index in (0..self.len()).filter(|&index| self.pid(index).is_some()) {
                let Ok(status) = self.status(index).await else {
                    continue;
                };
                let own_id = status.header.map(|header| header.member_id);
                if own_id == Some(status.leader) {
                    leader = leader.max(Some((status.raft_term, index)));
                }
            }
            if let Some((_, index)) = leader {
                return Ok(index);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("no leader")
    }

    /// The ends of all logs with their paths.
    pub fn log_tails(&self) -> String {
        self.members.iter().map(Member::log_tail).collect()
    }

    fn keep(&mut self) {
        self.directory.disable_cleanup(true);
        eprintln!("{}", self.failure_report());
        eprintln!("kept: {}", self.directory.path().display());
    }

    /// What a failed test prints: the ends of the logs, and how to run it again.
    pub fn failure_report(&self) -> String {
        let thread = std::thread::current();
        format!(
            "{}\nreproduce: MIZZEN_BIN={} cargo test --release -p mizzen-tests {}",
            self.log_tails(),
            self.binary.display(),
            thread.name().unwrap_or_default()
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if member.pid().is_some() {
                // It may have ended by itself meanwhile: nothing is left to stop then.
                let _ = member.kill();
            }
        }
        if std::thread::panicking() {
            self.keep();
        }
    }
}
