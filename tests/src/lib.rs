//! Black-box tests: clusters of real processes and the clients that judge them.

use std::env;

pub mod api_diff;
pub mod apiserver;
pub mod auth;
pub mod bytes_server;
pub mod cluster;
pub mod differential;
pub mod follow;
pub mod hosts;
pub mod https;
pub mod leases;
pub mod load;
pub mod machine;
pub mod make_run;
pub mod malformed;
pub mod pages;
pub mod process;
pub mod raw;
pub mod reflector;
pub mod shared;
pub mod skip;
pub mod snapshot;
pub mod untyped;
pub mod webhook;

/// A number that the environment may set, for longer runs of a test.
///
/// # Panics
/// The variable is there and is no number.
pub fn setting(variable: &str, default: u64) -> u64 {
    let given = env::var(variable);
    given.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}
