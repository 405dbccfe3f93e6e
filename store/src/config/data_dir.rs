//! Refuses directories that hold the data of an etcd: starting on one as if
//! it were empty would look like the loss of everything in it.

use std::{fs, io, path::Path};

use super::error::Error;

/// Fails if `data_dir` holds what an etcd member leaves in it: its database,
/// its write-ahead log or its snapshots. A directory that does not exist is
/// fine.
pub fn check_data_dir(data_dir: &Path) -> Result<(), Error> {
    let member = data_dir.join("member");
    let database = member.join("snap").join("db");
    let found = match exists(&database)? {
        true => Some(database),
        false => [(member.join("wal"), "wal"), (member.join("snap"), "snap")]
            .into_iter()
            .find_map(|(dir, extension)| first_with_extension(&dir, extension).transpose())
            .transpose()?,
    };
    match found {
        None => Ok(()),
        Some(found) => Err(refusal(data_dir, &found)),
    }
}

/// The same for a directory given by `--wal-dir`, where etcd keeps only its
/// write-ahead log.
pub fn check_wal_dir(wal_dir: &Path) -> Result<(), Error> {
    match first_with_extension(wal_dir, "wal")? {
        // etcd names its files by two numbers of 16 hexadecimal digits.
        Some(found) if is_etcd_segment(&found) => Err(refusal(wal_dir, &found)),
        _ => Ok(()),
    }
}

fn refusal(dir: &Path, found: &Path) -> Error {
    Error::invalid(format!(
        "{} holds the data of an etcd member (found {}), which cannot be read here; nothing was changed. \
         Start with an empty --data-dir as a new cluster, keep the etcd cluster running, \
         and copy its keys through the API, for example with etcdctl make-mirror",
        dir.display(),
        found.display(),
    ))
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(|error| unreadable(path, &error))
}

fn first_with_extension(dir: &Path, extension: &str) -> Result<Option<std::path::PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(dir, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_etcd_segment(path: &Path) -> bool {
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
