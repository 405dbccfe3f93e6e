//! Black-box tests: clusters of real processes and the clients that judge them.

pub mod api_diff;
pub mod apiserver;
pub mod bytes_server;
pub mod cluster;
pub mod differential;
pub mod follow;
pub mod hosts;
pub mod https;
pub mod leases;
pub mod load;
pub mod malformed;
pub mod raw;
pub mod reflector;
pub mod snapshot;
