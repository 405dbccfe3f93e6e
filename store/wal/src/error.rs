//! Errors of the log. Every error about a file names it, and the offset where there is one.

use std::io;
use std::sync::Arc;

/// What can go wrong with the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// An operation on a file or on the directory failed.
    #[error("{operation} {file}{}: {source}", at(.offset))]
    Io {
        /// The operation, for example `write`.
        operation: &'static str,
        /// Path of the file or directory.
        file: String,
        /// Offset in the file, bytes, where the operation has one.
        offset: Option<u64>,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// Content that was synced is damaged or missing. The log does not open.
    #[error("{file} is damaged at offset {offset}: {reason}")]
    Corrupt {
        /// Path of the file.
        file: String,
        /// Offset in the file, bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// There is no log, and none was to be created.
    #[error("there is no Raft log in {directory}")]
    Missing {
        /// Path of the directory.
        directory: String,
    },
    /// A thread of the log panicked; nothing more is acknowledged.
    #[error("the thread {thread} of the raft log panicked")]
    Panicked {
        /// Its name.
        thread: &'static str,
    },
    /// A segment file is missing.
    #[error("{file} is missing: {reason}")]
    MissingSegment {
        /// Path the file should have.
        file: String,
        /// Why it is known to have existed.
        reason: String,
    },
    /// The format version of a segment is not one this program knows.
    #[error("{file} has format version {version}, this program knows only version {known}")]
    UnsupportedVersion {
        /// Path of the file.
        file: String,
        /// The version found.
        version: u32,
        /// The version known.
        known: u32,
    },
    /// The caller broke a rule of the interface; the log is unchanged.
    #[error("invalid log operation: {0}")]
    Invalid(String),
    /// The index asked for has been purged.
    #[error("log index {index} is purged")]
    Purged {
        /// The index asked for.
        index: u64,
    },
    /// The index asked for is not in the log, or not any more.
    #[error("log index {index} is not in the log")]
    NotInLog {
        /// The index asked for.
        index: u64,
    },
    /// More is queued than the hard limit allows. The log is unchanged.
    #[error("{queued} bytes are queued for the log, the limit is {limit}")]
    QueueFull {
        /// Bytes queued.
        queued: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// An earlier write or fsync failed; nothing is acknowledged any more.
    #[error("the log stopped after an earlier failure: {0}")]
    Poisoned(Arc<WalError>),
}

fn at(offset: &Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at offset {offset}"))
}

impl WalError {
    pub(super) fn io(
        operation: &'static str,
        file: String,
        offset: Option<u64>,
        source: io::Error,
    ) -> Self {
        Self::Io {
            operation,
            file,
            offset,
            source: Arc::new(source),
        }
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        let kind = match &error {
            WalError::Io { source, .. } => source.kind(),
            WalError::Corrupt { .. }
            | WalError::MissingSegment { .. }
            | WalError::UnsupportedVersion { .. } => io::ErrorKind::InvalidData,
            WalError::Invalid(_) => io::ErrorKind::InvalidInput,
            WalError::Purged { .. } | WalError::NotInLog { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
