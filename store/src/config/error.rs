//! Why a configuration is refused, and with which exit code.

use std::fmt;

/// A configuration that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The command line is not understood. etcd prints the reason and its
    /// usage to stderr and exits with 2.
    Usage(String),
    /// The command line was understood but cannot be run. etcd exits with 1.
    Invalid(String),
}

impl Error {
    /// The exit code etcd ends with in the same case.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Invalid(_) => 1,
        }
    }

    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Error::Invalid(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) => write!(f, "{text}\n{}", super::help::USAGE),
            Error::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
