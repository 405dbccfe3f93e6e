//! A short slice of the harness: four workloads under faults, a minute each,
//! all at the same time, against the store of the same build.
//!
//! `MIZZEN_BIN` names another binary with etcd's flags, `MIZZEN_JEPSEN_TIME`
//! another length of each run, such as `10s`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

const RUNS: [(&str, &str, &str); 4] = [
    (
        "mixed",
        "kill-random,partition-leader,pause-leader,compact",
        "1",
    ),
    ("lease", "kill-leader,partition-leader", "2"),
    ("kubernetes", "kill-all,reset,move-leader", "3"),
    ("auth", "kill-random,partition-halves,corrupt", "4"),
];

/// The store: tests run in `deps/` of the directory that it is built in.
fn store() -> PathBuf {
    if let Some(path) = std::env::var_os("MIZZEN_BIN") {
        return path.into();
    }
    let current = std::env::current_exe().expect("the test has a path");
    let built = current.ancestors().nth(2).expect("it lies in deps/");
    let store = built.join("mizzen");
    assert!(
        store.is_file(),
        "{} is not there: cargo build --release -p mizzen-store, or set MIZZEN_BIN",
        store.display()
    );
    store
}

#[test]
fn workloads_under_faults_pass() {
    let time = std::env::var("MIZZEN_JEPSEN_TIME").unwrap_or_else(|_| "60s".to_owned());
    let started = RUNS.map(|(workload, faults, seed)| {
        let run = Command::new(env!("CARGO_BIN_EXE_jepsen"))
            .arg("run")
            .arg("--binary")
            .arg(store())
            .args(["--workload", workload, "--fault", faults])
            .args(["--time", &time, "--interval", "4s", "--seed", seed])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("jepsen starts");
        // Read while it runs, or it would wait for its words to be taken.
        std::thread::spawn(move || run.wait_with_output().expect("jepsen ends"))
    });
    for ((workload, faults, _), run) in RUNS.iter().zip(started) {
        let ended = run.join().expect("its thread ends");
        let said = String::from_utf8_lossy(&ended.stdout);
        println!("{said}");
        assert!(
            ended.status.success(),
            "{workload} under {faults}, {}:\n{said}\n{}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr)
        );
    }
}
