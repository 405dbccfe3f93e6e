//! The command line, and the command that repeats a run.

use crate::nemesis::kind;
use crate::workload;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
#[command(name = "jepsen", about = "Tries to prove an etcd v3 server wrong")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster, work it, break it, check what it answered.
    ///
    /// Exit codes: 0 pass, 1 violation, 2 incomplete (something promised was
    /// not seen), 3 the harness itself failed.
    Run(RunArgs),
    /// Run a store with bugs planted in it, one at a time: each must be found.
    ///
    /// Prints a row for each run. Exit codes: 0 all were found, 1 one was not.
    Planted(PlantedArgs),
    /// Count the states that runs of such a store reached, from their logs.
    ///
    /// Exit codes: 0 all were reached, 2 no run reached one of them.
    States {
        /// The directories of the runs.
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Check the history of an earlier run again and write its report again.
    Check {
        /// The directory of that run.
        dir: PathBuf,
    },
}

#[derive(Args, Clone)]
pub struct PlantedArgs {
    /// A store built with the feature `planted`.
    #[arg(long)]
    pub binary: PathBuf,
    /// A server of the resource API of the same build.
    #[arg(long)]
    pub apiserver: Option<PathBuf>,
    /// Only this bug; may be repeated.
    #[arg(long = "bug")]
    pub bugs: Vec<String>,
    /// Seeds for each bug.
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// Do each run without the bug too; it must pass.
    #[arg(long)]
    pub control: bool,
    /// Where the files of runs go that did not end as they must.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct RunArgs {
    /// The server binary; it must take etcd's flags.
    #[arg(long)]
    pub binary: PathBuf,
    /// Members of the cluster, 1 to 5.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub members: u8,
    /// register, set, append, readwrite, history, lease, lock, lock-unsafe,
    /// watch, kubernetes, auth, objects or mixed.
    #[arg(long, default_value = "mixed")]
    pub workload: workload::Kind,
    /// Comma-separated kinds of faults; none, all, partition, member, disk and
    /// damage are groups.
    #[arg(long, default_value = "none")]
    pub fault: String,
    /// Time from fault to fault, such as 3s or 500ms.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub interval: Duration,
    /// Time under load. With --times, the load ends with the last fault.
    #[arg(long, value_parser = duration)]
    pub time: Option<Duration>,
    /// Number of faults; zero for as many as the time allows.
    #[arg(long, default_value_t = 0)]
    pub times: u32,
    /// Seed of every choice; drawn from the clock if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub clients: u32,
    /// Steps a second of all clients together; zero for as many as go.
    #[arg(long, default_value_t = 0)]
    pub rate: u32,
    /// How long a client waits for a reply.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    /// Where history, logs and report go. It must not exist yet.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Resolve unknown outcomes by scans, as for a server without a watch.
    #[arg(long)]
    pub no_watch: bool,
    /// The server of the resource API, for the workload objects.
    #[arg(long)]
    pub apiserver: Option<PathBuf>,
    /// Members and clients speak mutual TLS, as they do anyway with the workload
    /// auth and the fault corrupt.
    #[arg(long)]
    pub tls: bool,
    /// A further flag for every member; may be repeated.
    #[arg(long = "server-arg", allow_hyphen_values = true)]
    pub server_args: Vec<String>,
    /// Keep the members' data directories of a run that passed too.
    #[arg(long)]
    pub keep_data: bool,
}

/// Milliseconds, seconds or minutes: 500ms, 3s, 2m.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("not a number: {number:?}"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|e| e.to_string())
}

fn plain(d: Duration) -> String {
    format!("{}ms", d.as_millis())
}

impl RunArgs {
    pub fn kinds(&self) -> Result<Vec<kind::Kind>, String> {
        kind::parse(&self.fault)
    }

    pub fn speaks_tls(&self, kinds: &[kind::Kind]) -> bool {
        self.tls || self.workload == workload::Kind::Auth || kinds.contains(&kind::Kind::Corrupt)
    }

    /// The command that makes the same choices again.
    pub fn repeat(&self, seed: u64) -> String {
        let mut words = vec![
            "jepsen run".to_string(),
            format!("--binary {}", self.binary.display()),
            format!("--members {}", self.members),
            format!("--workload {}", self.workload.name()),
            format!("--fault {}", self.fault),
            format!("--interval {}", plain(self.interval)),
        ];
        words.extend(self.time.map(|t| format!("--time {}", plain(t))));
        words.extend([
            format!("--times {}", self.times),
            format!("--clients {}", self.clients),
            format!("--rate {}", self.rate),
            format!("--timeout {}", plain(self.timeout)),
        ]);
        words.extend(self.no_watch.then(|| "--no-watch".to_string()));
        let apiserver = self.apiserver.as_ref();
        words.extend(apiserver.map(|path| format!("--apiserver {}", path.display())));
        words.extend(self.tls.then(|| "--tls".to_string()));
        words.extend(self.server_args.iter().map(|a| format!("--server-arg={a}")));
        words.push(format!("--seed {seed}"));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("3s").unwrap(), Duration::from_secs(3));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert!(duration("3 days").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn the_repeating_command_parses_to_the_same_run() {
        let words = "jepsen run --binary /bin/x --fault kill-all,pause-leader --times 20 --interval 3s --server-arg=--snapshot-count=100";
        let Command::Run(first) = Cli::try_parse_from(words.split(' ')).unwrap().command else {
            panic!("not a run")
        };
        let again = first.repeat(7);
        let Command::Run(second) = Cli::try_parse_from(again.split(' ')).unwrap().command else {
            panic!("not a run")
        };
        assert_eq!(second.repeat(7), again);
        assert_eq!(second.seed, Some(7));
        assert_eq!(second.server_args, first.server_args);
        assert_eq!(second.kinds(), first.kinds());
    }
}
