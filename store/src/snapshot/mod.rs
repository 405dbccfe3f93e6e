//! `mizzen snapshot`: what a backup holds, and a new member made of one, with the
//! flags and the texts of etcd's `etcdutl`. `mizzen migrate`: one made of a running
//! etcd.
//!
//! Knows arguments and files, and etcd as its client. Runs while no member does.

mod arguments;
mod data_dir;
mod etcd_log;
mod file;
mod migrate;
mod new_member;
mod restore;
mod source;
mod status;

use std::{ffi::OsString, io, process::ExitCode};

use arguments::Command;

/// etcd's code for arguments that make no sense.
const BAD_ARGUMENTS: u8 = 128;

const USAGE: &str = "Manages etcd node snapshots

Usage:
  mizzen snapshot status <filename> [-w simple|json|fields|table]
  mizzen snapshot restore <filename> --data-dir {output dir} [options]
  mizzen snapshot restore --from-data-dir {etcd's dir} --data-dir {output dir} [options]

Options of restore:
  --data-dir                     Path to the output data directory
  --wal-dir                      Path to the WAL directory (use --data-dir if none given)
  --name                         Human-readable name for this member (default \"default\")
  --initial-cluster              Initial cluster configuration for restore bootstrap
  --initial-cluster-token        Initial cluster token for the cluster during restore bootstrap
  --initial-advertise-peer-urls  List of this member's peer URLs to advertise to the rest of the cluster
  --skip-hash-check              Ignore snapshot integrity hash value (required if copied from data directory)
  --from-data-dir                Data directory of an etcd that was stopped cleanly, instead of a file; it is only read
  --from-wal-dir                 Its WAL directory, if that was elsewhere
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

const MIGRATE_USAGE: &str = "Makes a member with the data of an etcd that goes on serving

Usage:
  mizzen migrate --from {URL} --data-dir {output dir} [options]

It copies a snapshot, then takes every change as it happens. When writes to that etcd
have ended, end this by SIGTERM or Ctrl-C: it takes what is left, compares hashes, and
the member can be started. Run one for each member, and end them together.

Options:
  --from                         Client URL of a member of that etcd
  --cacert, --cert, --key        Files to connect to it by TLS, as etcdctl's
  --user                         name:password of a user with the role root
  --skip-hash-check              Do not compare the hash of all keys, which reads all of them on both sides
  --data-dir, --wal-dir, --name, --initial-cluster, --initial-cluster-token,
  --initial-advertise-peer-urls  As of mizzen snapshot restore
";

/// Carries out what follows `mizzen migrate`.
pub fn migrate(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    ended(
        arguments::parse_migrate(arguments).and_then(|flags| match flags {
            None => {
                print!("{MIGRATE_USAGE}");
                Ok(())
            }
            Some(flags) => migrate::migrate(&flags),
        }),
    )
}

/// Carries out what follows `mizzen snapshot`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    ended(
        arguments::parse(arguments).and_then(|command| match command {
            Command::Help => {
                print!("{USAGE}");
                Ok(())
            }
            Command::Status { file, form } => status::print(&file, form),
            Command::Restore(restore) => restore::restore(&restore),
        }),
    )
}

fn ended(done: Result<(), Failure>) -> ExitCode {
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
