//! Any bytes for everything that reads those of clients, peers and disks.
//!
//! A target takes bytes and says what is wrong with what was made of them; a
//! panic says so too. `corpus/` holds inputs worth beginning with, by
//! target, and what was found once.

mod connection;
mod headers;
mod log;
pub mod mutate;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

pub use connection::connection;
pub use headers::headers;
pub use log::log;
use mizzen_store::fuzzing::{self, Verdict};

/// A function that is fed with bytes.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> Result<Outcome>,
}

/// What an input led to. Inputs of the same outcome went the same way, as far
/// as can be seen from outside: this stands for coverage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome(pub String);

/// Of the store's own.
fn judged(verdict: Verdict) -> Result<Outcome> {
    verdict.map(Outcome).map_err(anyhow::Error::msg)
}

/// The name is that of the folder with its corpus.
const fn target(name: &'static str, run: fn(&[u8]) -> Result<Outcome>) -> Target {
    Target { name, run }
}

pub const TARGETS: [Target; 9] = [
    target("connection", connection),
    target("headers", headers),
    target("log", log),
    target("proposal", |input| judged(fuzzing::proposal(input))),
    target("token", |input| judged(fuzzing::token(input))),
    target("certificate", |input| judged(fuzzing::certificate(input))),
    target("change-of-users", |input| {
        judged(fuzzing::change_of_users(input))
    }),
    target("json", |input| judged(fuzzing::json(input))),
    target("etcd-file", |input| judged(fuzzing::etcd_file(input))),
];

impl Target {
    /// The inputs that are kept, by name.
    ///
    /// # Errors
    /// They cannot be read, or there are none.
    pub fn corpus(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name);
        let mut inputs = Vec::new();
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            inputs.push((name, std::fs::read(entry.path())?));
        }
        inputs.sort();
        ensure!(!inputs.is_empty(), "{}: empty", folder.display());
        Ok(inputs)
    }
}
