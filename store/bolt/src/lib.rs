//! Files in the format of bbolt, the database that etcd keeps its data in: written
//! from rows in order, and read.
//!
//! Knows pages, elements and checksums. Must not know what is in them, nor files:
//! bytes come from and go to whoever asks.
//!
//! A file is a sequence of pages of 4,096 bytes, numbers little-endian. Pages 0 and
//! 1 say where the others are; page 2 says which ones are free: here none. All
//! others are a tree of names, each with the root of a tree of keys and values. A
//! page that holds more than its size goes on over the pages behind it.
//! Source: bbolt 1.5, `internal/common`.

mod layout;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use layout::{MAX_KEY_BYTES, MAX_VALUE_BYTES, PAGE_BYTES};
pub use read::{Damage, File, ReadAt};
pub use write::{Refused, Rows, Sizes, Writer, measure};
