//! Sends the same requests to upstream's kube-apiserver and to the resource API
//! and tells where they answer differently.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mizzen_tests::api_diff::{Settings, run};

/// Compares the resource API with kube-apiserver, answer by answer.
#[derive(Parser)]
struct Arguments {
    /// Cases to run, as `group/case`, with `*` for anything [default: all].
    #[arg(long = "case")]
    cases: Vec<String>,
    /// Shows requests and answers.
    #[arg(long)]
    print: bool,
    /// Shows every difference, also those that are expected.
    #[arg(long)]
    all: bool,
    /// Writes the list of differences to be mended anew.
    #[arg(long)]
    bless: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let settings = Settings {
        cases: arguments.cases,
        print: arguments.print,
    };
    let outcome = run(&settings).await?;
    if arguments.all {
        for finding in &outcome.report.findings {
            println!("{finding}");
        }
    }
    if arguments.bless {
        outcome.bless()?;
    }
    print!("{outcome}");
    Ok(if outcome.holds() || arguments.bless {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
