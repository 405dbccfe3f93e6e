//! kubectl against two apiservers in turn, over a three-replica store: what one
//! server wrote, the other shows. With every kubectl that is there: the one on
//! the PATH and those in the folder that `MIZZEN_REFERENCE_DIR` names.

mod change;
mod end;
mod make;
mod old;
mod runner;

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::Result;
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};

use self::runner::Kubectl;

/// Every kubectl that is there and reads OpenAPI v3.
fn kubectls() -> Vec<PathBuf> {
    let mut found = cluster::find_tool("kubectl");
    found.extend(of_minors(27..60));
    found.dedup();
    found
}

fn of_minors(minors: std::ops::Range<u32>) -> impl Iterator<Item = PathBuf> {
    minors.flat_map(|minor| cluster::find_tool(&format!("kubectl-1.{minor}")))
}

#[tokio::test]
async fn kubectl() -> Result<()> {
    let programs = kubectls();
    if programs.is_empty() {
        println!("skipped: no kubectl on the PATH or beside the reference");
        return Ok(());
    }
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let endpoints = cluster.endpoints();
        let servers = [ApiServer::start(&endpoints)?, ApiServer::start(&endpoints)?];
        for (index, program) in programs.into_iter().enumerate() {
            let kubectl = Kubectl {
                program,
                servers: &servers,
                turn: Cell::new(0),
                namespace: format!("test-{index}"),
            };
            let version = kubectl.json("version")?;
            println!("kubectl {}", version["clientVersion"]["gitVersion"]);
            namespaces(&kubectl)?;
            reading(&kubectl)?;
            make::config_maps(&kubectl)?;
            make::creating(&kubectl)?;
            change::applying(&kubectl)?;
            change::patching(&kubectl)?;
            change::rolling_out(&kubectl)?;
            end::watching(&kubectl)?;
            end::deleting(&kubectl)?;
        }
        for program in of_minors(20..27) {
            let kubectl = Kubectl {
                program,
                servers: &servers,
                turn: Cell::new(0),
                namespace: "old".to_owned(),
            };
            old::before_openapi_v3(&kubectl)?;
        }
        Ok(())
    })
    .await
}

fn namespaces(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("get namespaces", &["default", "kube-system", "Active"])?;
    kubectl.fails("create configmap early", "", &["namespaces", "not found"])?;
    let name = kubectl.namespace.clone();
    kubectl.prints(
        &format!("create namespace {name}"),
        &[&format!("namespace/{name} created")],
    )?;
    kubectl.fails(&format!("create namespace {name}"), "", &["already exists"])
}

fn reading(kubectl: &Kubectl<'_>) -> Result<()> {
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
    kubectl.prints("auth can-i create pods", &["yes"])?;
    kubectl.prints("auth can-i --list", &["*.*", "[*]"])?;
    kubectl.prints(
        "api-resources --namespaced=false -o name",
        &["nodes\n", "clusterroles.rbac.authorization.k8s.io\n"],
    )?;
    kubectl.prints("auth whoami", &["system:admin"])?;
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
