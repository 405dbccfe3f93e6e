//! A thread for the files of one transfer, which gives way to all others of
//! this machine: a transfer has minutes, a client waits.

use std::io;

use tokio::sync::{mpsc, oneshot};

use crate::workers::Workers;

type Job = Box<dyn FnOnce() + Send>;

/// How far it stands back, on the scale of nice(1).
const NICE: i32 = 10;

/// Dropping it ends the thread after what it does at that moment.
pub struct LowPriorityThread {
    jobs: mpsc::Sender<Job>,
}

impl LowPriorityThread {
    pub fn start(workers: Workers) -> io::Result<Self> {
        // Whoever has work waits until it is done.
        let (jobs, mut queue) = mpsc::channel::<Job>(1);
        workers.start("transfer", async move {
            if workers == Workers::Threads {
                // Where it is not allowed it competes as an equal.
                let _ = rustix::process::nice(NICE);
            }
            while let Some(job) = queue.recv().await {
                job();
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs what may wait for the disk.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the thread of a transfer has stopped");
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody waits any more when the transfer was broken off.
            let _ = done.send(work());
        });
        self.jobs.send(job).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}
