//! Histories on disk: JSON lines, appended while the run goes on.

use super::History;
use super::record::Record;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use tokio::sync::mpsc;

/// Records waiting to be written; a full queue makes clients wait.
const QUEUE: usize = 16 * 1024;

/// Where every part of a run sends its records.
#[derive(Clone)]
pub struct Sink {
    queue: mpsc::Sender<Record>,
}

impl Sink {
    /// Waits while the queue is full. A record can be lost only when the
    /// writer has failed, and then [`Writer::finish`] reports that.
    pub async fn record(&self, record: Record) {
        let _closed = self.queue.send(record).await.is_err();
    }
}

pub struct Writer {
    thread: std::thread::JoinHandle<Result<u64>>,
}

impl Writer {
    /// Starts the thread that appends records to `path`.
    pub fn create(path: &Path) -> Result<(Sink, Writer)> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let (queue, mut incoming) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || {
                let mut out = BufWriter::with_capacity(1 << 20, file);
                let mut lines = 0u64;
                while let Some(record) = incoming.blocking_recv() {
                    serde_json::to_writer(&mut out, &record)?;
                    out.write_all(b"\n")?;
                    lines += 1;
                }
                out.flush()?;
                Ok(lines)
            })?;
        Ok((Sink { queue }, Writer { thread }))
    }

    /// Waits until every sink is dropped and all records are in the file.
    /// Returns how many there are.
    pub fn finish(self) -> Result<u64> {
        match self.thread.join() {
            Ok(result) => result.context("write the history"),
            Err(_) => anyhow::bail!("the history writer panicked"),
        }
    }
}

/// Reads a whole history back. A line that does not parse is an error.
pub fn read(path: &Path) -> Result<History> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut history = History::default();
    for (number, line) in BufReader::with_capacity(1 << 20, file).lines().enumerate() {
        let line = line?;
        let record = serde_json::from_str(&line)
            .with_context(|| format!("{}:{}", path.display(), number + 1))?;
        history.push(record);
    }
    Ok(history)
}
