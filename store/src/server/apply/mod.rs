//! From the log to the rows: one thread writes them and publishes what readers
//! see; what compaction has hidden is reclaimed in steps between.

pub mod reclaim;
pub mod thread;
pub mod users;
