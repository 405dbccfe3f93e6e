//! Processes of the resource API over a cluster, on loopback.
//!
//! Knows the command line, the kubeconfig it writes and its log. Must not know
//! what it answers: that is for the clients that judge it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cluster;

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Everybody may do everything, without a word about who he is, and as much at once
/// as he likes.
const OPEN: &[&str] = &[
    "--authorization-mode=AlwaysAllow",
    "--anonymous-auth=true",
    "--enable-priority-and-fairness=false",
];

/// Plugins of admission that are on by default in both servers.
const PLUGINS: &[&str] = &[
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "MutatingAdmissionWebhook",
    "PodSecurity",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionWebhook",
];

/// Those of upstream's that the resource API does not have yet: each line goes
/// when it gets one.
pub const MISSING_PLUGINS: &[&str] = &[
    "ClusterTrustBundleAttest",
    "MutatingAdmissionPolicy",
    "NodeDeclaredFeatureValidator",
    "PersistentVolumeClaimResize",
    "PodGroupProtection",
    "PodResizeValidator",
    "PodTopologyLabels",
    "ValidatingAdmissionPolicy",
];

/// Turns off all plugins, unless these flags say which. What is compared or
/// measured without them is what the client wrote.
pub fn without_plugins(flags: &[&str]) -> Option<String> {
    const OFF: &str = "--disable-admission-plugins=";
    let said = flags.iter().any(|flag| flag.starts_with(OFF));
    let all = [PLUGINS, MISSING_PLUGINS].concat();
    (!said).then(|| format!("{OFF}{}", all.join(",")))
}

/// One server. Dropping it kills it and removes its directory, unless the
/// thread is panicking: then its log is printed.
#[derive(Debug)]
pub struct ApiServer {
    child: Option<Child>,
    binary: PathBuf,
    endpoints: Vec<String>,
    flags: Vec<String>,
    port: u16,
    directory: TempDir,
}

impl ApiServer {
    /// Starts a server over the store's endpoints (`host:port`) that lets
    /// everybody do everything, and waits until it serves.
    ///
    /// # Errors
    /// It is not built, ends, or does not serve within a minute.
    pub fn start(endpoints: &[String]) -> Result<Self> {
        Self::start_with(endpoints, &[])
    }

    /// The same with more flags, in `--name=value` form.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(endpoints: &[String], flags: &[&str]) -> Result<Self> {
        Self::start_secured(endpoints, &[OPEN, flags].concat())
    }

    /// A server that is asked who somebody is and what he may do.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_secured(endpoints: &[String], flags: &[&str]) -> Result<Self> {
        let port = cluster::free_ports(1)?
            .into_iter()
            .next()
            .context("a port")?;
        let mut server = Self {
            child: None,
            binary: cluster::apiserver()?,
            endpoints: endpoints
                .iter()
                .map(|one| format!("http://{one}"))
                .collect(),
            flags: flags
                .iter()
                .map(|flag| (*flag).to_owned())
                .chain(without_plugins(flags))
                .collect(),
            port,
            directory: tempfile::Builder::new().prefix("apiserver-").tempdir()?,
        };
        server.restart()?;
        Ok(server)
    }

    /// Starts a server that was killed, at the same address, and waits for it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))?;
        if self.kubeconfig().exists() {
            std::fs::remove_file(self.kubeconfig())?;
        }
        let child = Command::new(&self.binary)
            .arg(format!("--etcd-servers={}", self.endpoints.join(",")))
            .arg(format!("--listen=127.0.0.1:{}", self.port))
            .arg("--cert-dir")
            .arg(self.directory.path().join("pki"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("run {}", self.binary.display()))?;
        self.child = Some(child);
        let started = Instant::now();
        // Written when it is about to serve, after it bound its address.
        while !self.kubeconfig().exists() {
            if let Some(status) = self.child.as_mut().context("a child")?.try_wait()? {
                bail!("the apiserver ended with {status}:\n{}", self.log());
            }
            if started.elapsed() > DEADLINE {
                bail!("the apiserver does not serve:\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Kills the server with SIGKILL.
    ///
    /// # Errors
    /// It is not running.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the apiserver is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the server to stop with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// It is not running, or does not end well.
    pub fn terminate(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the apiserver is not running")?;
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        let status = child.wait()?;
        ensure!(status.success(), "the apiserver ended with {status}");
        Ok(())
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that tells clients how to reach it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate of its authority, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("pki/ca.crt")
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where a test may put files of its own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself: nothing is left to stop then.
            let _ = self.kill();
        }
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.url(), self.log());
        }
    }
}
