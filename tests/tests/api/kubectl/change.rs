//! `apply`, `diff`, `patch`, `edit`, `replace` and `rollout`.

use anyhow::Result;
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
        let expected = format!("deployment.apps/app {expected}\n");
        kubectl.prints_only("apply -f -", file, &expected)?;
    }
    kubectl.differs(
        &applied("nginx:3", 4),
        &["-        image: nginx:2", "+        image: nginx:3"],
    )?;
    kubectl.differs(&applied("nginx:2", 4), &[])
}

fn replicas_and_images(kubectl: &Kubectl<'_>, expected: &str) -> Result<()> {
    kubectl.prints_only(
        "get deployment app -o jsonpath={.spec.replicas},{.spec.template.spec.containers[*].image}",
        "",
        expected,
    )
}

fn patch(kubectl: &Kubectl<'_>, kind: &str, patch: &str) -> Result<()> {
    let kind = format!("--type={kind}");
    let arguments = ["patch", "deployment", "app", &kind, "-p", patch];
    kubectl.words(&arguments, &["patched"]).map(drop)
}

/// A map as it is applied on the server.
fn map(data: &str) -> String {
    format!(
        r#"{{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {{"name": "shared"}}, "data": {{{data}}}}}"#
    )
}

pub fn applying_on_the_server(kubectl: &Kubectl<'_>) -> Result<()> {
    let apply = "apply --server-side -f -";
    let done = kubectl.fed(apply, &map(r#""a": "1", "b": "1""#))?;
    kubectl.check(done.contains("serverside-applied"), "it is applied");
    let other = "apply --server-side --field-manager=other -f -";
    kubectl.fails(
        other,
        &map(r#""a": "2", "c": "2""#),
        &["conflict with \"kubectl\": .data.a"],
    )?;
    let forced = "apply --server-side --force-conflicts --field-manager=other -f -";
    kubectl.fed(forced, &map(r#""a": "2", "c": "2""#))?;
    // Its own field goes, the other's stay.
    kubectl.fed(apply, &map(""))?;
    let left = kubectl.json("get configmap shared -o json")?;
    let wanted = json!({"a": "2", "c": "2"});
    kubectl.check(left["data"] == wanted, "what others own stays");
    let dry = "apply --server-side --dry-run=server -f - -o name";
    kubectl.fed(dry, &map(r#""d": "3""#))?;
    let still = kubectl.json("get configmap shared -o json")?;
    kubectl.check(still["data"] == wanted, "a dry run writes nothing");
    kubectl.fails(apply, &map(r#""a": 3"#), &["expected string"])?;
    kubectl.prints("delete configmap shared", &["deleted"])?;
    Ok(())
}

pub fn patching(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.fed("apply -f -", &applied("nginx:2", 4))?;
    let second =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"redis:2"}]}}}}"#;
    patch(kubectl, "strategic", second)?;
    patch(kubectl, "merge", r#"{"spec":{"replicas":7}}"#)?;
    replicas_and_images(kubectl, "7,nginx:2 redis:2")?;
    let operations = r#"[{"op":"test","path":"/spec/replicas","value":7},{"op":"replace","path":"/spec/replicas","value":8}]"#;
    patch(kubectl, "json", operations)?;
    kubectl.fails(
        &format!("patch deployment app --type=json -p {operations}"),
        "",
        &["the server rejected our request"],
    )?;
    kubectl.prints("edit deployment app", &["edited"])?;
    replicas_and_images(kubectl, "8,nginx:2 redis:3")?;
    kubectl.fails(
        r#"patch deployment app -p {"spec":{"selector":{"matchLabels":{"x":"y"}}}}"#,
        "",
        &["field is immutable"],
    )?;
    patch_status(kubectl, r#"{"status":{"readyReplicas":1,"replicas":1}}"#)?;
    kubectl.prints("get deployment app", &["1/8"])?;
    Ok(())
}

pub fn replacing(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.fed("apply -f -", &applied("nginx:2", 4))?;
    let mut object = kubectl.json("get deployment app")?;
    object["spec"]["replicas"] = 5.into();
    kubectl.prints_only(
        "replace -f -",
        &object.to_string(),
        "deployment.apps/app replaced\n",
    )?;
    kubectl.fails(
        "replace -f -",
        &object.to_string(),
        &["the object has been modified"],
    )
}

/// What controllers do with the deployment.
fn patch_status(kubectl: &Kubectl<'_>, status: &str) -> Result<()> {
    let command = "patch deployment app --subresource=status --type=merge -p";
    let mut arguments: Vec<_> = command.split(' ').collect();
    arguments.push(status);
    kubectl.words(&arguments, &["patched"]).map(drop)
}

/// A replica set as the deployment controller would make it.
pub fn replica_set(deployment: &Value, revision: u32, image: &str) -> String {
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
    kubectl.fed("apply -f -", &applied("nginx:2", 8))?;
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
