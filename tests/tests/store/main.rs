//! What is stored and what comes back: after restarts, upgrades and transfers,
//! and beside the reference. And the boundaries of the sources.

mod architecture;
mod auth;
mod bounds;
mod cluster;
mod differential;
mod make_run;
mod recovery;
mod snapshot;
mod sources;
mod storage;
mod tidy;
mod upgrade;
