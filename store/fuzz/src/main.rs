//! Feeds the targets for as long as is wanted, with mutations of the corpus and
//! of what led somewhere new.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use mizzen_fuzz::{Outcome, TARGETS, Target, mutate::mutated};
use rand::{SeedableRng as _, rngs::StdRng};

/// Inputs that led somewhere new and are kept to be mutated.
const KEPT: usize = 20_000;
/// Between two lines about a target.
const REPORT: Duration = Duration::from_secs(60);
/// An input that takes longer is told of.
const SLOW: Duration = Duration::from_secs(2);

/// Fuzzes what reads bytes of clients, peers and disks.
#[derive(Parser)]
struct Arguments {
    /// One of the folders of `corpus/`; all in turn without it.
    #[arg(long)]
    target: Option<String>,
    /// How long, all targets together.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the run [default: from the clock].
    #[arg(long)]
    seed: Option<u64>,
    /// Where inputs go that something is wrong with.
    #[arg(long, default_value = ".")]
    findings: PathBuf,
    /// Runs one input, and says what it led to.
    #[arg(long)]
    input: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let targets: Vec<Target> = TARGETS
        .into_iter()
        .filter(|target| {
            arguments
                .target
                .as_deref()
                .is_none_or(|name| name == target.name)
        })
        .collect();
    let first = targets.first().context("no such target")?;
    if let Some(input) = &arguments.input {
        println!("{:?}", (first.run)(&std::fs::read(input)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let each = Duration::from_secs(arguments.seconds) / u32::try_from(targets.len())?;
    let mut findings = 0;
    for target in targets {
        println!("{}: seed {seed}", target.name);
        findings += fuzz(target, seed, each, &arguments.findings)?;
    }
    println!("{findings} findings");
    Ok(match findings {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn fuzz(target: Target, seed: u64, length: Duration, folder: &std::path::Path) -> Result<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut seen, mut kept) = (HashSet::<u64>::new(), Vec::new());
    let (mut executions, mut findings) = (0_u64, 0_u64);
    let mut corpus: Vec<_> = target
        .corpus()?
        .into_iter()
        .map(|(_, input)| input)
        .collect();
    let (begun, mut reported) = (Instant::now(), Instant::now());
    while begun.elapsed() < length {
        let input = match corpus.pop() {
            Some(input) => input,
            None => mutated(&kept, &mut random),
        };
        let asked = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        executions += 1;
        let wrong = match outcome {
            Ok(Ok(_)) if asked.elapsed() > SLOW => slow_again(target, &input),
            Ok(Ok(outcome)) => {
                // Hashes: there may be millions of them in hours.
                if seen.insert(hash(&outcome)) && kept.len() < KEPT {
                    kept.push(input.clone());
                }
                None
            }
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("panicked".to_owned()),
        };
        if let Some(wrong) = wrong {
            findings += 1;
            let path = folder.join(format!("{}-{seed}-{executions}", target.name));
            std::fs::write(&path, &input)?;
            println!(
                "{wrong}\n  fuzz --target {} --input {}",
                target.name,
                path.display()
            );
        }
        if reported.elapsed() > REPORT {
            reported = Instant::now();
            report(target, executions, &seen, findings, begun);
        }
    }
    report(target, executions, &seen, findings, begun);
    Ok(findings)
}

/// The process may have been stopped: what is slow is so every time.
fn slow_again(target: Target, input: &[u8]) -> Option<String> {
    let asked = Instant::now();
    let again = (target.run)(input);
    let took = asked.elapsed();
    (again.is_err() || took > SLOW).then(|| format!("took {took:?}"))
}

fn hash(outcome: &Outcome) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}

fn report(target: Target, executions: u64, seen: &HashSet<u64>, findings: u64, begun: Instant) {
    println!(
        "{}: {executions} executions, {} different outcomes, {findings} findings, {} s",
        target.name,
        seen.len(),
        begun.elapsed().as_secs()
    );
}
