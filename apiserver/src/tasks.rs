//! Tasks that live as long as the process. One that panics ends it: a cache that
//! nobody feeds any more must not go on answering.
//!
//! Must not know what the tasks do.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use tokio::task::JoinHandle;

/// Starts a task. It may end, but not by a panic.
pub fn spawn(
    name: &'static str,
    body: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if AssertUnwindSafe(body).catch_unwind().await.is_err() {
            tracing::error!(task = name, "a task panicked: the process ends");
            std::process::exit(1);
        }
    })
}
