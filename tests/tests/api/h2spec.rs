//! A member's client port before h2spec, which asks of a server what RFC 7540
//! and RFC 7541 ask. Cases that do not pass are named here, with the reason.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::skip::{self, Why};

/// By what h2spec calls them: section, number, title.
const NOT_PASSED: [(&str, &str); 3] = [
    (
        "http2/3.5 2 Sends invalid connection preface",
        "the port speaks HTTP/1 as well, so what is no preface gets an answer of HTTP/1",
    ),
    (
        "http2/5.1 12 closed: Sends a HEADERS frame",
        "an error of the stream and not of the connection: trailers may have been on their \
         way when the request was answered before its end",
    ),
    (
        "http2/5.1.1 2 Sends stream identifier that is numerically smaller than previous",
        "which of the lower streams were ever opened is not remembered: as one that is over",
    ),
];

/// Cases of the version that is used: fewer would mean that it was not run.
const CASES: usize = 146;

#[tokio::test(flavor = "multi_thread")]
async fn h2spec_finds_what_is_known() -> Result<()> {
    let Some(h2spec) = cluster::find_tool("h2spec").into_iter().next() else {
        return Ok(skip::test(&Why::program("h2spec"))?);
    };
    let options = Options::new(cluster::mizzen()?).members(1);
    Cluster::run(options, async |cluster| {
        let (host, port) = cluster.endpoint(0).split_once(':').context("an address")?;
        let report = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(&h2spec);
        command
            .args(["--strict", "--timeout", "2", "--host", host, "--port", port])
            .args(["--path", "/etcdserverpb.KV/Range", "--junit-report"])
            .arg(report.path());
        let shown = format!("{command:?}");
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let (cases, failed) = judged(&std::fs::read_to_string(report.path())?);
        ensure!(
            cases == CASES,
            "{cases} cases instead of {CASES}: {shown}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let known: BTreeSet<String> = NOT_PASSED.map(|(case, _)| case.to_owned()).into();
        let new: Vec<_> = failed.difference(&known).collect();
        let better: Vec<_> = known.difference(&failed).collect();
        ensure!(
            new.is_empty() && better.is_empty(),
            "fail and are not known: {new:#?}\nknown and do not fail: {better:#?}\n{shown}\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(())
    })
    .await
}

/// The number of cases in a report in JUnit's form, and those that failed.
fn judged(report: &str) -> (usize, BTreeSet<String>) {
    let (mut cases, mut number) = (0, 0);
    let (mut case, mut failed) = (String::new(), BTreeSet::new());
    for line in report.lines() {
        let line = line.trim_start();
        if line.starts_with("<testsuite ") {
            number = 0;
        } else if line.starts_with("<testcase ") {
            cases += 1;
            number += 1;
            let (package, title) = (attribute(line, "package"), attribute(line, "classname"));
            case = format!("{package} {number} {title}");
        }
        // They stand on lines of their own, or at the end of the case's.
        if ["<failure", "<error", "<skipped"]
            .iter()
            .any(|bad| line.contains(bad))
        {
            failed.insert(case.clone());
        }
    }
    (cases, failed)
}

fn attribute(line: &str, name: &str) -> String {
    let from = format!(" {name}=\"");
    let value = line.split_once(&from).map_or("", |(_, rest)| rest);
    let value = value.split_once('"').map_or("", |(value, _)| value);
    value.replace("&#34;", "\"").replace("&quot;", "\"")
}

#[test]
fn reports_are_understood() {
    let report = r#"<testsuites>
  <testsuite name="5.1. Stream States" package="http2/5.1" tests="3">
    <testcase package="http2/5.1" classname="Sends a &#34;frame&#34;" time="0.1"></testcase>
    <testcase package="http2/5.1" classname="Sends another" time="0.1">
      <failure>GOAWAY Frame</failure>
    </testcase>
    <testcase package="http2/5.1" classname="Not sent" time="0"><skipped></skipped></testcase>
  </testsuite>
</testsuites>"#;
    let failed = ["http2/5.1 2 Sends another", "http2/5.1 3 Not sent"];
    assert_eq!(judged(report), (3, failed.map(str::to_owned).into()));
}
