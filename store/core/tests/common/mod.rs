//! What the tests of the state machine share.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod commands;
pub mod model;
pub mod rows;

use std::{
    fmt::Debug,
    hash::{BuildHasher, Hasher, RandomState},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};

/// Runs a property on `cases` random inputs. `MIZZEN_SEED` makes a run repeat;
/// a failure prints how.
#[expect(
    clippy::disallowed_methods,
    reason = "what decides here is the test, not the state machine"
)]
pub fn check<S>(
    binary: &str,
    test: &str,
    cases: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> TestCaseResult,
) where
    S: Strategy,
    S::Value: Debug,
{
    let seed = match std::env::var("MIZZEN_SEED") {
        Ok(seed) => seed.parse().expect("MIZZEN_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    if let Err(failure) = TestRunner::new_with_rng(config, rng).run(strategy, property) {
        panic!(
            "{failure}\nagain: MIZZEN_SEED={seed} cargo test --release -p mizzen-core --test {binary} {test}"
        );
    }
}
