//! What `make demo` says: upstream's controllers, scheduler and hollow kubelets,
//! each with its own identity and no more rights than upstream's roles give it,
//! make pods run, and go on when a whole replica is lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::make_run::Script;
use mizzen_tests::skip::{self, Why};
use mizzen_tests::{cluster, setting};

const DEADLINE: Duration = Duration::from_secs(180);
const NODES: usize = 5;

/// Asks kubectl until what it prints is as it should be.
fn until(script: &Script, arguments: &[&str], holds: impl Fn(&str) -> bool) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let printed = script.kubectl("kubeconfig", arguments);
        if printed.as_ref().is_ok_and(|printed| holds(printed)) {
            return Ok(started.elapsed());
        }
        ensure!(
            started.elapsed() < DEADLINE,
            "kubectl {arguments:?}: still {printed:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// All pods of a deployment, on nodes of their own choice.
fn all_run(script: &Script, name: &str, count: usize) -> Result<Duration> {
    let selector = format!("--selector=app={name}");
    let form = "--output=jsonpath={range .items[*]}{.status.phase} {.spec.nodeName}{\"\\n\"}{end}";
    until(script, &["get", "pods", &selector, form], |printed| {
        let on_a_node = |line: &&str| line.starts_with("Running hollow-");
        printed.lines().filter(on_a_node).count() == count
    })
}

fn exercise(script: &Script) -> Result<()> {
    script.ok("store/run.sh", "start")?;
    let printed = script.ok("apiserver/demo.sh", "start")?;
    ensure!(printed.contains("kill -9"), "{printed}");
    ensure!(
        script.pids()?.len() == 6 + 2 + NODES,
        "{:?}",
        script.pids()?
    );
    let ready = until(script, &["get", "nodes"], |printed| {
        printed.matches(" Ready ").count() == NODES
    })?;
    let admin = |arguments: &[&str]| script.kubectl("kubeconfig", arguments);
    admin(&[
        "create",
        "deployment",
        "web",
        "--image=nginx",
        "--replicas=10",
    ])?;
    let first = all_run(script, "web", 10)?;
    for name in ["infra2", "apiserver2"] {
        script.kill(name)?;
    }
    admin(&["scale", "deployment", "web", "--replicas=20"])?;
    let scaled = all_run(script, "web", 20)?;
    admin(&[
        "create",
        "deployment",
        "more",
        "--image=nginx",
        "--replicas=10",
    ])?;
    let second = all_run(script, "more", 10)?;
    let nodes = until(script, &["get", "nodes"], |printed| {
        printed.matches(" Ready ").count() == NODES
    })?;
    println!(
        "nodes ready after {ready:?}; 10 pods after {first:?}; without a replica 10 more after {scaled:?} and {second:?}, nodes ready after {nodes:?}"
    );
    // Upstream's components say so when they may not do something.
    for log in ["kube-controller-manager", "kube-scheduler", "hollow-1"] {
        let text = std::fs::read_to_string(script.run().join(format!("demo-{log}.log")))?;
        let refused: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("is forbidden"))
            .collect();
        ensure!(refused.is_empty(), "{log} may not: {refused:#?}");
    }
    Ok(())
}

#[test]
fn pods_run_whichever_replica_is_lost() -> Result<()> {
    if setting("MIZZEN_DEMO", 0) == 0 {
        let why = "upstream's components are built for `make demo` and `make test-long`";
        return Ok(skip::test(&Why::Refused(why.to_owned()))?);
    }
    for program in [
        "kubectl",
        "kube-controller-manager",
        "kube-scheduler",
        "kubemark",
    ] {
        if cluster::find_tool(program).is_empty() {
            return Ok(skip::test(&Why::program(program))?);
        }
    }
    exercise(&Script::new()?).context(
        "reproduce: MIZZEN_DEMO=1 cargo test --release -p mizzen-tests --test faults pods_run_whichever",
    )
}
