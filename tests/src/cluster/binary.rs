//! Where the programs under test and their tools are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The server under test: `MIZZEN_BIN`, or `mizzen` of the build that the calling
/// program belongs to.
///
/// # Errors
/// There is no such file.
pub fn mizzen() -> Result<PathBuf> {
    built("mizzen", "MIZZEN_BIN")
}

/// Mizzen as it was before alarms: `MIZZEN_OLDER_BIN`, or the example
/// `mizzen-older` of the build that the calling program belongs to.
///
/// # Errors
/// There is no such file.
pub fn mizzen_older() -> Result<PathBuf> {
    built("examples/mizzen-older", "MIZZEN_OLDER_BIN")
}

/// The resource API under test: `MIZZEN_APISERVER_BIN`, or `mizzen-apiserver` of
/// the build that the calling program belongs to.
///
/// # Errors
/// There is no such file.
pub fn apiserver() -> Result<PathBuf> {
    built("mizzen-apiserver", "MIZZEN_APISERVER_BIN")
}

/// What makes certificates: `MIZZEN_CERTS_BIN`, or `mizzen-certs` of the build
/// that the calling program belongs to.
///
/// # Errors
/// There is no such file.
pub fn certs() -> Result<PathBuf> {
    built("mizzen-certs", "MIZZEN_CERTS_BIN")
}

fn built(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return existing(path.into(), variable);
    }
    let current = env::current_exe()?;
    // A program is in the build's folder itself, a test one level below, in deps/.
    current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{name} is not built: cargo build --release --bins --examples, or set {variable}"
            )
        })
}

/// The reference server: `ETCD_REFERENCE_BIN`, or `server` in the folder that
/// `MIZZEN_REFERENCE_DIR` names, or `etcd` on the PATH.
///
/// # Errors
/// There is none.
pub fn reference() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ETCD_REFERENCE_BIN") {
        return existing(path.into(), "ETCD_REFERENCE_BIN");
    }
    in_reference_dir("server")
        .or_else(|| on_path("etcd"))
        .context("no reference server: set ETCD_REFERENCE_BIN or MIZZEN_REFERENCE_DIR")
}

/// A tool beside the reference server, or on the PATH: every place that has it,
/// the reference's first.
pub fn find_tool(name: &str) -> Vec<PathBuf> {
    in_reference_dir(name)
        .into_iter()
        .chain(on_path(name))
        .collect()
}

fn in_reference_dir(name: &str) -> Option<PathBuf> {
    let path = Path::new(&env::var_os("MIZZEN_REFERENCE_DIR")?).join(name);
    path.is_file().then_some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn existing(path: PathBuf, variable: &str) -> Result<PathBuf> {
    ensure!(path.is_file(), "{variable}={}: no file", path.display());
    Ok(path)
}
