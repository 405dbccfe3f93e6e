//! Differential test: the same random operations go to a reference etcd and to
//! a candidate cluster, and every reply is compared field by field.
//!
//! A sequence is a pure function of its seed: operation `i` draws from a random
//! stream of its own, so leaving operations out does not change the others, and
//! a failing sequence can be shrunk by leaving operations out. Revisions are
//! drawn relative to what the store has reached, so a sequence means the same
//! wherever its history starts.
//!
//! The module knows the client API and nothing of how either side stores data.
//! Rules of etcd are stated here only where a reply may differ from run to run:
//! see [`compare()`] for what is permitted and [`known_stops`] for what an etcd
//! cannot be asked.

pub mod compare;
pub mod generate;
pub mod known_stops;
pub mod operation;
pub mod runner;
pub mod sequence;
pub mod side;
mod txn;
mod values;
pub mod watch_stream;
pub mod watches;

pub use compare::compare;
pub use generate::{Generator, Step, View};
pub use operation::{Failure, Operation, Outcome, Reply};
pub use runner::{Report, Settings, run};
pub use side::Side;
