//! Time that moves when everybody waits.

use std::future::Future;

/// Runs `body`, and what it spawns, in this thread by such a clock.
pub fn simulate<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    let outcome = runtime.block_on(body);
    runtime.shutdown_background();
    outcome
}
