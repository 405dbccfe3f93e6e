//! Differences that are expected: those that stay, with their reasons, and those
//! that are to be mended, each by name, so that none comes or goes unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::runner::Finding;
use super::yaml;

/// At most this many differences stay.
const ALLOWED: usize = 20;

/// One that stays. `*` stands for anything in both patterns.
#[derive(Clone, Debug)]
struct Allowed {
    step: String,
    path: String,
}

/// Both lists.
#[derive(Clone, Debug)]
pub struct Known {
    allowed: Vec<Allowed>,
    pending: BTreeSet<String>,
}

/// What a run found beside what was expected.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub new: Vec<Finding>,
    /// Lines of the list that were not found again.
    pub mended: Vec<String>,
    /// Patterns of the other list that fit nothing.
    pub unused: Vec<String>,
    pub pending: usize,
    pub allowed: usize,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("api_cases")
}

fn pending_file() -> PathBuf {
    folder().join("pending.txt")
}

fn line(finding: &Finding) -> String {
    format!("{} {}", finding.step, finding.difference.path)
}

impl Known {
    /// Those of the tree.
    ///
    /// # Errors
    /// A list is not written as it should be, or too long.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string(folder().join("allowed.yaml"))?;
        let Value::Array(written) = yaml::parse(&text)? else {
            bail!("allowed.yaml: no list");
        };
        let mut allowed = Vec::new();
        for one in &written {
            let field = |name: &str| {
                let text = one[name].as_str().filter(|text| !text.is_empty());
                text.map(str::to_owned).with_context(|| format!("allowed.yaml: no {name} in {one}"))
            };
            field("reason")?;
            allowed.push(Allowed {
                step: field("step")?,
                path: field("path")?,
            });
        }
        if allowed.len() > ALLOWED {
            bail!("allowed.yaml: {} entries, at most {ALLOWED}", allowed.len());
        }
        let pending = std::fs::read_to_string(pending_file())?;
        let pending = pending.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Ok(Self {
            allowed,
            pending: pending.map(str::to_owned).collect(),
        })
    }

    /// Judges what a run over the cases found. Lines of cases that did not run
    /// say nothing.
    pub fn judge(&self, findings: &[Finding], ran: &BTreeSet<String>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut used = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for finding in findings {
            let fits = self.allowed.iter().position(|one| {
                matches(&one.step, &finding.step) && matches(&one.path, &finding.difference.path)
            });
            if let Some(index) = fits {
                *used.entry(index).or_insert(0) += 1;
                verdict.allowed += 1;
            } else if self.pending.contains(&line(finding)) {
                seen.insert(line(finding));
                verdict.pending += 1;
            } else {
                verdict.new.push(finding.clone());
            }
        }
        let case = |line: &str| line.split(' ').next().and_then(|step| Some(step.rsplit_once('/')?.0.to_owned()));
        verdict.mended = self
            .pending
            .iter()
            .filter(|line| !seen.contains(*line) && case(line).is_some_and(|case| ran.contains(&case)))
            .cloned()
            .collect();
        verdict.unused = self
            .allowed
            .iter()
            .enumerate()
            .filter(|(index, _)| !used.contains_key(index))
            .map(|(_, one)| format!("{} {}", one.step, one.path))
            .collect();
        verdict
    }

    /// Writes the list of what is to be mended anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bless(&self, verdict: &Verdict, ran: &BTreeSet<String>) -> Result<()> {
        let mended: BTreeSet<_> = verdict.mended.iter().cloned().collect();
        let mut lines: BTreeSet<_> = self.pending.difference(&mended).cloned().collect();
        lines.extend(verdict.new.iter().map(line));
        let mut text = "# Differences from upstream that are to be mended, one a line: case, step and path.\n\
            # The test holds the list exactly; `api_diff --bless` writes it.\n".to_owned();
        // A case that was removed or renamed leaves no line behind.
        let kept = lines.into_iter().filter(|line| {
            let step = line.split(' ').next().unwrap_or_default();
            step.rsplit_once('/').is_some_and(|(case, _)| ran.contains(case) || ran.len() < 500)
        });
        for line in kept {
            writeln!(text, "{line}")?;
        }
        Ok(std::fs::write(pending_file(), text)?)
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            rest.is_empty()
                || (0..=text.len())
                    .filter(|at| text.is_char_boundary(*at))
                    .any(|at| matches(rest, &text[at..]))
        }),
    }
}
