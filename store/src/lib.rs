//! The replicated store: see ARCHITECTURE.md for the map.

pub mod grpc;
pub mod limits;
pub mod raft;
pub mod server;
pub mod version;
pub mod wal;
