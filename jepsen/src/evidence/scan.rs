//! Evidence without a watch: a scan of all keys at every revision that no
//! acknowledged write explains, before compaction can reach it. The checker
//! finds the change as the difference to the revision before.

use super::Collected;
use crate::client::{Bench, Client};
use crate::history::op::{Load, Outcome, Request};
use anyhow::Result;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TICK: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Scans in one round.
const ROUND: usize = 256;
/// How long the last scans may take once the final revision is known.
const CONVERGE: Duration = Duration::from_secs(60);
/// Client ids from here on belong to no workload.
pub const CLIENT: u32 = 1_000_000;

pub struct Scanner {
    bench: Arc<Bench>,
    clients: Vec<Client>,
    collected: Arc<Collected>,
    turn: usize,
}

impl Scanner {
    pub fn new(bench: &Arc<Bench>, collected: &Arc<Collected>) -> Result<Scanner> {
        let clients = (0..bench.view.members())
            .map(|m| Client::new(bench, CLIENT + m as u32, m))
            .collect::<Result<_>>()?;
        Ok(Scanner {
            bench: Arc::clone(bench),
            clients,
            collected: Arc::clone(collected),
            turn: 0,
        })
    }

    /// Runs until the goal and all that was seen since is explained, or for
    /// [`CONVERGE`] after it is set.
    pub async fn run(mut self) {
        let mut before = BTreeSet::new();
        let mut deadline: Option<Instant> = None;
        loop {
            let goal = self.collected.goal();
            let head = self.head(goal);
            let missing = self.bench.stats.known.lock().missing(head, ROUND);
            for &rev in &missing {
                // A revision missing only now may belong to a write whose
                // acknowledgement is on its way.
                if goal.is_some() || before.contains(&rev) {
                    self.scan(rev).await;
                }
            }
            before = missing.into_iter().collect();
            let low = self.bench.stats.known.lock().low();
            self.collected.advance(0, low);
            if goal.is_some() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + CONVERGE);
                if low >= self.head(goal) || Instant::now() > deadline {
                    return;
                }
            }
            sleep(TICK).await;
        }
    }

    /// The newest revision on record: a scan may be the first to show one that
    /// the end of a lease made after the last operation.
    fn head(&self, goal: Option<i64>) -> i64 {
        self.bench.stats.head().max(goal.unwrap_or(0))
    }

    async fn scan(&mut self, rev: i64) {
        self.turn = (self.turn + 1) % self.clients.len();
        let Some(client) = self.clients.get_mut(self.turn) else {
            return;
        };
        let outcome = client
            .call_within(Load::Evidence, Request::scan(rev), TIMEOUT)
            .await;
        if matches!(outcome, Outcome::Ok { .. }) {
            self.bench.stats.known.lock().insert(rev);
        }
    }
}
