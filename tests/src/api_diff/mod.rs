//! Every request is sent to upstream's kube-apiserver and to the resource API,
//! and their answers must be equal, less what is random.
//!
//! Cases are data, in `tests/api_cases/*.yaml`, and made from one sample of every
//! kind. Knows both command lines and HTTP. Must not know what is right:
//! upstream says so.

pub mod case;
pub mod compare;
mod fields;
mod generate;
mod known;
pub mod mask;
mod runner;
mod samples;
mod side;
pub mod upstream;
mod vars;
mod wire;
mod yaml;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use crate::apiserver::ApiServer;
use crate::cluster::{self, Cluster, Options};
pub use case::Case;
pub use known::{Expected, Verdict, matches};
pub use runner::{Found, GroupTally, Report, Servers};
use samples::Samples;

const COMMAND: &str = "cargo run --release -p mizzen-tests --bin api_diff --";
/// Differences of one case that are shown.
const SHOWN: usize = 20;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Ids of cases, `*` for anything; all without one.
    pub cases: Vec<String>,
    /// Show every request and answer, one case at a time.
    pub print: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub report: Report,
    pub verdict: Verdict,
    pub known: Expected,
    /// Not all cases ran.
    pub partial: bool,
}

/// Starts both servers, each over a store of its own, and runs the cases.
///
/// # Errors
/// A server does not start, or a case is not written as it should be.
pub async fn run(settings: &Settings) -> Result<Outcome> {
    let known = Expected::read()?;
    let samples = Samples::read()?;
    let reference = Cluster::start(Options::new(cluster::reference()?).members(1)).await?;
    let store = Cluster::start(Options::new(cluster::mizzen()?).members(1)).await?;
    let tokens = tempfile::Builder::new().prefix("tokens-").tempdir()?;
    let file = tokens.path().join("tokens");
    std::fs::write(&file, upstream::ADMIN)?;
    let file = format!("--token-auth-file={}", file.display());
    let ours = ApiServer::start_with(&store.endpoints(), &[&file])?;
    let endpoint = reference
        .endpoints()
        .into_iter()
        .next()
        .context("an endpoint")?;
    let upstream = upstream::Upstream::start(&endpoint).await?;
    let mut cases = written()?;
    cases.extend(generate::cases(
        &runner::served(&upstream).await?,
        &samples,
    )?);
    for sample in samples.all() {
        let document = runner::openapi(&upstream, &sample.api_version()).await?;
        cases.extend(fields::cases(sample, &document)?);
    }
    if !settings.cases.is_empty() {
        cases.retain(|case| {
            let chosen = |pattern: &String| matches(pattern, &case.id());
            settings.cases.iter().any(chosen)
        });
    }
    let ran: BTreeSet<_> = cases.iter().map(Case::id).collect();
    anyhow::ensure!(!ran.is_empty(), "no such case");
    anyhow::ensure!(ran.len() == cases.len(), "two cases of one name");
    let servers = Servers { upstream, ours };
    runner::warm(&servers, &samples).await?;
    let report = runner::run(&servers, cases, &samples, settings.print).await?;
    let verdict = known.judge(&report.findings, &ran);
    Ok(Outcome {
        report,
        verdict,
        known,
        partial: !settings.cases.is_empty(),
    })
}

/// The cases of the tree's files.
fn written() -> Result<Vec<Case>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("api_cases/cases");
    let mut cases = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let path = file.path();
        let group = path
            .file_stem()
            .and_then(|name| name.to_str())
            .context("a name")?;
        let text = std::fs::read_to_string(&path)?;
        cases.extend(case::read(group, &text).with_context(|| path.display().to_string())?);
    }
    Ok(cases)
}

impl Outcome {
    /// Whether nothing differs but what is expected, and all of that does.
    pub fn holds(&self) -> bool {
        self.verdict.changed.is_empty() && (self.partial || self.verdict.unused.is_empty())
    }

    /// Writes the list of what is to be mended anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bless(&self) -> Result<()> {
        self.known.bless(&self.verdict, !self.partial)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for changed in &self.verdict.changed {
            for finding in changed.findings.iter().take(SHOWN) {
                writeln!(out, "{finding}")?;
            }
            writeln!(
                out,
                "CHANGED {}: {} differences, {} are listed\n  reproduce: {COMMAND} --print --case '{}'",
                changed.case,
                changed.findings.len(),
                changed.listed,
                changed.case
            )?;
        }
        if !self.verdict.changed.is_empty() {
            writeln!(out, "when what is listed was mended: {COMMAND} --bless")?;
        }
        for pattern in self.verdict.unused.iter().filter(|_| !self.partial) {
            writeln!(
                out,
                "UNUSED {pattern}: take it off tests/api_cases/allowed.yaml"
            )?;
        }
        writeln!(
            out,
            "{:<14}{:>7}{:>7}{:>11}{:>13}{:>13}",
            "group", "cases", "steps", "differing", "differences", "not reached"
        )?;
        let mut all = GroupTally::default();
        for (group, tally) in &self.report.groups {
            row(out, group, tally)?;
            all.cases += tally.cases;
            all.steps += tally.steps;
            all.differing += tally.differing;
            all.differences += tally.differences;
            all.not_reached += tally.not_reached;
        }
        row(out, "all", &all)?;
        writeln!(
            out,
            "{} cases changed, {} differences to be mended, {} allowed",
            self.verdict.changed.len(),
            self.verdict.pending,
            self.verdict.allowed
        )
    }
}

fn row(out: &mut std::fmt::Formatter<'_>, name: &str, tally: &GroupTally) -> std::fmt::Result {
    writeln!(
        out,
        "{name:<14}{:>7}{:>7}{:>11}{:>13}{:>13}",
        tally.cases, tally.steps, tally.differing, tally.differences, tally.not_reached
    )
}
