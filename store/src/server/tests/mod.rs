//! What members promise, held against power that goes off at every moment.
//!
//! `MIZZEN_POWER_STRIDE`: every how many steps the power goes off (1 for all).
//! `MIZZEN_POWER_WORKERS`: at how many steps at the same time.
//! `MIZZEN_POWER_LOSSES`: how often under load. `MIZZEN_POWER_STEP`: only at
//! this one, as a failure reports it. `MIZZEN_STORMS`, `MIZZEN_MEMBERSHIP_SEEDS`:
//! how many of each; `MIZZEN_STORM`, `MIZZEN_MEMBERSHIP_SEED`: from which on.
//!
//! Everything of a member runs in one thread, by a clock that moves when all of
//! them wait: what takes minutes here is over in seconds, and a busy machine
//! changes nothing of it.

mod apart;
mod cluster;
mod load;
mod members;
mod membership;
mod refused;
mod script;
mod storm;
mod watchers;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}
