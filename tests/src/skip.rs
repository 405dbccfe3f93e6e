//! Tests, and parts of tests, that this machine cannot run.
//!
//! libtest shows nothing that a passing test prints. So what is skipped goes to
//! a file, one line each: `$MIZZEN_SKIPPED`, or `skipped.txt` in the folder of
//! the build. `make test` shows it in the end. The lines:
//!
//! ```text
//! skipped: TEST: WHY
//! skipped in TEST: PART: WHY
//! ```
//!
//! With `CI=true` a test fails that wants for a program: the machines of CI have
//! them all. What a machine does not allow (mounting, namespaces) is skipped
//! there too. Knows the standard library alone, so that any package's tests can
//! take this file for a module.

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Why something is skipped.
#[derive(Clone, Debug)]
pub enum Why {
    /// There is no such program, or it cannot fetch what it needs.
    Program(String),
    /// What was refused, and with which words.
    Refused(String),
}

impl Why {
    pub fn program(name: &str) -> Self {
        Self::Program(format!("there is no {name}"))
    }
}

/// The running test is skipped.
///
/// # Errors
/// The test fails instead, or its line cannot be written.
pub fn test(why: &Why) -> io::Result<()> {
    note(&format!("skipped: {}", name()), why)
}

/// A part of the running test is skipped.
///
/// # Errors
/// As [`test`].
pub fn part(what: &str, why: &Why) -> io::Result<()> {
    note(&format!("skipped in {}: {what}", name()), why)
}

fn note(what: &str, why: &Why) -> io::Result<()> {
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    let (Why::Program(text) | Why::Refused(text)) = why;
    let line = format!("{what}: {}\n", text.trim().replace('\n', " "));
    if in_ci && matches!(why, Why::Program(_)) {
        return Err(io::Error::other(format!("CI=true, and yet {line}")));
    }
    eprint!("{line}");
    File::options()
        .create(true)
        .append(true)
        .open(file()?)
        .and_then(|mut file| file.write_all(line.as_bytes()))
}

/// libtest calls a test's thread by the test's name.
fn name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("a test without a name").to_owned()
}

fn file() -> io::Result<PathBuf> {
    if let Some(path) = env::var_os("MIZZEN_SKIPPED") {
        return Ok(path.into());
    }
    // Test programs are in deps/.
    let mut build = env::current_exe()?;
    build.pop();
    build.pop();
    Ok(build.join("skipped.txt"))
}
