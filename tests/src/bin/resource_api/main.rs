//! Tools around the resource API, each with a store and servers of its own.

mod bench;
mod follow;
mod fuzz;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(about)]
enum Tool {
    Fuzz(fuzz::Arguments),
    Follow(follow::Arguments),
    Bench(bench::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Tool::parse() {
        Tool::Fuzz(arguments) => fuzz::run(arguments).await,
        Tool::Follow(arguments) => follow::run(arguments).await,
        Tool::Bench(arguments) => bench::run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
