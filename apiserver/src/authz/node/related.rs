//! Objects by what they are and their names.

use std::fmt;

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum What {
    Pod,
    Secret,
    ConfigMap,
    Account,
    Claim,
    ResourceClaim,
    /// A persistent volume.
    Volume,
    Attachment,
    Slice,
    CertificateRequest,
}

/// An object by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Related {
    what: What,
    /// `namespace/name`.
    key: Box<str>,
}

impl Related {
    pub fn new(what: What, namespace: &str, name: &str) -> Self {
        Self {
            what,
            key: format!("{namespace}/{name}").into(),
        }
    }

    pub fn is(&self, what: What) -> bool {
        self.what == what
    }
}

impl fmt::Display for Related {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.what, self.key)
    }
}
