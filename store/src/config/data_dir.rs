//! Refuses directories that hold the data of an etcd: starting on one as if
//! it were empty would look like the loss of everything in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::error::Error;

/// Fails if `data_dir` holds what an etcd member leaves in it: its database,
/// its write-ahead log or its snapshots. A directory that does not exist is
/// fine.
pub fn check_data_dir(data_dir: &Path) -> Result<(), Error> {
    let member = data_dir.join("member");
    let snap = member.join("snap");
    let database = |path: &Path| {
        path.file_name().is_some_and(|name| name == "db") || has_extension(path, "snap")
    };
    let found = match first(&snap, database)? {
        None => first(&member.join("wal"), |path| has_extension(path, "wal"))?,
        found => found,
    };
    match found {
        Some(found) => Err(refusal(data_dir, &found)),
        None => Ok(()),
    }
}

/// The same for a directory given by `--wal-dir`, where etcd keeps only its
/// write-ahead log.
pub fn check_wal_dir(wal_dir: &Path) -> Result<(), Error> {
    match first(wal_dir, is_etcd_segment)? {
        Some(found) => Err(refusal(wal_dir, &found)),
        None => Ok(()),
    }
}

fn refusal(dir: &Path, found: &Path) -> Error {
    Error::invalid(format!(
        "{} holds the data of an etcd member (found {}), which no member here goes on with; nothing was changed. \
         Make new data of it: mizzen snapshot restore --from-data-dir {} --data-dir NEW \
         (mizzen snapshot --help), or use an empty --data-dir",
        dir.display(),
        found.display(),
        dir.display(),
    ))
}

/// The first file of a directory that `wanted` accepts.
fn first(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(dir, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        if wanted(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// etcd names its log files by two numbers of 16 hexadecimal digits.
fn is_etcd_segment(path: &Path) -> bool {
    if !has_extension(path, "wal") {
        return false;
    }
    let Some((first, second)) = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| stem.split_once('-'))
    else {
        return false;
    };
    [first, second]
        .iter()
        .all(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!(
        "cannot access data directory: {}: {error}",
        path.display()
    ))
}
