//! What `make run` starts and `make stop` stops, in a folder and on ports of
//! its own.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster;
use mizzen_tests::make_run::Script;
use mizzen_tests::skip::{self, Why};

const RUN: &str = "store/run.sh";

/// The etcdctl line that was printed, by every etcdctl that is there.
fn etcdctl(printed: &str) -> Result<()> {
    let line = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("etcdctl --cacert"))
        .with_context(|| format!("no line for etcdctl: {printed}"))?;
    for program in cluster::find_tool("etcdctl") {
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("{} --cacert{line}", program.display()))
            .env("ETCDCTL_API", "3")
            .output()?;
        ensure!(
            output.status.success(),
            "{}{line}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// No key is for others to read.
fn keys_are_private(script: &Script) -> Result<()> {
    let mut keys = 0;
    for entry in std::fs::read_dir(script.run().join("pki"))? {
        let path = entry?.path();
        let files = if path.is_dir() {
            std::fs::read_dir(&path)?
                .map(|file| Ok(file?.path()))
                .collect::<Result<Vec<_>>>()?
        } else {
            vec![path]
        };
        for file in files.iter().filter(|file| {
            file.extension().is_some_and(|extension| extension == "key")
                || file.ends_with("encryption.yaml")
        }) {
            let mode = std::fs::metadata(file)?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{} is open: {mode:o}", file.display());
            keys += 1;
        }
    }
    ensure!(keys >= 10, "only {keys} keys");
    Ok(())
}

/// Who shows a token of nobody gets 401, and an account what its role says and
/// no more, at every server.
fn only_who_may(script: &Script) -> Result<()> {
    let who = script.kubectl("kubeconfig", &["get", "--raw=/api/v1/namespaces/default"])?;
    ensure!(who.contains("\"default\""), "{who}");
    let admin = |arguments: &[&str]| script.kubectl("kubeconfig", arguments);
    admin(&["create", "serviceaccount", "reader"])?;
    let role = "--role=reader";
    admin(&[
        "create",
        "role",
        "reader",
        "--verb=get",
        "--resource=configmaps",
    ])?;
    admin(&[
        "create",
        "rolebinding",
        "reader",
        role,
        "--serviceaccount=default:reader",
    ])?;
    let token = admin(&["create", "token", "reader"])?;
    for (token, path, expected) in [
        ("nobody", "configmaps/kept", "Unauthorized"),
        (token.trim(), "configmaps/kept", "\"kept\""),
        (token.trim(), "secrets", "cannot list resource \"secrets\""),
    ] {
        for port in script.apis() {
            let told = raw(
                script,
                *port,
                token,
                &format!("/api/v1/namespaces/default/{path}"),
            )?;
            ensure!(told.contains(expected), "{path} at {port}: {told}");
        }
    }
    Ok(())
}

/// What a server says to a token alone.
fn raw(script: &Script, port: u16, token: &str, path: &str) -> Result<String> {
    let output = Command::new("kubectl")
        .env("KUBECONFIG", "/dev/null")
        .arg(format!("--server=https://127.0.0.1:{port}"))
        .arg(format!(
            "--certificate-authority={}",
            script.run().join("pki/ca.crt").display()
        ))
        .arg(format!("--token={token}"))
        .args(["get", &format!("--raw={path}")])
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok(printed.into_owned())
}

fn exercise(script: &Script) -> Result<()> {
    let printed = script.ok(RUN, "start")?;
    for expected in ["three replicas", "administrator", "kubeconfig"] {
        ensure!(
            printed.to_lowercase().contains(expected),
            "it does not say {expected:?}: {printed}"
        );
    }
    ensure!(script.pids()?.len() == 6, "six processes: {printed}");
    etcdctl(&printed)?;
    keys_are_private(script)?;
    let again = script.ok(RUN, "start")?;
    ensure!(again.matches("runs already").count() == 6, "{again}");
    if cluster::find_tool("kubectl").is_empty() {
        skip::part("kubectl on what it started", &Why::program("kubectl"))?;
    } else {
        script.kubectl("kubeconfig", &["create", "configmap", "kept"])?;
        for kubeconfig in ["kubeconfig", "kubeconfig-1", "kubeconfig-2", "kubeconfig-3"] {
            script.kubectl(kubeconfig, &["get", "configmap", "kept"])?;
        }
        only_who_may(script)?;
    }
    script.ok(RUN, "stop")?;
    ensure!(script.pids()?.is_empty(), "some are still there");
    script.ok(RUN, "start")?;
    if !cluster::find_tool("kubectl").is_empty() {
        script.kubectl("kubeconfig", &["get", "configmap", "kept"])?;
    }
    Ok(())
}

#[test]
fn what_runs_by_make_run() -> Result<()> {
    exercise(&Script::new()?).context(
        "reproduce: cargo test --release -p mizzen-tests --test store what_runs_by_make_run",
    )
}
