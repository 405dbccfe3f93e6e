//! `apply`, `diff`, `patch`, `edit`, `replace` and `rollout`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::runner::Kubectl;

pub fn applied(image: &str, replicas: u32) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "labels": {"a": "b"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [
                {"name": "c", "image": image, "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "500m"}}},
                {"name": "d", "image": "redis:1"}]}}},
    })
    .to_string()
}

pub fn applying(kubectl: &Kubectl<'_>) -> Result<()> {
    let first = applied("nginx:1", 3);
    let steps = [
        (first.clone(), "created"),
        (first, "unchanged"),
        (applied("nginx:2", 4), "configured"),
    ];
    for (file, expected) in &steps {
        let printed = kubectl.fed("apply -f -", file)?;
        ensure!(
            printed == format!("deployment.apps/app {expected}\n"),
            "{printed}"
        );
    }
    let (printed, line) = kubectl.run(&["diff", "-f", "-"], &applied("nginx:3", 4))?;
    ensure!(
        printed.code == Some(1)
            && printed.stdout.contains("-        image: nginx:2")
            && printed.stdout.contains("+        image: nginx:3"),
        "{line}: {}{}",
        printed.stdout,
        printed.stderr
    );
    let (printed, line) = kubectl.run(&["diff", "-f", "-"], &applied("nginx:2", 4))?;
    ensure!(
        printed.success && printed.stdout.is_empty(),
        "{line}: {}",
        printed.stdout
    );
    Ok(())
}

pub fn patching(kubectl: &Kubectl<'_>) -> Result<()> {
    let images = || {
        kubectl.prints(
            "get deployment app -o jsonpath={.spec.replicas},{.spec.template.spec.containers[*].image}",
            &[],
        )
    };
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"redis:2"}]}}}}"#;
    kubectl.words(
        &["patch", "deployment", "app", "-p", strategic],
        &["patched"],
    )?;
    let merge = r#"{"spec":{"replicas":7}}"#;
    kubectl.words(
        &["patch", "deployment", "app", "--type=merge", "-p", merge],
        &["patched"],
    )?;
    ensure!(images()? == "7,nginx:2 redis:2", "{}", images()?);
    let operations = r#"[{"op":"test","path":"/spec/replicas","value":7},{"op":"replace","path":"/spec/replicas","value":8}]"#;
    kubectl.words(
        &[
            "patch",
            "deployment",
            "app",
            "--type=json",
            "-p",
            operations,
        ],
        &["patched"],
    )?;
    kubectl.fails(
        &format!("patch deployment app --type=json -p {operations}"),
        "",
        &["testing value"],
    )?;
    kubectl.prints("edit deployment app", &["edited"])?;
    ensure!(images()? == "8,nginx:2 redis:3", "{}", images()?);
    kubectl.fails(
        r#"patch deployment app -p {"spec":{"selector":{"matchLabels":{"x":"y"}}}}"#,
        "",
        &["field is immutable"],
    )?;
    let status = r#"{"status":{"readyReplicas":1,"replicas":1}}"#;
    patch_status(kubectl, status)?;
    kubectl.prints("get deployment app", &["1/8"])?;
    let stale = kubectl.json("get deployment app")?.to_string();
    kubectl.prints("label deployment app x=y", &["labeled"])?;
    kubectl.fails("replace -f -", &stale, &["the object has been modified"])
}

/// What controllers do with the deployment.
fn patch_status(kubectl: &Kubectl<'_>, status: &str) -> Result<()> {
    let command = "patch deployment app --subresource=status --type=merge -p";
    let mut arguments: Vec<_> = command.split(' ').collect();
    arguments.push(status);
    kubectl.words(&arguments, &["patched"]).map(drop)
}

/// A replica set as the deployment controller would make it.
fn replica_set(deployment: &Value, revision: u32, image: &str) -> String {
    let name = format!("app-{revision}");
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "labels": {"app": "x", "pod-template-hash": name},
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "app",
                "uid": deployment["metadata"]["uid"], "controller": true}]},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x", "pod-template-hash": name}}, "template": {
            "metadata": {"labels": {"app": "x", "pod-template-hash": name}},
            "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
    .to_string()
}

pub fn rolling_out(kubectl: &Kubectl<'_>) -> Result<()> {
    let deployment = kubectl.json("get deployment app")?;
    for (revision, image) in [(1, "nginx:old"), (2, "nginx:new")] {
        kubectl.fed("create -f -", &replica_set(&deployment, revision, image))?;
    }
    kubectl.prints(
        "annotate deployment app deployment.kubernetes.io/revision=2 --overwrite",
        &["annotated"],
    )?;
    kubectl.prints("rollout history deployment app", &["REVISION", "1 ", "2 "])?;
    kubectl.prints(
        "rollout history deployment app --revision=1",
        &["nginx:old"],
    )?;
    kubectl.prints("rollout undo deployment app", &["rolled back"])?;
    kubectl.prints(
        "get deployment app -o jsonpath={.spec.template.spec.containers[0].image}",
        &["nginx:old"],
    )?;
    kubectl.prints(
        "rollout undo deployment app --to-revision=2",
        &["rolled back"],
    )?;
    kubectl.prints(
        "get deployment app -o jsonpath={.spec.template.spec.containers[0].image}",
        &["nginx:new"],
    )?;
    kubectl.prints("rollout pause deployment app", &["paused"])?;
    kubectl.prints("rollout resume deployment app", &["resumed"])?;
    kubectl.prints("rollout restart deployment app", &["restarted"])?;
    // Nobody rolls it out here: the test reports what a controller would.
    kubectl.fails(
        "rollout status deployment app --timeout=1s",
        "",
        &["timed out"],
    )?;
    let generation = &kubectl.json("get deployment app")?["metadata"]["generation"];
    let status =
        json!({"status": {"observedGeneration": generation, "replicas": 8, "updatedReplicas": 8,
        "availableReplicas": 8, "readyReplicas": 8,
        "conditions": [{"type": "Available", "status": "True", "reason": "r", "message": "m"}]}})
        .to_string();
    patch_status(kubectl, &status)?;
    kubectl.prints(
        "rollout status deployment app --timeout=30s",
        &["successfully rolled out"],
    )?;
    kubectl.prints(
        "wait --for=condition=Available deployment/app --timeout=30s",
        &["condition met"],
    )?;
    Ok(())
}
