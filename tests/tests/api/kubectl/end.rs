//! `get --watch`, `wait` and `delete`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::change::{applied, replica_set};
use super::runner::Kubectl;

pub fn watching(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("create secret generic s", &["created"])?;
    let mut watch = Command::new(&kubectl.program)
        .env("KUBECONFIG", kubectl.servers[0].kubeconfig())
        .args(["--namespace", &kubectl.namespace])
        .args(["get", "secrets", "--watch", "--output-watch-events", "-o"])
        .arg("jsonpath={.type}{\" \"}{.object.metadata.name}{\"\\n\"}")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = watch.stdout.take().context("stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut expect = |expected: &str| -> Result<()> {
        let line = lines.next().context("the watch ended")??;
        ensure!(
            line == expected,
            "get secrets --watch printed {line:?}, expected {expected:?}"
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
    result
}

pub fn waiting(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("create configmap a --from-literal=x=y", &["created"])?;
    kubectl.prints(
        "wait --for=jsonpath={.data.x}=y configmap/a --timeout=30s",
        &["condition met"],
    )?;
    kubectl.prints("delete configmap a --wait=false", &["deleted"])?;
    kubectl.prints("wait --for=delete configmap/a --timeout=30s", &[])?;
    Ok(())
}

pub fn deleting(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("run p --image=nginx", &["created"])?;
    kubectl.prints("delete pod p", &["\"p\" deleted"])?;
    kubectl.fails("delete pod p", "", &["(NotFound)"])?;
    kubectl.prints("delete pod p --ignore-not-found", &[])?;
    kubectl.prints("create job once --image=busybox", &["created"])?;
    kubectl.prints(
        "delete job once --cascade=orphan --wait=false",
        &["deleted"],
    )?;
    for kind in ["configmap", "secret generic"] {
        for name in ["a", "s"] {
            kubectl.prints(&format!("create {kind} {name}"), &["created"])?;
        }
    }
    kubectl.prints("delete configmaps --all", &["\"a\" deleted", "\"s\""])?;
    kubectl.prints("delete secrets --all", &["\"a\" deleted", "\"s\""])?;
    kubectl.prints_only("get configmaps,secrets -o name", "", "")
}

pub fn cascades(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.fed("apply -f -", &applied("nginx:1", 1))?;
    let deployment = kubectl.json("get deployment app")?;
    for revision in [1, 2] {
        let set = replica_set(&deployment, revision, "nginx:old");
        kubectl.fed("create -f -", &set)?;
    }
    // Nobody collects here: the object waits for who removes the finalizer.
    for (cascade, finalizer) in [("orphan", "orphan"), ("foreground", "foregroundDeletion")] {
        kubectl.prints(
            &format!("delete deployment app --wait=false --cascade={cascade}"),
            &["deleted"],
        )?;
        kubectl.prints_only(
            "get deployment app -o jsonpath={.metadata.finalizers[*]}",
            "",
            finalizer,
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
    Ok(())
}

pub fn ending_a_namespace(kubectl: &Kubectl<'_>) -> Result<()> {
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
