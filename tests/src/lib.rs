//! Black-box tests: clusters of real processes and the clients that judge them.

pub mod apiserver;
pub mod cluster;
pub mod differential;
pub mod load;
pub mod raw;
pub mod snapshot;
