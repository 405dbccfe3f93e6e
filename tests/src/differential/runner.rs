//! Many sequences, and the smallest part of one that still differs.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};

use super::generate::Generator;
use super::sequence::{Finding, Pair, Stop, Tally, place, run_sequence};
use super::side::Side;

/// Starts over after an interruption at most so often in a row.
const MOST_RESTARTS: u32 = 5;
/// Runs spent on making a failing sequence shorter.
const SHRINK_RUNS: usize = 60;

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seed of the first sequence; the next ones count up.
    pub seed: u64,
    pub sequences: u64,
    /// Least number of operations of a sequence; at most half as many more.
    pub shortest: usize,
    /// The candidate is an etcd too, so nothing is sent that stops one.
    pub candidate_is_etcd: bool,
    /// Only these operations of each sequence.
    pub only: Option<Vec<usize>>,
    /// Least revision of the first sequence's start, to reproduce it exactly.
    pub start_revision: i64,
    /// How many differing sequences are reported before the run ends.
    pub findings: usize,
    /// The command that starts such a run, without the options above.
    pub command: String,
}

impl Settings {
    /// The command that runs one sequence alone from a revision.
    fn reproduce(&self, seed: u64, start_revision: i64) -> String {
        format!(
            "{} --seed {seed} --sequences 1 --shortest {} --start-revision {start_revision}",
            self.command, self.shortest
        )
    }
}

/// What a run did and found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sequences: u64,
    /// Operations compared, by method and code of the answer.
    pub answers: BTreeMap<(&'static str, String), u64>,
    /// Transactions that stop an etcd, refused by the candidate as specified.
    pub refused: u64,
    /// Compactions not sent, since they would stop the reference.
    pub left_out: u64,
    /// Sorted ranges whose equal-ranking pairs came in another order.
    pub reordered: u64,
    /// Events of watches compared.
    pub events: u64,
    /// Sequences started over because a member was unavailable.
    pub interrupted: u64,
    /// Accounts of the sequences that differed.
    pub findings: Vec<String>,
}

impl Report {
    /// Operations compared.
    pub fn operations(&self) -> u64 {
        self.answers.values().sum()
    }

    fn add(&mut self, tally: Tally) {
        self.sequences += 1;
        self.refused += tally.refused;
        self.left_out += tally.left_out;
        self.reordered += tally.reordered;
        self.events += tally.events;
        for (answer, count) in tally.answers {
            *self.answers.entry(answer).or_default() += count;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((method, code), count) in &self.answers {
            writeln!(f, "{method:16} {code:18} {count}")?;
        }
        write!(
            f,
            "{} sequences without a difference, {} operations and {} events of watches compared, {} refused by the \
             candidate alone, {} compactions left out, {} ranges ordered otherwise among \
             equals, {} interruptions, {} sequences with differences",
            self.sequences,
            self.operations(),
            self.events,
            self.refused,
            self.left_out,
            self.reordered,
            self.interrupted,
            self.findings.len(),
        )
    }
}

/// Runs the sequences and prints each difference as it is found.
///
/// # Errors
/// If a cluster is not usable: a member does not answer, the reference is not
/// an etcd 3.7, or interruptions do not end. Differences are in the report.
pub async fn run(reference: &Side, candidate: &Side, settings: &Settings) -> Result<Report> {
    for member in reference.members() {
        let version = member.version().await;
        let version = version.map_err(|failure| anyhow::anyhow!("{failure}"));
        let version = version.with_context(|| format!("version of {}", member.endpoint()))?;
        ensure!(
            version.starts_with("3.7."),
            "{} is etcd {version}; versions before 3.7 stop at some of the requests sent",
            member.endpoint()
        );
    }
    let pair = Pair {
        reference,
        candidate,
        candidate_is_etcd: settings.candidate_is_etcd,
    };
    let mut report = Report::default();
    for number in 0..settings.sequences {
        let seed = settings.seed.wrapping_add(number);
        let generator = Generator::new(seed, settings.shortest);
        let indices = match &settings.only {
            Some(only) => only.clone(),
            None => (0..generator.length()).collect(),
        };
        let attempted = attempt(pair, &generator, &indices, settings, &mut report).await;
        let attempted = attempted.with_context(|| {
            format!(
                "reproduce: {}",
                settings.reproduce(seed, settings.start_revision)
            )
        })?;
        let finding = match attempted {
            Ok(tally) => {
                report.add(tally);
                continue;
            }
            Err(finding) => finding,
        };
        let account = describe(pair, &generator, &indices, &finding, seed, settings).await;
        println!("{account}\n");
        report.findings.push(account);
        if report.findings.len() >= settings.findings {
            break;
        }
    }
    Ok(report)
}

/// Runs a sequence, again if it is interrupted.
async fn attempt(
    pair: Pair<'_>,
    generator: &Generator,
    indices: &[usize],
    settings: &Settings,
    report: &mut Report,
) -> Result<Result<Tally, Finding>> {
    for _ in 0..MOST_RESTARTS {
        match run_sequence(pair, generator, indices, settings.start_revision).await {
            Ok(tally) => return Ok(Ok(tally)),
            Err(Stop::Found(finding)) => return Ok(Err(*finding)),
            Err(Stop::Interrupted(doing, failure)) => {
                println!("interrupted at {doing}: {failure}");
                report.interrupted += 1;
            }
        }
    }
    bail!("a sequence was interrupted {MOST_RESTARTS} times in a row");
}

/// The finding, the command that reproduces it, and its smallest part known to
/// differ.
async fn describe(
    pair: Pair<'_>,
    generator: &Generator,
    indices: &[usize],
    finding: &Finding,
    seed: u64,
    settings: &Settings,
) -> String {
    let command = settings.reproduce(seed, finding.start);
    let reached = indices
        .iter()
        .copied()
        .filter(|index| finding.index.is_none_or(|last| *index <= last))
        .collect();
    let mut text = format!(
        "DIFFERENCE in sequence {seed} {}\n{}\nreproduce: {command}",
        place(finding.index),
        finding.account
    );
    match shrink(pair, generator, reached, settings).await {
        Some((shortest, finding)) => {
            let list: Vec<_> = shortest.iter().map(ToString::to_string).collect();
            text.push_str(&format!(
                "\nshortest part found: {command} --only {}\n{}",
                list.join(","),
                finding.account
            ));
        }
        None => {
            text.push_str("\nnot seen when the sequence was run again, or a member did not answer")
        }
    }
    text
}

/// Leaves out ever smaller groups of operations as long as a difference stays.
async fn shrink(
    pair: Pair<'_>,
    generator: &Generator,
    mut indices: Vec<usize>,
    settings: &Settings,
) -> Option<(Vec<usize>, Finding)> {
    let differs = async |indices: &[usize]| match run_sequence(
        pair,
        generator,
        indices,
        settings.start_revision,
    )
    .await
    {
        Err(Stop::Found(finding)) => Some(*finding),
        Ok(_) | Err(Stop::Interrupted(..)) => None,
    };
    let mut smallest = differs(&indices).await?;
    let mut runs = 0;
    let mut group = indices.len().div_ceil(2);
    while group > 0 && runs < SHRINK_RUNS {
        let mut from = 0;
        while from < indices.len() && runs < SHRINK_RUNS {
            let to = (from + group).min(indices.len());
            let rest = [&indices[..from], &indices[to..]].concat();
            runs += 1;
            match differs(&rest).await {
                Some(finding) => {
                    smallest = finding;
                    indices = rest;
                }
                None => from = to,
            }
        }
        group /= 2;
    }
    Some((indices, smallest))
}
