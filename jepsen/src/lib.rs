//! A harness that starts real clusters of any etcd v3 server, works them,
//! breaks them, and tries to prove from the recorded history that what they
//! answered cannot be.
//!
//! Data flows one way: [`run`] drives [`cluster`], [`workload`] and
//! [`nemesis`], all of which write to a [`history`]; [`check`] reads nothing
//! else, and [`report`] shows what it found.

pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod evidence;
pub mod finale;
pub mod history;
pub mod nemesis;
pub mod net;
pub mod planted;
pub mod progress;
pub mod report;
pub mod run;
pub mod seed;
pub mod states;
pub mod workload;
