//! Who does the work that may wait for a disk or take long: threads, so that
//! nobody else waits, or the one thread that does everything, so that a
//! simulation's time and order are its own.
//!
//! Knows threads and tasks. Must not know what the work is.

use std::{future::Future, io};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Threads,
    /// Of the tokio runtime that it is called on. For simulation: what waits for
    /// something that another task does would wait for ever.
    Tasks,
}

impl Workers {
    /// Starts a worker, from a task. `body` may block at any moment; it awaits
    /// nothing but its next piece of work, which comes through a channel.
    pub fn start(
        self,
        name: &str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Self::Threads => {
                let runtime = tokio::runtime::Handle::current();
                let thread = std::thread::Builder::new().name(name.to_owned());
                thread.spawn(move || runtime.block_on(body))?;
            }
            Self::Tasks => drop(tokio::spawn(body)),
        }
        Ok(())
    }

    /// Runs `work`, which may block, beside the caller.
    ///
    /// # Errors
    /// If it panicked, or the runtime is ending.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work)
                .await
                .map_err(io::Error::other),
            Self::Tasks => Ok(work()),
        }
    }
}
