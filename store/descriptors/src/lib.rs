//! File descriptors of a process: how many it may have, and accepting no more
//! connections than there are places for.
//!
//! A process that runs out of them cannot open its own files either. So each
//! connection takes a [`Place`] of a number that was set apart for connections,
//! and who comes when there is none is turned away at once.
//!
//! Knows limits of the operating system and TCP listeners. Must not know what a
//! connection carries, nor what else the process opens: that is the caller's
//! arithmetic.

mod accept;
mod rate_limited;

pub use accept::{Listen, Place, Places, accept};

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many files this process may have open; `None`: there is no limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises this process's own limit of open files to the highest one that it may
/// set, as programs in Go do, and gives that.
///
/// # Errors
/// The system refuses what it has promised.
pub fn raise() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a number there is no limit.
    let highest = maximum.unwrap_or(u64::MAX);
    if current.unwrap_or(u64::MAX) < highest {
        let current = maximum;
        setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    }
    Ok(highest)
}
