//! The resource API answers as upstream's kube-apiserver does, but for what is
//! listed. The program `api_diff` shows more.

use anyhow::{Result, ensure};
use mizzen_tests::api_diff::{Settings, run, upstream};

/// Fewer would compare too little.
const STEPS: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn the_resource_api_answers_as_upstream() -> Result<()> {
    if let Err(error) = upstream::program() {
        eprintln!("SKIPPED: {error:#}");
        return Ok(());
    }
    let outcome = run(&Settings::default()).await?;
    println!("{outcome}");
    let steps: usize = outcome.report.groups.values().map(|tally| tally.steps).sum();
    ensure!(steps >= STEPS, "{steps} steps");
    ensure!(outcome.holds(), "answers differ: see above");
    Ok(())
}
