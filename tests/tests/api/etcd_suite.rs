//! etcd's own end-to-end tests, as they are released, with our executable in
//! the place of etcd's: `etcd-suite/tests.txt` says which, and which of them
//! fail, for what reason. It needs `go`, and etcdctl beside the reference.
//!
//! `MIZZEN_ETCD_SUITE=all` runs what takes longer, too; `MIZZEN_ETCD_SUITE_BIN`
//! names another server: with the reference's, all of them must pass.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use mizzen_tests::cluster;
use mizzen_tests::skip::{self, Why};
use mizzen_tests::{machine, setting};

const MODULE: &str = "go.etcd.io/etcd/tests/v3";
const PACKAGES: [&str; 2] = ["common", "e2e"];

/// One test of the suite.
#[derive(Debug)]
struct Listed {
    package: &'static str,
    /// Also when time is short.
    always: bool,
    name: String,
    fails: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etcd-suite")
}

/// `PACKAGE always|long NAME[: why it fails]`, and lines that begin with `#`.
fn listed() -> Result<Vec<Listed>> {
    let text = std::fs::read_to_string(folder().join("tests.txt"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut all = Vec::new();
    for line in lines {
        let (test, fails) = match line.split_once(": ") {
            Some((test, why)) => (test, Some(why.to_owned())),
            None => (line, None),
        };
        let words: Vec<&str> = test.split(' ').collect();
        let [package, when, name] = words[..] else {
            bail!("{line:?} is no line of the list");
        };
        let package = PACKAGES.into_iter().find(|known| *known == package);
        all.push(Listed {
            package: package.with_context(|| format!("the package of {line:?}"))?,
            always: when == "always",
            name: name.to_owned(),
            fails,
        });
    }
    Ok(all)
}

fn go(arguments: &[&str]) -> Result<String> {
    let output = Command::new("go")
        .current_dir(folder())
        .args(arguments)
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "go {}: {errors}",
        arguments.join(" ")
    );
    Ok(printed)
}

/// The suite's programs, compiled, and what they are given to run.
struct Suite {
    directory: tempfile::TempDir,
    sources: PathBuf,
}

impl Suite {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let sources = PathBuf::from(go(&["list", "-m", "-f", "{{.Dir}}", MODULE])?);
        for package in PACKAGES {
            let program = directory.path().join(package);
            let program = program.to_str().context("a path in UTF-8")?;
            let path = format!("{MODULE}/{package}");
            go(&["test", "-c", "-tags=e2e", "-o", program, &path])?;
        }
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin)?;
        let server = match std::env::var_os("MIZZEN_ETCD_SUITE_BIN") {
            Some(path) => path.into(),
            None => cluster::mizzen()?,
        };
        symlink(server, bin.join("etcd"))?;
        for tool in ["etcdctl", "etcdutl"] {
            let found = cluster::find_tool(tool);
            let found = found
                .first()
                .with_context(|| format!("there is no {tool}"))?;
            symlink(found, bin.join(tool))?;
        }
        Ok(Self { directory, sources })
    }

    /// The output of a test, if it does not pass. Each is a process of its own:
    /// what one leaves behind makes the next ones skip.
    fn run(&self, test: &Listed) -> Result<Option<String>> {
        let bin = self.directory.path().join("bin");
        // Some leave data where they run, which is no place of Go's modules.
        let place = tempfile::tempdir_in(self.directory.path())?;
        let here = place.path().join(test.package);
        std::fs::create_dir(&here)?;
        symlink(self.sources.join("fixtures"), place.path().join("fixtures"))?;
        let output = Command::new(self.directory.path().join(test.package))
            // Certificates are beside it.
            .current_dir(&here)
            .env("E2E_TEST_MINIMAL", "true")
            .env("TMPDIR", place.path())
            .arg(format!("-test.run=^{}$", test.name))
            .args(["-test.v", "-test.timeout=5m"])
            .arg(format!("--bin-dir={}", bin.display()))
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let passed = printed
            .lines()
            .any(|line| line.starts_with(&format!("--- PASS: {} ", test.name)));
        Ok((!passed || !output.status.success()).then_some(printed))
    }
}

/// What a test said in the end, without what its servers logged.
fn said(output: &str) -> String {
    let own = |line: &&str| !line.contains("logger.go") && !line.contains("{\"level\"");
    let lines: Vec<&str> = output.lines().filter(own).collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

#[tokio::test]
async fn etcds_own_tests_pass() -> Result<()> {
    if cluster::find_tool("go").is_empty() {
        return Ok(skip::test(&Why::program("go"))?);
    }
    let _machine = machine::shared().await;
    let all = std::env::var("MIZZEN_ETCD_SUITE").is_ok_and(|which| which == "all");
    let listed = listed()?;
    let chosen: Vec<&Listed> = listed.iter().filter(|test| all || test.always).collect();
    ensure!(chosen.len() >= 25, "{} tests are listed", chosen.len());
    let reference = std::env::var_os("MIZZEN_ETCD_SUITE_BIN").is_some();
    let suite = Suite::new()?;
    let (mut passed, mut failed, mut wrong) = (0, 0, Vec::new());
    for _ in 0..setting("MIZZEN_ETCD_SUITE_ROUNDS", 1) {
        for test in &chosen {
            let again = format!(
                "MIZZEN_ETCD_SUITE=all cargo test --release -p mizzen-tests --test api etcd_suite # {}",
                test.name
            );
            match (suite.run(test)?, &test.fails) {
                (None, Some(_)) if !reference => {
                    wrong.push(format!("{} passes now: its reason can go", test.name));
                }
                (None, _) => passed += 1,
                (Some(_), Some(_)) if !reference => failed += 1,
                (Some(output), _) => {
                    wrong.push(format!("{}:\n{}\nagain: {again}", test.name, said(&output)));
                }
            }
        }
    }
    println!("etcd's own tests: {passed} pass, {failed} fail for a known reason");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
