//! The progress line while a run goes on.

use crate::client::stats::Stats;
use crate::clock::{Clock, Nanos, SECOND, seconds};
use crate::cluster::Cluster;
use crate::nemesis::Now;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Mutex;

const EVERY: Duration = Duration::from_secs(1);
/// When the output is a file, one line in this many seconds.
const QUIET: u64 = 10;

pub struct Progress {
    pub clock: Clock,
    pub stats: Arc<Stats>,
    pub now: Arc<Now>,
    pub cluster: Arc<Mutex<Cluster>>,
}

impl Progress {
    /// Prints until its task is aborted.
    pub async fn run(self) {
        let terminal = std::io::stderr().is_terminal();
        let mut tick = tokio::time::interval(EVERY);
        let mut before = (self.clock.now(), self.stats.total());
        let mut members = String::new();
        for n in 0u64.. {
            tick.tick().await;
            if !terminal && !n.is_multiple_of(QUIET) {
                continue;
            }
            // A held lock means that a member is being stopped just now.
            if let Ok(cluster) = self.cluster.try_lock() {
                members = cluster.sketch();
            }
            let now = self.clock.now();
            let total = self.stats.total();
            let line = self.line(now, rate(before, (now, total)), &members);
            before = (now, total);
            let end = if terminal { "\x1b[K\r" } else { "\n" };
            let mut out = std::io::stderr().lock();
            // Nothing can be done about a closed terminal.
            let _closed = write!(out, "{line}{end}")
                .and_then(|()| out.flush())
                .is_err();
        }
    }

    fn line(&self, now: Nanos, rate: u64, members: &str) -> String {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let fault = self.now.fault.lock().clone();
        format!(
            "{:>8} s  [{members}]  {rate:>5} op/s  ok {}  fail {}  unknown {}  revision {}  faults {}  kills {}  last ack {} s ago  {fault}",
            seconds(now),
            load(&self.stats.ok),
            load(&self.stats.fail),
            load(&self.stats.unknown),
            self.stats.head(),
            self.now.done.load(Ordering::Relaxed),
            self.now.kills.load(Ordering::Relaxed),
            seconds(now.saturating_sub(self.stats.last_ack())),
        )
    }
}

fn rate(before: (Nanos, u64), after: (Nanos, u64)) -> u64 {
    let time = after.0.saturating_sub(before.0).max(1);
    (after.1.saturating_sub(before.1) as u128 * u128::from(SECOND) / u128::from(time)) as u64
}
