//! Sends random operations to a reference etcd and to a candidate cluster and
//! compares every answer. Starts both clusters unless it is given endpoints.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::differential::{Settings, Side, run};

/// A leader stays in office when the machine is busy. Equal on both sides, since
/// the least TTL of a lease follows from it.
const TIMING: [&str; 2] = ["--heartbeat-interval=300", "--election-timeout=3000"];

/// Compares a candidate cluster with etcd 3.7, answer by answer.
///
/// Clusters given by their endpoints must be for this test only: it deletes
/// every key and compacts. Their members need equal election timeouts.
#[derive(Parser)]
struct Arguments {
    /// Client endpoints of etcd, separated by commas, instead of starting it.
    #[arg(long, value_delimiter = ',')]
    reference: Vec<String>,
    /// Members of the etcd to start.
    #[arg(long, default_value_t = 1)]
    reference_members: usize,
    /// Client endpoints of the candidate, separated by commas, instead of starting it.
    #[arg(long, value_delimiter = ',')]
    candidate: Vec<String>,
    /// Members of the candidate to start.
    #[arg(long, default_value_t = 3)]
    candidate_members: usize,
    /// An etcd as the candidate is asked nothing that is known to stop one.
    #[arg(long, value_enum, default_value_t = Candidate::Mizzen)]
    candidate_is: Candidate,
    /// Seed of the first sequence [default: from the clock].
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 500)]
    sequences: u64,
    /// Least operations in a sequence; at most half as many more.
    #[arg(long, default_value_t = 100)]
    shortest: usize,
    /// Run only these operations of each sequence, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<usize>>,
    /// Bring both clusters to this revision first.
    #[arg(long, default_value_t = 0)]
    start_revision: i64,
    /// End after so many sequences with differences.
    #[arg(long, default_value_t = 1)]
    findings: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Candidate {
    Mizzen,
    Etcd,
}

impl Arguments {
    /// The command that compares the same clusters.
    fn command(&self) -> String {
        let mut command = "cargo run --release -p mizzen-tests --bin differential --".to_owned();
        for (name, endpoints, members) in [
            ("reference", &self.reference, self.reference_members),
            ("candidate", &self.candidate, self.candidate_members),
        ] {
            command.push_str(&if endpoints.is_empty() {
                format!(" --{name}-members {members}")
            } else {
                format!(" --{name} {}", endpoints.join(","))
            });
        }
        if self.candidate_is == Candidate::Etcd {
            command.push_str(" --candidate-is etcd");
        }
        command
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 1_000_000_000,
    };
    let settings = Settings {
        seed,
        sequences: arguments.sequences,
        shortest: arguments.shortest,
        candidate_is_etcd: arguments.candidate_is == Candidate::Etcd,
        start_revision: arguments.start_revision,
        findings: arguments.findings,
        command: arguments.command(),
        only: arguments.only,
    };

    // The clusters live until the end of the run.
    let mut started = Vec::new();
    let mut sides = Vec::new();
    for (name, endpoints, members) in [
        (
            "reference",
            arguments.reference,
            arguments.reference_members,
        ),
        (
            "candidate",
            arguments.candidate,
            arguments.candidate_members,
        ),
    ] {
        let endpoints = if endpoints.is_empty() {
            let is_etcd = name == "reference" || settings.candidate_is_etcd;
            let cluster = start(is_etcd, members).await?;
            let endpoints = cluster.endpoints();
            started.push(cluster);
            endpoints
        } else {
            endpoints
        };
        sides.push(Side::new(name, &endpoints)?);
    }

    println!("seeds {seed} to {}", seed + settings.sequences - 1);
    let report = run(&sides[0], &sides[1], &settings).await;
    let passed = match &report {
        Ok(report) => {
            println!("{report}");
            report.findings.is_empty()
        }
        Err(error) => {
            println!("{error:#}");
            false
        }
    };
    if passed {
        return Ok(ExitCode::SUCCESS);
    }
    for cluster in &started {
        println!("{}", cluster.log_tails());
    }
    Ok(ExitCode::FAILURE)
}

async fn start(is_etcd: bool, members: usize) -> Result<Cluster> {
    let binary = if is_etcd {
        cluster::reference()?
    } else {
        cluster::mizzen()?
    };
    let options = TIMING
        .into_iter()
        .fold(Options::new(binary).members(members), Options::flag);
    Cluster::start(options).await
}
