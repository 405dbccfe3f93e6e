//! What `--help`, `--version` and a command line that is not understood print.

use std::fmt::Write as _;

use super::value::Kind;
use super::{support::Support, table::FLAGS};
use crate::version;

/// Printed after the reason when a command line is not understood.
pub const USAGE: &str = "\
Usage:

  mizzen [flags]
    Start one member of a cluster. The flags are those of etcd.

  mizzen --version
    Print the version.

  mizzen -h | --help
    Print every flag.

  mizzen --config-file PATH
    Read the configuration from a YAML file. Other flags and the environment
    are then ignored. Durations are whole nanoseconds there.
";

/// Every flag, grouped by what it does here.
pub(super) fn help() -> String {
    let mut text = format!(
        "{USAGE}\nA flag is also set by the environment: --data-dir by ETCD_DATA_DIR.\n\nFlags:\n"
    );
    let of = |wanted: fn(&Support) -> bool| {
        FLAGS
            .iter()
            .filter(move |flag| wanted(&flag.support) && flag.kind != Kind::Legacy)
    };
    for flag in of(|support| matches!(support, Support::Used(_))) {
        let Support::Used(about) = flag.support else {
            continue;
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  --{} '{}'\n    {about}", flag.name, flag.default);
    }
    text.push_str("\nAccepted without effect:\n");
    for flag in of(|support| matches!(support, Support::Accepted(_))) {
        let Support::Accepted(reason) = flag.support else {
            continue;
        };
        let _ = writeln!(text, "  --{}\n    {reason}", flag.name);
    }
    text.push_str("\nKnown, and refused unless at the default:\n");
    for flag in of(|support| matches!(support, Support::Refused(_))) {
        let Support::Refused(reason) = flag.support else {
            continue;
        };
        let _ = writeln!(text, "  --{} '{}'\n    {reason}", flag.name, flag.default);
    }
    text
}

/// The first line is etcd's, word for word: tools read the version from it.
pub(super) fn version() -> String {
    format!(
        "etcd Version: {}\nMizzen Version: {}\nOS/Arch: {}/{}\n",
        version::ETCD,
        version::MIZZEN,
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
