//! What `make run` and `make demo` start, in a folder and on ports of its own.
//!
//! Knows the scripts, their environment and the files they leave. Must not know
//! what is asked of what they start.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::cluster;

/// Three replicas, stopped when dropped.
pub struct Script {
    folder: TempDir,
    ports: Vec<u16>,
}

impl Script {
    /// Starts nothing yet.
    ///
    /// # Errors
    /// There is no folder, or there are no ports.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::Builder::new().prefix("run-").tempdir()?,
            ports: cluster::free_ports(10)?,
        })
    }

    pub fn run(&self) -> &Path {
        self.folder.path()
    }

    /// The ports of the three servers of the API.
    pub fn apis(&self) -> &[u16] {
        &self.ports[6..9]
    }

    /// Calls a script of the repository.
    ///
    /// # Errors
    /// It fails; with what it printed.
    pub fn ok(&self, script: &str, argument: &str) -> Result<String> {
        let output = self.call(script, argument)?;
        printed(&output, &format!("{script} {argument}"))
    }

    fn call(&self, script: &str, argument: &str) -> Result<Output> {
        let ports = |range: std::ops::Range<usize>| {
            let ports = self.ports[range].iter().map(u16::to_string);
            ports.collect::<Vec<_>>().join(" ")
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        // Where upstream's components are, if they are anywhere.
        let reference = cluster::find_tool("kubemark").into_iter().next();
        let reference = reference.as_deref().and_then(Path::parent);
        Command::new(root.join(script))
            .arg(argument)
            .env("MIZZEN", cluster::mizzen()?)
            .env("MIZZEN_CERTS", cluster::certs()?)
            .env("MIZZEN_APISERVER", cluster::apiserver()?)
            .env("REFERENCE", reference.unwrap_or(Path::new("")))
            .env("RUN", self.run())
            .env("CLIENTS", ports(0..3))
            .env("PEERS", ports(3..6))
            .env("APIS", ports(6..9))
            .env("SHARED", ports(9..10))
            .output()
            .with_context(|| format!("run {script}"))
    }

    /// # Errors
    /// kubectl fails; with what it printed.
    pub fn kubectl(&self, kubeconfig: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new("kubectl")
            .env("KUBECONFIG", self.run().join(kubeconfig))
            .env("KUBECACHEDIR", self.run().join("cache"))
            .args(arguments)
            .output()?;
        printed(&output, &format!("kubectl {arguments:?} with {kubeconfig}"))
    }

    /// The files that name processes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn pids(&self) -> Result<Vec<PathBuf>> {
        let files = std::fs::read_dir(self.run())?.map(|entry| Ok(entry?.path()));
        let files: Result<Vec<PathBuf>> = files.collect();
        Ok(files?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|one| one == "pid"))
            .collect())
    }

    /// Kills a process by its name, as a machine that loses power does.
    ///
    /// # Errors
    /// It is not there.
    pub fn kill(&self, name: &str) -> Result<()> {
        let pid = std::fs::read_to_string(self.run().join(format!("{name}.pid")))?;
        let killed = Command::new("kill").args(["-9", pid.trim()]).status()?;
        ensure!(killed.success(), "kill -9 of {name} ({})", pid.trim());
        Ok(())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Err(error) = self.ok("store/run.sh", "stop") {
            eprintln!("{error:#}");
        }
    }
}

fn printed(output: &Output, what: &str) -> Result<String> {
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {printed}");
    Ok(printed.into_owned())
}
