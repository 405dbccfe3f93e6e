//! Watches through kills of members: the short form of `watch_chaos`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster;
use mizzen_tests::machine;

/// Snapshots come often, and one is needed after nearly every kill.
const ARGUMENTS: [&str; 6] = [
    "--seconds=20",
    "--rate=1000",
    "--kill-every=3",
    "--keep=8000",
    "--flag=--snapshot-count=500",
    "--flag=--snapshot-catchup-entries=50",
];

#[test]
fn watchers_on_all_members_see_the_same_through_kills() -> Result<()> {
    let _machine = machine::shared_blocking();
    let output = Command::new(env!("CARGO_BIN_EXE_watch_chaos"))
        .args(ARGUMENTS)
        .arg("--server")
        .arg(cluster::mizzen()?)
        .output()
        .context("run watch_chaos")?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo run --release -p mizzen-tests --bin watch_chaos -- {}\n{printed}",
        ARGUMENTS.join(" ")
    );
    print!("{printed}");
    Ok(())
}
