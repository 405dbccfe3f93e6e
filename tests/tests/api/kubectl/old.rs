//! Versions of kubectl before 1.27.

use anyhow::{Result, ensure};

use super::runner::Kubectl;

/// What rests on OpenAPI v2, by a kubectl that knows no other.
pub fn before_openapi_v3(kubectl: &Kubectl<'_>) -> Result<()> {
    let version = kubectl.json("version")?;
    println!("kubectl {}", version["clientVersion"]["gitVersion"]);
    kubectl.prints("create namespace old", &["namespace/old created"])?;
    kubectl.prints(
        "explain deployment.spec.strategy",
        &["rollingUpdate", "RESOURCE: strategy"],
    )?;
    kubectl.prints("explain pod --recursive", &["containerPort", "mountPath"])?;
    let map = r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"image": "redis:2"}}"#;
    kubectl.fails(
        "apply --validate=true -f -",
        &map.replace("\"data\"", "\"dataa\""),
        &["unknown field", "dataa"],
    )?;
    let text = kubectl.fed("apply -f -", map)?;
    ensure!(text == "configmap/m created\n", "{text}");
    let text = kubectl.fed("apply -f -", map)?;
    ensure!(text == "configmap/m unchanged\n", "{text}");
    let changed = map.replace("redis:2", "redis:4");
    let (printed, line) = kubectl.run(&["diff", "-f", "-"], &changed)?;
    ensure!(
        printed.code == Some(1) && printed.stdout.contains("redis:4"),
        "{line}: {}{}",
        printed.stdout,
        printed.stderr
    );
    kubectl.prints("edit configmap m", &["configmap/m edited"])?;
    kubectl.prints("get configmap m -o jsonpath={.data.image}", &["redis:3"])?;
    kubectl.prints("create deployment d --image=a", &["d created"])?;
    kubectl.prints("set image deployment/d a=b", &["image updated"])?;
    kubectl.prints("delete namespace old --wait=false", &["deleted"])?;
    Ok(())
}
