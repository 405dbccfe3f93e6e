//! What becomes of a setting that etcd has.

/// What happens when a flag is not at its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works; the text is for `--help`.
    Used(&'static str),
    /// It has no effect and needs none, for this reason.
    Accepted(&'static str),
    /// The member does not start, for this reason.
    Refused(&'static str),
}
