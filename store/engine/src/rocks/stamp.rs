//! Telling an engine's directory, and the version of its format, by a file.
//!
//! `FORMAT` holds one line, and is there once the engine in the directory has
//! been made completely. While it is being made the same line is in
//! `FORMAT.new`, so that an interrupted creation is told from a directory that
//! is not ours and from one whose files were lost: RocksDB alone would take
//! both for a fresh start and delete what it finds.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use crate::{EngineError, EngineErrorKind};

/// Version of the files that this engine writes: the use of RocksDB, not the
/// content of rows.
pub const FORMAT_VERSION: u32 = 1;

const STAMP: &str = "FORMAT";
const STAMP_NEW: &str = "FORMAT.new";
const TITLE: &str = "mizzen engine ";
/// A longer file is not a stamp.
const MAX_STAMP_BYTES: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// The directory holds an engine of this version.
    Known,
    /// The engine is yet to be made, then [`complete`] is due.
    Creating,
}

/// Checks that `dir` holds an engine or can become one.
pub fn prepare(dir: &Path) -> Result<Stamp, EngineError> {
    if let Some(text) = read(&dir.join(STAMP))? {
        check(dir, &text)?;
        return Ok(Stamp::Known);
    }
    // One that fails the check was torn by a crash: then nothing else is there.
    if let Some(text) = read(&dir.join(STAMP_NEW))?
        && check(dir, &text).is_ok()
    {
        return Ok(Stamp::Creating);
    }
    make_dir(dir)?;
    for entry in fs::read_dir(dir).map_err(|error| EngineError::io("open", dir, &error))? {
        let entry = entry.map_err(|error| EngineError::io("open", dir, &error))?;
        if entry.file_name() != STAMP_NEW {
            let message = format!(
                "it holds other files ({:?}) and no {STAMP}",
                entry.file_name()
            );
            return Err(EngineError::new(
                EngineErrorKind::Format,
                "make an engine in",
                dir,
                message,
            ));
        }
    }
    write_new(dir)?;
    Ok(Stamp::Creating)
}

/// Declares the engine in `dir` made.
pub fn complete(dir: &Path) -> Result<(), EngineError> {
    let renamed = fs::rename(dir.join(STAMP_NEW), dir.join(STAMP));
    renamed.map_err(|error| EngineError::io("complete", &dir.join(STAMP), &error))?;
    sync_dir(dir)
}

/// Stamps a directory filled by other means.
pub fn stamp(dir: &Path) -> Result<(), EngineError> {
    write_new(dir)?;
    complete(dir)
}

fn check(dir: &Path, text: &[u8]) -> Result<(), EngineError> {
    let refused = |message| {
        Err(EngineError::new(
            EngineErrorKind::Format,
            "open",
            dir,
            message,
        ))
    };
    let version = str::from_utf8(text)
        .ok()
        .and_then(|text| text.strip_suffix('\n')?.strip_prefix(TITLE));
    match version.map(str::parse) {
        Some(Ok(FORMAT_VERSION)) => Ok(()),
        Some(Ok(other)) => refused(format!(
            "its format is version {other}, this program knows {FORMAT_VERSION}"
        )),
        Some(Err(_)) | None => refused(format!("its {STAMP} file is not an engine's")),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    let read = File::open(path).and_then(|file| {
        let mut text = Vec::new();
        file.take(MAX_STAMP_BYTES).read_to_end(&mut text)?;
        Ok(text)
    });
    match read {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::io("read", path, &error)),
    }
}

fn write_new(dir: &Path) -> Result<(), EngineError> {
    let path = dir.join(STAMP_NEW);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(format!("{TITLE}{FORMAT_VERSION}\n").as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| EngineError::io("write", &path, &error))?;
    sync_dir(dir)
}

fn make_dir(dir: &Path) -> Result<(), EngineError> {
    match fs::create_dir(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(EngineError::io("make", dir, &error)),
    }
}

pub fn sync_dir(dir: &Path) -> Result<(), EngineError> {
    // The parent of a relative path of one part.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| EngineError::io("sync", dir, &error))
}
