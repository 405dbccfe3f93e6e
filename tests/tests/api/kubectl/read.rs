//! What is there before anybody made anything: namespaces, discovery, schemas,
//! who one is.

use anyhow::Result;

use super::runner::Kubectl;

pub fn namespaces(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("get namespaces", &["default", "kube-system", "Active"])?;
    kubectl.fails(
        "create configmap early --namespace nowhere",
        "",
        &["namespaces", "not found"],
    )?;
    let name = &kubectl.namespace;
    kubectl.fails(&format!("create namespace {name}"), "", &["already exists"])?;
    kubectl.prints(
        &format!("describe namespace {name}"),
        &["Status:", "Active"],
    )?;
    Ok(())
}

pub fn discovery(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "api-resources",
        &[
            "deploy ",
            "apps/v1",
            "PersistentVolumeClaim",
            "resource.k8s.io/v1",
        ],
    )?;
    kubectl.prints("api-versions", &["apps/v1", "storage.k8s.io/v1", "v1"])?;
    kubectl.prints(
        "explain deployment.spec.strategy",
        &["rollingUpdate", "FIELD: strategy"],
    )?;
    kubectl.prints("explain pod --recursive", &["containerPort", "mountPath"])?;
    kubectl.prints(
        "api-resources --namespaced=false -o name",
        &["nodes\n", "clusterroles.rbac.authorization.k8s.io\n"],
    )?;
    kubectl.prints("get --raw /readyz", &["ok"])?;
    kubectl.prints("cluster-info", &["is running at"])?;
    kubectl.fails(
        "get configmap nothing",
        "",
        &["(NotFound)", "\"nothing\" not found"],
    )?;
    kubectl.fails(
        "get pods --field-selector spec.image=a",
        "",
        &["field label not supported"],
    )
}

pub fn authorization(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("auth can-i create pods", &["yes"])?;
    kubectl.prints("auth can-i --list", &["*.*", "[*]"])?;
    kubectl.prints("auth whoami", &["kubernetes-admin"])?;
    Ok(())
}
