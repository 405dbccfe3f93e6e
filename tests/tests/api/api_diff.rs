//! The resource API answers as upstream's kube-apiserver does, but for what is
//! listed. The program `api_diff` shows more.

use anyhow::{Result, ensure};
use mizzen_tests::api_diff::{Settings, run, upstream};
use mizzen_tests::skip::{self, Why};

/// Fewer would compare too little: every kind, verb and field.
const STEPS: usize = 29_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resource_api_answers_as_upstream() -> Result<()> {
    if upstream::program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let outcome = run(&Settings::default()).await?;
    println!("{outcome}");
    let groups = outcome.report.groups.values();
    let steps: usize = groups.map(|tally| tally.steps).sum();
    ensure!(steps >= STEPS, "{steps} steps");
    ensure!(outcome.holds(), "answers differ: see above");
    Ok(())
}
