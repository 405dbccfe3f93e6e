//! What can go wrong below the rows.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineErrorKind {
    /// The file system is full, or the quota on it is.
    NoSpace,
    /// Bytes on disk are not the ones that were written, or are missing.
    Corruption,
    /// Another process (or another handle of this one) has the directory open.
    Locked,
    /// The directory is not an engine's, or of a format this version does not
    /// know.
    Format,
    /// Any other failure of the file system.
    Io,
    /// None of the above: the text says more.
    Other,
}

/// What failed, doing what, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct EngineError {
    kind: EngineErrorKind,
    operation: &'static str,
    path: PathBuf,
    message: String,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.operation,
            self.path.display(),
            self.message
        )
    }
}

impl EngineError {
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// The file or directory concerned: of RocksDB's errors always the
    /// engine's directory, while the text names the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl EngineError {
    /// `operation` completes the sentence "cannot ... PATH".
    pub fn new(
        kind: EngineErrorKind,
        operation: &'static str,
        path: &Path,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            operation,
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// Nothing of the file system is touched in memory.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn io(operation: &'static str, path: &Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                EngineErrorKind::NoSpace
            }
            _ => EngineErrorKind::Io,
        };
        Self::new(kind, operation, path, error.to_string())
    }
}
