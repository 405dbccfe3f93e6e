//! The replicated store: see ARCHITECTURE.md for the map.

pub mod auth;
pub mod concurrency;
pub mod config;
pub mod descriptors;
mod etcd_file;
pub mod first_start;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod grpc;
pub mod http;
pub mod lease;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod member;
pub mod member_dir;
mod memory;
pub mod raft;
pub mod server;
pub mod snapshot;
pub mod tls;
pub mod url;
pub mod version;
pub mod watch;
pub mod workers;
