//! Versions of kubectl before 1.27.

use anyhow::Result;

use super::runner::Kubectl;

/// What rests on OpenAPI v2, by a kubectl that knows no other.
pub fn before_openapi_v3(kubectl: &Kubectl<'_>) -> Result<()> {
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
    kubectl.prints_only("apply -f -", map, "configmap/m created\n")?;
    kubectl.prints_only("apply -f -", map, "configmap/m unchanged\n")?;
    kubectl.differs(&map.replace("redis:2", "redis:4"), &["redis:4"])?;
    kubectl.prints("edit configmap m", &["configmap/m edited"])?;
    kubectl.prints_only("get configmap m -o jsonpath={.data.image}", "", "redis:3")?;
    kubectl.prints("create deployment d --image=a", &["d created"])?;
    kubectl.prints("set image deployment/d a=b", &["image updated"])?;
    let namespace = &kubectl.namespace;
    kubectl.prints(
        &format!("delete namespace {namespace} --wait=false"),
        &["deleted"],
    )?;
    Ok(())
}
