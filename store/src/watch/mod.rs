//! Watches: who is told of which changes, in order, at which cost.
//!
//! Knows revisions with their events, and the budget of each stream. Must not
//! know Raft, how rows are written, or what travels between machines.
//!
//! The applying thread leaves each revision's events in a ring and goes on. A
//! thread of its own takes them from there, finds the watches they concern and
//! queues a reference for each. A stream that is not read from stops getting
//! more at its budget; its watches then lag, and read the past from the ring or
//! from the rows when there is room again. Every watch has one cursor: it is
//! told of each revision from there on once, as a whole, in order, or that the
//! next one is compacted.

mod catch_up;
mod event;
mod hub;
mod index;
mod ring;
mod spans;
mod stream;
#[cfg(test)]
mod tests;

pub use event::{News, Revision};
pub use hub::{Bounds, Hub, Past, PastError, WatchStream};
pub use spans::Span;
pub use stream::{ALL_WATCHES, Changes, Create, End, Message, Watch};
