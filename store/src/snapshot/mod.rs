//! `mizzen snapshot`: what a backup holds, and a new member made of one. With the
//! flags and the texts of etcd's `etcdutl`.
//!
//! Knows arguments and files. Runs while no member does.

mod arguments;
mod file;
mod restore;
mod status;

use std::{ffi::OsString, io, process::ExitCode};

use arguments::Command;

/// etcd's code for arguments that make no sense.
const BAD_ARGUMENTS: u8 = 128;

const USAGE: &str = "Manages etcd node snapshots

Usage:
  mizzen snapshot status <filename> [-w simple|json|fields|table]
  mizzen snapshot restore <filename> --data-dir {output dir} [options]

Options of restore:
  --data-dir                     Path to the output data directory
  --wal-dir                      Path to the WAL directory (use --data-dir if none given)
  --name                         Human-readable name for this member (default \"default\")
  --initial-cluster              Initial cluster configuration for restore bootstrap
  --initial-cluster-token        Initial cluster token for the cluster during restore bootstrap
  --initial-advertise-peer-urls  List of this member's peer URLs to advertise to the rest of the cluster
  --skip-hash-check              Ignore snapshot integrity hash value (required if copied from data directory)
  --bump-revision                How much to increase the latest revision after restore
  --mark-compacted               Mark the latest revision after restore as the point of scheduled compaction
                                 (required if --bump-revision > 0, disallowed otherwise)
";

/// Why a command was not carried out.
#[derive(Debug)]
enum Failure {
    /// It makes no sense.
    Arguments(String),
    Failed(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Carries out what follows `mizzen snapshot`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let done = arguments::parse(arguments).and_then(|command| match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Status { file, form } => status::print(&file, form),
        Command::Restore(restore) => restore::restore(&restore),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Arguments(text)) => {
            eprintln!("Error: {text}");
            ExitCode::from(BAD_ARGUMENTS)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("Error: {text}");
            ExitCode::FAILURE
        }
    }
}
