//! Caches of a changing store: the short forms of `reflector`.

use std::process::Command;

use anyhow::{Result, ensure};
use mizzen_tests::machine;

fn reflect(arguments: &[&str]) -> Result<()> {
    let _machine = machine::shared_blocking();
    let status = Command::new(env!("CARGO_BIN_EXE_reflector"))
        .args(arguments)
        .status()?;
    ensure!(status.success(), "see the command printed above");
    Ok(())
}

#[test]
fn caches_equal_the_store() -> Result<()> {
    reflect(&[
        "--changes=10000",
        "--compact-every=500",
        "--keep=1000",
        "--seed=1",
    ])
}

#[test]
fn caches_equal_the_store_through_kills() -> Result<()> {
    reflect(&[
        "--changes=10000",
        "--compact-every=500",
        "--keep=1000",
        "--kill-every=3",
        "--seed=2",
    ])
}
