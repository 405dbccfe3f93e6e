//! The forms of the rows that the state machine owns, one module for each
//! kind. `FORMATS.md` describes them by byte.
//!
//! Every row value starts with a byte whose high half is [`FORMAT`] and whose
//! low half holds flags. Rows are read from disk, so nothing about them is
//! trusted: what does not parse is damage, which stops the replica.

pub mod chain;
pub mod head;
pub mod log;
pub mod meta;

use crate::view::ViewError;

/// The high half of the first byte of each row value.
pub const FORMAT: u8 = 0x10;
const FORMAT_MASK: u8 = 0xf0;
const FLAGS_MASK: u8 = 0x0f;

/// When one change happened: the store's revision, and the place among the
/// changes of that revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: u32,
}

impl Revision {
    pub fn new(main: i64, sub: u32) -> Self {
        Self { main, sub }
    }
}

/// The flags of a row value's first byte.
fn flags(first: u8, known: u8) -> Option<u8> {
    let flags = first & FLAGS_MASK;
    (first & FORMAT_MASK == FORMAT && flags & !known == 0).then_some(flags)
}

/// What a row must hold, or the error that says it is damaged.
pub(crate) fn required<T>(parsed: Option<T>, row: &str) -> Result<T, ViewError> {
    parsed.ok_or_else(|| ViewError::Failed(format!("a {row} row is damaged or missing")))
}
