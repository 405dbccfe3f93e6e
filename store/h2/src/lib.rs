//! The transport of a server: HTTP/2, and how bytes leave a connection.
//!
//! Knows frames, header compression, flow control and limits. Must not know
//! services or messages, nor anything of the store: the resource API uses it
//! as well.

mod allowance;
mod body;
mod budget;
mod coalesce;
mod connection;
mod counters;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod head;
mod hpack;
mod limits;
mod service;
mod streams;
#[cfg(test)]
mod tests;
mod wake;

pub use body::{Broken, Incoming};
pub use budget::{Account, Budget};
pub use coalesce::Coalesce;
pub use connection::{Config, serve};
pub use counters::{Counters, Excess};
pub use frame::PREFACE;
pub use head::Head;
pub use hpack::Block;
pub use service::{Reply, Service};
