//! Servers of the resource API over all members, on loopback.
//!
//! Knows their command line, the files they write and signals. Must not know
//! what they are asked.

use anyhow::{Context, Result, bail, ensure};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a server may take until it is about to serve.
const BOOT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Where clients find a server.
#[derive(Clone, Debug)]
pub struct Address {
    pub port: u16,
    /// The authority of its certificate, PEM. It is there once the server is.
    pub authority: PathBuf,
}

struct Server {
    port: u16,
    dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

pub struct ApiServers {
    binary: PathBuf,
    store: Vec<String>,
    servers: Vec<Server>,
}

impl ApiServers {
    /// Prepares servers; starts none. `dir` holds their files and `logs/`.
    pub fn new(binary: PathBuf, store: &[String], dir: &Path, ports: &[u16]) -> Result<ApiServers> {
        let server = |(i, port): (usize, &u16)| -> Result<Server> {
            let own = dir.join("apiservers").join(format!("a{i}"));
            std::fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
            Ok(Server {
                port: *port,
                dir: own,
                log: dir.join("logs").join(format!("a{i}.log")),
                child: None,
            })
        };
        Ok(ApiServers {
            binary,
            store: store.to_vec(),
            servers: ports
                .iter()
                .enumerate()
                .map(server)
                .collect::<Result<_>>()?,
        })
    }

    pub fn addresses(&self) -> Vec<Address> {
        let address = |server: &Server| Address {
            port: server.port,
            authority: server.dir.join("pki").join("ca.crt"),
        };
        self.servers.iter().map(address).collect()
    }

    pub fn len(&self) -> usize {
        self.servers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Starts a server, and returns when it is about to serve.
    pub async fn start(&mut self, i: usize) -> Result<()> {
        let server = self.servers.get_mut(i).context("no such server")?;
        ensure!(server.child.is_none(), "server {i} runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&server.log)?;
        // Written when the address is bound.
        let ready = server.dir.join("kubeconfig");
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let child = Command::new(&self.binary)
            .arg(format!("--etcd-servers={}", self.store.join(",")))
            .arg(format!("--listen=127.0.0.1:{}", server.port))
            .arg("--cert-dir")
            .arg(server.dir.join("pki"))
            .arg("--kubeconfig")
            .arg(&ready)
            .args(["--authorization-mode=AlwaysAllow", "--anonymous-auth=true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        let child = server.child.insert(child);
        let begun = Instant::now();
        while !ready.exists() {
            if let Some(status) = child.try_wait()? {
                bail!("a{i} ended with {status}; see {}", server.log.display());
            }
            ensure!(begun.elapsed() < BOOT, "a{i} does not serve");
            sleep(POLL).await;
        }
        Ok(())
    }

    pub async fn start_all(&mut self) -> Result<()> {
        for i in 0..self.servers.len() {
            if self.servers[i].child.is_none() {
                self.start(i).await?;
            }
        }
        Ok(())
    }

    /// SIGKILL.
    pub async fn kill(&mut self, i: usize) -> Result<()> {
        let server = self.servers.get_mut(i).context("no such server")?;
        if let Some(mut child) = server.child.take() {
            child.kill().await.context("kill a server")?;
        }
        Ok(())
    }

    pub async fn kill_all(&mut self) -> Result<()> {
        for i in 0..self.servers.len() {
            self.kill(i).await?;
        }
        Ok(())
    }
}
