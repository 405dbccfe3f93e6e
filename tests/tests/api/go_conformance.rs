//! Runs the Go suite in `go/` against a three-replica cluster. It needs `go` on
//! the PATH and is skipped, with a word about it, where there is none.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::skip::{self, Why};

#[tokio::test]
async fn go_client() -> Result<()> {
    if cluster::find_tool("go").is_empty() {
        return Ok(skip::test(&Why::program("go"))?);
    }
    // What the tests of reports of progress expect.
    let options = Options::new(cluster::mizzen()?).flag("--watch-progress-notify-interval=100ms");
    Cluster::run(options, async |cluster| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
        let output = Command::new("go")
            .args(["test", "-count=1", "."])
            .current_dir(folder)
            .env("MIZZEN_TEST_ENDPOINTS", cluster.endpoints().join(","))
            .output()
            .context("run go")?;
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "go test failed:\n{printed}");
        print!("{printed}");
        Ok(())
    })
    .await
}
