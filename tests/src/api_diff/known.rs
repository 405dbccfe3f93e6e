//! Differences that are expected: those that stay, with their reasons, and those
//! that are to be mended, so that none comes or goes unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::case::checksum;
use super::runner::Found;
use super::yaml;

/// At most this many differences stay.
const ALLOWED: usize = 20;

/// One that stays. `*` stands for anything in both patterns.
#[derive(Clone, Debug)]
struct Allowed {
    step: String,
    path: String,
}

/// How many differences a case has, and a checksum of their steps and paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    pub count: usize,
    sum: u32,
}

/// Both lists.
#[derive(Clone, Debug)]
pub struct Expected {
    allowed: Vec<Allowed>,
    /// By case.
    pending: BTreeMap<String, Pending>,
}

/// A case that does not differ as the list says.
#[derive(Clone, Debug)]
pub struct Changed {
    pub case: String,
    /// What the list says.
    pub listed: usize,
    /// What was found now.
    pub findings: Vec<Found>,
}

/// What a run found beside what was expected.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub changed: Vec<Changed>,
    /// Patterns of what stays that fit nothing.
    pub unused: Vec<String>,
    pub pending: usize,
    pub allowed: usize,
    /// What the list should say of the cases that ran.
    found: BTreeMap<String, Pending>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("api_cases")
}

fn pending_file() -> PathBuf {
    folder().join("pending.txt")
}

impl Expected {
    /// Those of the tree.
    ///
    /// # Errors
    /// A list is not written as it should be, or too long.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string(folder().join("allowed.yaml"))?;
        let Value::Array(written) = yaml::parse(&text)? else {
            bail!("allowed.yaml: no list");
        };
        let allowed = written
            .iter()
            .map(|one| allowed(one).with_context(|| format!("allowed.yaml: {one}")))
            .collect::<Result<Vec<_>>>()?;
        if allowed.len() > ALLOWED {
            bail!("allowed.yaml: {} entries, at most {ALLOWED}", allowed.len());
        }
        let text = std::fs::read_to_string(pending_file())?;
        let pending = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| pending(line).with_context(|| format!("pending.txt: {line:?}")))
            .collect::<Result<_>>()?;
        Ok(Self { allowed, pending })
    }

    /// Judges what the cases that ran were found to differ in. What the lists say
    /// of other cases is left alone.
    pub fn judge(&self, findings: &[Found], ran: &BTreeSet<String>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut used = BTreeSet::new();
        let mut cases: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
        for finding in findings {
            let fits = self.allowed.iter().position(|one| {
                matches(&one.step, &finding.step) && matches(&one.path, &finding.difference.path)
            });
            if let Some(index) = fits {
                used.insert(index);
                verdict.allowed += 1;
            } else {
                cases.entry(finding.case()).or_default().push(finding);
            }
        }
        for case in ran {
            let findings = cases.remove(case.as_str()).unwrap_or_default();
            let found = summed(&findings);
            let listed = self.pending.get(case).copied().unwrap_or_default();
            if found == listed {
                verdict.pending += found.count;
            } else {
                verdict.changed.push(Changed {
                    case: case.clone(),
                    listed: listed.count,
                    findings: findings.into_iter().cloned().collect(),
                });
            }
            verdict.found.insert(case.clone(), found);
        }
        let unused = self.allowed.iter().enumerate();
        verdict.unused = unused
            .filter(|(index, _)| !used.contains(index))
            .map(|(_, one)| format!("{} {}", one.step, one.path))
            .collect();
        verdict
    }

    /// Writes the list of what is to be mended anew. Only a run of `all` cases
    /// takes off what no longer is a case.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bless(&self, verdict: &Verdict, all: bool) -> Result<()> {
        let mut pending = if all {
            BTreeMap::new()
        } else {
            self.pending.clone()
        };
        pending.extend(verdict.found.clone());
        let mut text = "# Cases that differ from upstream and are to be mended: case, number of differences,\n\
            # checksum of their steps and paths. The test holds it exactly; `api_diff --bless`\n\
            # writes it, `api_diff --all --case CASE` shows the differences.\n"
            .to_owned();
        for (case, Pending { count, sum }) in pending {
            if count > 0 {
                writeln!(text, "{case} {count} {sum:08x}")?;
            }
        }
        Ok(std::fs::write(pending_file(), text)?)
    }
}

fn allowed(written: &Value) -> Result<Allowed> {
    let field = |name: &str| {
        let text = written[name].as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
            .with_context(|| format!("no {name}"))
    };
    field("reason")?;
    Ok(Allowed {
        step: field("step")?,
        path: field("path")?,
    })
}

fn pending(line: &str) -> Result<(String, Pending)> {
    let mut words = line.split(' ');
    let case = words.next().context("a case")?.to_owned();
    let count = words.next().context("a number")?.parse()?;
    let sum = u32::from_str_radix(words.next().context("a checksum")?, 16)?;
    Ok((case, Pending { count, sum }))
}

fn summed(findings: &[&Found]) -> Pending {
    if findings.is_empty() {
        return Pending::default();
    }
    let mut lines: Vec<_> = findings
        .iter()
        .map(|finding| format!("{} {}\n", finding.step, finding.difference.path))
        .collect();
    lines.sort();
    Pending {
        count: lines.len(),
        sum: checksum(&lines.concat()),
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

#[cfg(test)]
mod tests {
    use super::super::compare::Mismatch;
    use super::*;

    fn finding(step: &str, path: &str) -> Found {
        Found {
            step: step.to_owned(),
            request: String::new(),
            difference: Mismatch {
                path: path.to_owned(),
                upstream: "1".to_owned(),
                ours: "2".to_owned(),
            },
        }
    }

    fn known(pending: &[&Found], allowed: &[(&str, &str)]) -> Expected {
        let allowed = allowed.iter().map(|(step, path)| Allowed {
            step: (*step).to_owned(),
            path: (*path).to_owned(),
        });
        Expected {
            allowed: allowed.collect(),
            pending: BTreeMap::from([("g/c".to_owned(), summed(pending))]),
        }
    }

    fn ran() -> BTreeSet<String> {
        BTreeSet::from(["g/c".to_owned()])
    }

    #[test]
    fn what_is_listed_is_expected() {
        let one = finding("g/c/1", "spec.a");
        let verdict = known(&[&one], &[]).judge(std::slice::from_ref(&one), &ran());
        assert!(verdict.changed.is_empty());
        assert_eq!(verdict.pending, 1);
    }

    #[test]
    fn what_comes_and_what_goes_is_told() {
        let (one, other) = (finding("g/c/1", "spec.a"), finding("g/c/1", "spec.b"));
        let known = known(&[&one], &[]);
        assert_eq!(known.judge(&[], &ran()).changed.len(), 1);
        assert_eq!(known.judge(&[one, other.clone()], &ran()).changed.len(), 1);
        // As many as before, and another one.
        assert_eq!(known.judge(&[other], &ran()).changed.len(), 1);
    }

    #[test]
    fn what_stays_counts_apart_and_must_be_met() {
        let one = finding("g/c/1", "spec.a");
        let known = known(&[], &[("g/*/1", "spec.*"), ("h/*", "*")]);
        let verdict = known.judge(&[one], &ran());
        assert!(verdict.changed.is_empty());
        assert_eq!((verdict.allowed, verdict.unused.len()), (1, 1));
    }
}
