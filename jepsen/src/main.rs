//! The command: run or check, print one line for each check, exit by verdict.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use mizzen_jepsen::check::{Verdict, check, overall};
use mizzen_jepsen::cli::{Cli, Command, RunArgs};
use mizzen_jepsen::history::file;
use mizzen_jepsen::{planted, report, run, states};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    match start() {
        Ok(Verdict::Pass) => ExitCode::SUCCESS,
        Ok(Verdict::Violation) => ExitCode::from(1),
        Ok(Verdict::Incomplete) => ExitCode::from(2),
        Err(e) => {
            eprintln!("jepsen: {e:#}");
            ExitCode::from(3)
        }
    }
}

fn start() -> Result<Verdict> {
    match Cli::parse().command {
        Command::Run(args) => drive(&args),
        Command::Planted(args) => planted::run(&args),
        Command::States { dirs } => states::run(&dirs),
        Command::Check { dir } => judge(&dir),
    }
}

fn drive(args: &RunArgs) -> Result<Verdict> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| run::default_dir(args, seed));
    ensure!(!dir.exists(), "{} exists already", dir.display());
    println!("repeat with: {}", args.repeat(seed));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ran = runtime.block_on(run::run(args, seed, &dir));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // What was recorded before a run broke off may already prove a fault.
    let verdict = match ran {
        Ok(()) => judge(&dir)?,
        Err(e) => {
            let e = e.context(format!(
                "the run broke off; its files are in {}",
                dir.display()
            ));
            eprintln!("jepsen: {e:#}");
            match judge(&dir)? {
                Verdict::Violation => Verdict::Violation,
                Verdict::Pass | Verdict::Incomplete => return Err(e),
            }
        }
    };
    let data = dir.join("data");
    if verdict == Verdict::Pass && !args.keep_data {
        std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
    }
    println!("repeat with: {}", args.repeat(seed));
    Ok(verdict)
}

fn judge(dir: &Path) -> Result<Verdict> {
    let history = file::read(&dir.join(run::HISTORY))?;
    let findings = check(&history, &dir.join(run::LOGS));
    for finding in &findings {
        println!("{}", finding.line());
        for anomaly in &finding.anomalies {
            println!("    {}  (operations {:?})", anomaly.why, anomaly.ops);
        }
        for gap in &finding.gaps {
            println!("    {gap}");
        }
    }
    let page = report::write(dir, &history, &findings)?;
    let verdict = overall(&findings);
    println!("{}  report: {}", verdict.name(), page.display());
    Ok(verdict)
}
