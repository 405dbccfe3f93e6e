//! Any bytes for the HTTP/2 front: as a connection, and as header blocks.
//!
//! A target takes bytes and says what is wrong with what the front made of
//! them; a panic says so too. `corpus/` holds inputs worth beginning with, by
//! target, and what was found once.

mod connection;
mod headers;
pub mod mutate;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

pub use connection::connection;
pub use headers::headers;

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

pub const TARGETS: [Target; 2] = [
    Target {
        name: "connection",
        run: connection,
    },
    Target {
        name: "headers",
        run: headers,
    },
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
