//! kubectl against two apiservers in turn, over a three-replica store: what one
//! server wrote, the other shows. With every kubectl that is there: the one on
//! the PATH and those in the folder that `MIZZEN_REFERENCE_DIR` names.
//!
//! A group of commands is a test, in a namespace of its own. All commands of a
//! group that fail are told, each with the line that repeats it.

mod change;
mod end;
mod make;
mod old;
mod read;
mod runner;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use mizzen_tests::cluster;
use mizzen_tests::shared;
use mizzen_tests::skip::{self, Why};

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

/// Runs a group of so many commands with each kubectl.
async fn each(
    programs: Vec<PathBuf>,
    name: &str,
    commands: usize,
    group: fn(&Kubectl<'_>) -> Result<()>,
) -> Result<()> {
    if programs.is_empty() {
        return Ok(skip::test(&Why::program("kubectl of these versions"))?);
    }
    let api = shared::resource_api().await?;
    let mut failures = Vec::new();
    for (index, program) in programs.into_iter().enumerate() {
        let kubectl = Kubectl::new(program, &api.servers, format!("{name}-{index}"));
        let ended = kubectl
            .prints(&format!("create namespace {name}-{index}"), &["created"])
            .and_then(|_| group(&kubectl));
        failures.extend(kubectl.judge(1 + commands, ended));
    }
    ensure!(
        failures.is_empty(),
        "{}\n{} failed:\n{}\nreproduce: cargo test --release -p mizzen-tests --test api {}",
        api.failure_report(),
        failures.len(),
        failures.join("\n"),
        std::thread::current().name().unwrap_or_default(),
    );
    Ok(())
}

macro_rules! groups {
    ($($name:ident: $group:path, $commands:literal;)*) => {$(
        #[tokio::test]
        async fn $name() -> Result<()> {
            let name = stringify!($name).replace('_', "-");
            each(kubectls(), &name, $commands, $group).await
        }
    )*};
}

groups! {
    namespaces: read::namespaces, 4;
    discovery: read::discovery, 9;
    authorization: read::authorization, 3;
    config_maps: make::config_maps, 13;
    deployments: make::deployments, 7;
    services: make::services, 13;
    autoscaling: make::autoscaling, 10;
    jobs: make::jobs, 4;
    secrets: make::secrets, 3;
    other_kinds: make::other_kinds, 6;
    pods: make::pods, 4;
    forms: make::forms, 16;
    tokens: make::tokens, 9;
    applying: change::applying, 5;
    applying_on_the_server: change::applying_on_the_server, 9;
    patching: change::patching, 11;
    replacing: change::replacing, 4;
    rolling_out: change::rolling_out, 19;
    watching: end::watching, 4;
    waiting: end::waiting, 4;
    deleting: end::deleting, 13;
    cascades: end::cascades, 19;
    ending_a_namespace: end::ending_a_namespace, 5;
}

#[tokio::test]
async fn before_openapi_v3() -> Result<()> {
    let programs = of_minors(20..27).collect();
    each(programs, "old", 11, old::before_openapi_v3).await
}
