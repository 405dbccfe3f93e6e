//! `get --watch`, `wait` and `delete`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::change::applied;
use super::runner::Kubectl;

pub fn watching(kubectl: &Kubectl<'_>) -> Result<()> {
    let mut watch = Command::new(&kubectl.program)
        .env("KUBECONFIG", kubectl.servers[0].kubeconfig())
        .args(["--namespace", &kubectl.namespace])
        .args(["get", "secrets", "--watch", "--output-watch-events", "-o"])
        .arg("jsonpath={.type}{\" \"}{.object.metadata.name}{\"\\n\"}")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = watch.stdout.take().context("stdout")?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    let mut next = || lines.next().context("the watch ended")?.context("a line");
    let mut expect = |expected: &str| -> Result<()> {
        let line = next()?;
        ensure!(
            line == expected,
            "the watch printed {line:?}, expected {expected:?}"
        );
        Ok(())
    };
    let result = (|| {
        expect("ADDED s")?;
        kubectl.prints("create secret generic t", &["created"])?;
        expect("ADDED t")?;
        kubectl.prints("label secret t a=b", &["labeled"])?;
        expect("MODIFIED t")?;
        kubectl.prints("delete secret t", &["deleted"])?;
        expect("DELETED t")
    })();
    watch.kill()?;
    watch.wait()?;
    result?;
    kubectl.prints(
        "wait --for=jsonpath={.data.x}=y configmap/a --timeout=30s",
        &["condition met"],
    )?;
    Ok(())
}

pub fn deleting(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("delete pod p", &["\"p\" deleted"])?;
    kubectl.prints("delete deployment web --cascade=background", &["deleted"])?;
    kubectl.fails("get deployment web", "", &["not found"])?;
    // Nobody collects here: the object waits for who removes the finalizer.
    for (cascade, finalizer) in [("orphan", "orphan"), ("foreground", "foregroundDeletion")] {
        kubectl.prints(
            &format!("delete deployment app --wait=false --cascade={cascade}"),
            &["deleted"],
        )?;
        kubectl.prints(
            "get deployment app -o jsonpath={.metadata.finalizers[*]}",
            &[finalizer],
        )?;
        kubectl.prints("get replicaset app-1 -o name", &["replicaset.apps/app-1"])?;
        kubectl.words(
            &[
                "patch",
                "deployment",
                "app",
                "--type=merge",
                "-p",
                r#"{"metadata":{"finalizers":null}}"#,
            ],
            &["patched"],
        )?;
        kubectl.fails("get deployment app", "", &["not found"])?;
        kubectl.fed("apply -f -", &applied("nginx:1", 1))?;
    }
    kubectl.prints("delete deployment app --cascade=background", &["deleted"])?;
    kubectl.prints("wait --for=delete deployment/app --timeout=30s", &[])?;
    kubectl.prints("delete replicasets -l app=x", &["\"app-1\"", "\"app-2\""])?;
    kubectl.prints(
        "delete job once --cascade=orphan --wait=false",
        &["deleted"],
    )?;
    kubectl.fails("delete pod p", "", &["(NotFound)"])?;
    kubectl.prints("delete pod p --ignore-not-found", &[])?;
    kubectl.prints("delete configmaps --all", &["\"a\" deleted"])?;
    kubectl.prints("delete secrets --all", &["\"s\" deleted"])?;
    let name = &kubectl.namespace;
    kubectl.prints(
        &format!("delete namespace {name} --wait=false"),
        &["deleted"],
    )?;
    kubectl.prints(&format!("get namespace {name}"), &["Terminating"])?;
    kubectl.fails("create configmap late", "", &["being terminated"])?;
    let finalized =
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}, "spec": {}});
    kubectl.fed(
        &format!("replace --raw /api/v1/namespaces/{name}/finalize -f -"),
        &finalized.to_string(),
    )?;
    kubectl.fails(&format!("get namespace {name}"), "", &["not found"])
}
