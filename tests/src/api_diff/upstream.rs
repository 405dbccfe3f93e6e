//! Upstream's kube-apiserver as a process, set up so that it answers what the
//! resource API could.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, HeaderValue, Method};
use tempfile::TempDir;

use crate::apiserver;
use crate::cluster;
use crate::https::Https;

/// What a client of it sends as `authorization`.
pub const TOKEN: &str = "Bearer token-of-the-tests";
/// Whose it is, as a line of static tokens.
pub const ADMIN: &str = "token-of-the-tests,admin,admin,\"system:masters\"\n";
/// Everybody may do everything, and as much at once as he likes.
const OPEN: &[&str] = &[
    "--authorization-mode=AlwaysAllow",
    "--enable-priority-and-fairness=false",
];
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// One server. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Upstream {
    child: Child,
    port: u16,
    directory: TempDir,
}

/// The program: `KUBE_APISERVER_BIN`, or beside the reference etcd.
///
/// # Errors
/// It was not built.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUBE_APISERVER_BIN") {
        return Ok(path.into());
    }
    cluster::find_tool("kube-apiserver")
        .into_iter()
        .next()
        .context("no kube-apiserver: `make reference` builds it, where Go is")
}

impl Upstream {
    /// Starts it over a store (`host:port`) and waits until it is ready.
    ///
    /// # Errors
    /// It is not built, ends, or is not ready in time.
    pub async fn start(endpoint: &str) -> Result<Self> {
        Self::start_with(endpoint, OPEN).await
    }

    /// The same with these flags, in `--name=value` form.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(endpoint: &str, flags: &[&str]) -> Result<Self> {
        let port = cluster::free_ports(1)?
            .into_iter()
            .next()
            .context("a port")?;
        let directory = tempfile::Builder::new()
            .prefix("kube-apiserver-")
            .tempdir()?;
        let file = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(file("tokens"), ADMIN)?;
        let log = File::create(directory.path().join("log"))?;
        let key = rcgen::KeyPair::generate()?;
        std::fs::write(file("sa.key"), key.serialize_pem())?;
        std::fs::write(file("sa.pub"), key.public_key_pem())?;
        let own = [
            ("token-auth-file", "tokens"),
            ("service-account-signing-key-file", "sa.key"),
            ("service-account-key-file", "sa.pub"),
        ];
        let own = own.map(|(flag, name)| format!("--{flag}={}", file(name)));
        let own = own.into_iter().chain([
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ]);
        // What is given stands in the place of what is made here.
        let own = own.filter(|own| {
            let name = own.split('=').next().unwrap_or(own);
            !flags.iter().any(|flag| flag.starts_with(name))
        });
        let child = Command::new(program()?)
            .arg(format!("--etcd-servers=http://{endpoint}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", file("pki")))
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .args(own)
            .args(flags)
            .args([
                "--allow-privileged=true",
                "--service-cluster-ip-range=10.96.0.0/12",
            ])
            .args(apiserver::without_plugins(flags))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Self {
            child,
            port,
            directory,
        };
        server.wait().await?;
        Ok(server)
    }

    async fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("kube-apiserver ended with {status}:\n{}", self.log());
            }
            if started.elapsed() > DEADLINE {
                bail!("kube-apiserver is not ready:\n{}", self.log());
            }
            if self.is_ready().await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is_ready(&self) -> Result<bool> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(TOKEN));
        let https = self.connect().await?;
        let answer = https.send(Method::GET, "/readyz", &headers, bytes::Bytes::new());
        Ok(answer.await?.code.is_success())
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// It does not listen.
    pub async fn connect(&self) -> Result<Https> {
        // Its own file holds the server's certificate first, its authority's next.
        let pair = self.directory.path().join("pki/apiserver.crt");
        let text = std::fs::read_to_string(&pair)?;
        let start = text.rfind("-----BEGIN").context("no certificate")?;
        let path = self.directory.path().join("ca.crt");
        std::fs::write(&path, &text[start..])?;
        Https::connect_to(&format!("https://127.0.0.1:{}", self.port), &path).await
    }

    /// All it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // It may have ended by itself: nothing is left to stop then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
