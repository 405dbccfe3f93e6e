//! The world that a simulated member lives in: disks that forget, tear and fail,
//! an engine in memory, power that goes off, a network that keeps what is sent,
//! time that moves when everybody waits. Seeded: the same seed and the same program give the same life.
//!
//! Knows files as the Raft log uses them, rows as engines keep them, and tokio. Must
//! not know what a member is. No release build of the store contains it; one with
//! the feature `planted` takes [`Forgetful`] from here.

mod clock;
mod engine;
mod forgetful;
mod memfs;
pub mod network;
mod power;

pub use clock::simulate;
pub use engine::{MemEngine, MemOptions, MemSnapshot};
pub use forgetful::Forgetful;
pub use memfs::{Fault, MemFs};
pub use network::{Connection, Network, View};
pub use power::{Disk, Event, Flaw, Image, Power};
