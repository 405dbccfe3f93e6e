//! What `make run` starts and `make stop` stops, in a folder and on ports of
//! its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster;
use mizzen_tests::skip::{self, Why};

struct Script {
    run: PathBuf,
    ports: Vec<u16>,
}

impl Script {
    fn call(&self, argument: &str) -> Result<Output> {
        let ports = |range: std::ops::Range<usize>| {
            let ports = self.ports[range].iter().map(u16::to_string);
            ports.collect::<Vec<_>>().join(" ")
        };
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/run.sh"))
            .arg(argument)
            .env("MIZZEN", cluster::mizzen()?)
            .env("MIZZEN_APISERVER", cluster::apiserver()?)
            .env("RUN", &self.run)
            .env("CLIENTS", ports(0..3))
            .env("PEERS", ports(3..6))
            .env("APIS", ports(6..9))
            .output()
            .context("run store/run.sh")
    }

    fn ok(&self, argument: &str) -> Result<String> {
        let output = self.call(argument)?;
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "store/run.sh {argument}: {printed}"
        );
        Ok(printed.into_owned())
    }

    fn kubectl(&self, kubeconfig: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new("kubectl")
            .env("KUBECONFIG", self.run.join(kubeconfig))
            .env("KUBECACHEDIR", self.run.join("cache"))
            .args(arguments)
            .output()?;
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {arguments:?} with {kubeconfig}: {printed}"
        );
        Ok(printed.into_owned())
    }

    fn pids(&self) -> Result<Vec<PathBuf>> {
        let files = std::fs::read_dir(&self.run)?.map(|entry| Ok(entry?.path()));
        let files: Result<Vec<PathBuf>> = files.collect();
        Ok(files?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|one| one == "pid"))
            .collect())
    }
}

fn exercise(script: &Script) -> Result<()> {
    let printed = script.ok("start")?;
    for expected in ["three replicas", "not authenticated", "kubeconfig"] {
        ensure!(
            printed.to_lowercase().contains(expected),
            "it does not say {expected:?}: {printed}"
        );
    }
    ensure!(script.pids()?.len() == 6, "six processes: {printed}");
    let again = script.ok("start")?;
    ensure!(again.matches("runs already").count() == 6, "{again}");
    if cluster::find_tool("kubectl").is_empty() {
        skip::part("kubectl on what it started", &Why::program("kubectl"))?;
    } else {
        script.kubectl("kubeconfig", &["create", "configmap", "kept"])?;
        for kubeconfig in ["kubeconfig", "kubeconfig-2", "kubeconfig-3"] {
            script.kubectl(kubeconfig, &["get", "configmap", "kept"])?;
        }
    }
    script.ok("stop")?;
    ensure!(script.pids()?.is_empty(), "some are still there");
    script.ok("start")?;
    if !cluster::find_tool("kubectl").is_empty() {
        script.kubectl("kubeconfig", &["get", "configmap", "kept"])?;
    }
    Ok(())
}

#[test]
fn what_runs_by_make_run() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("run-").tempdir()?;
    let script = Script {
        run: folder.path().to_owned(),
        ports: cluster::free_ports(9)?,
    };
    let result = exercise(&script);
    let stopped = script.ok("stop").map(|_| ());
    result.and(stopped).context(
        "reproduce: cargo test --release -p mizzen-tests --test store what_runs_by_make_run",
    )
}
