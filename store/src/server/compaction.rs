//! Compaction that the store does by itself: of what is older than a time, or of
//! all but the newest revisions.
//!
//! Knows when to compact up to which revision, by etcd's rules. Must not know what
//! a compaction removes.

use std::{collections::VecDeque, num::NonZeroU64, sync::Arc, time::Duration};

use mizzen_core::{Command, Compaction, auth::By};
use mizzen_engine::Engine;
use tokio::time::{Instant, sleep};

use super::{error::Error, model::proposal::Body, propose::Proposer};
use crate::workers;

/// How often old revisions are looked for if they are counted (etcd's interval).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Longest time between two compactions by age (etcd's).
const AGE_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Revisions noted in one interval, and attempts after a failure.
const NOTES_PER_INTERVAL: u32 = 10;
/// A retention of nothing is no reason to compute all the time.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Of the past, what stays readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What was the newest revision within this time.
    Age(Duration),
    /// So many revisions before the newest.
    Revisions(NonZeroU64),
}

/// What is compacted.
pub trait Compacted {
    fn revision(&self) -> i64;
    /// Members that do not lead look on, so that one can go on when it leads.
    fn leads(&self) -> bool;
    fn compact(&self, revision: i64) -> impl Future<Output = Result<(), Error>> + Send;
}

impl<E: Engine> Compacted for Arc<Proposer<E>> {
    fn revision(&self) -> i64 {
        self.published.load().state.revision()
    }

    fn leads(&self) -> bool {
        self.group.is_leader()
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        let command = Command::Compact(Compaction { revision });
        match self.submit(By::Store, Body::Command(command), None).await {
            // A client, or the leader before, was faster.
            Ok(_) | Err(Error::Refused(mizzen_core::Error::Compacted)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Compacts for as long as the member lives, if it has to.
pub fn start<E: Engine>(proposer: &Arc<Proposer<E>>, retention: Option<Kept>) {
    if let Some(retention) = retention {
        workers::spawn("auto-compaction", run(proposer.clone(), retention));
    }
}

async fn run(compacted: impl Compacted, retention: Kept) {
    match retention {
        Kept::Age(age) => by_age(compacted, age).await,
        Kept::Revisions(kept) => by_count(compacted, kept).await,
    }
}

async fn by_age(compacted: impl Compacted, age: Duration) {
    let interval = age.min(AGE_INTERVAL_MAX);
    let pause = (interval / NOTES_PER_INTERVAL).max(PAUSE_MIN);
    let mut past = Past::new(age, pause);
    let (mut last, mut since) = (0, Instant::now());
    // Nothing is older than `age` before so much time has gone by.
    let mut due = age;
    loop {
        past.note(compacted.revision());
        sleep(pause).await;
        let revision = past.oldest();
        if !compacted.leads() || since.elapsed() < due || revision == last {
            continue;
        }
        due = interval;
        if attempt(&compacted, revision).await {
            (last, since) = (revision, Instant::now());
        }
    }
}

async fn by_count(compacted: impl Compacted, kept: NonZeroU64) {
    let kept = i64::try_from(kept.get()).unwrap_or(i64::MAX);
    let mut last = 0;
    loop {
        sleep(REVISION_INTERVAL).await;
        let revision = compacted.revision().saturating_sub(kept);
        let due = compacted.leads() && revision > 0 && revision != last;
        if due && attempt(&compacted, revision).await {
            last = revision;
        }
    }
}

async fn attempt(compacted: &impl Compacted, revision: i64) -> bool {
    let begun = Instant::now();
    match compacted.compact(revision).await {
        Ok(()) => {
            let took = begun.elapsed();
            tracing::info!(revision, ?took, "completed auto compaction");
            true
        }
        Err(error) => {
            tracing::warn!(revision, %error, "failed auto compaction");
            false
        }
    }
}

/// The newest revisions of the time within the retention.
struct Past {
    revisions: VecDeque<i64>,
    /// As many as cover the retention.
    kept: usize,
}

impl Past {
    fn new(age: Duration, pause: Duration) -> Self {
        let notes = age.as_nanos() / pause.as_nanos().max(1);
        Self {
            revisions: VecDeque::new(),
            kept: usize::try_from(notes)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
        }
    }

    fn note(&mut self, revision: i64) {
        self.revisions.push_back(revision);
        if self.revisions.len() > self.kept {
            self.revisions.pop_front();
        }
    }

    fn oldest(&self) -> i64 {
        self.revisions.front().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A store with a revision each second, and what was compacted when.
    struct Fake {
        begun: Instant,
        leads: bool,
        fails: Mutex<u32>,
        done: Mutex<Vec<(Duration, i64)>>,
    }

    impl Fake {
        fn new() -> Self {
            Self {
                begun: Instant::now(),
                leads: true,
                fails: Mutex::new(0),
                done: Mutex::default(),
            }
        }

        /// What `retention` makes of it in `time`.
        async fn watched(self, retention: Kept, time: Duration) -> Vec<(Duration, i64)> {
            let this = Arc::new(self);
            let ended = tokio::time::timeout(time, run(this.clone(), retention)).await;
            assert!(ended.is_err(), "it goes on for ever");
            this.done.lock().expect("nobody panicked").clone()
        }
    }

    impl Compacted for Arc<Fake> {
        fn revision(&self) -> i64 {
            1 + i64::try_from(self.begun.elapsed().as_secs()).expect("short")
        }

        fn leads(&self) -> bool {
            self.leads
        }

        async fn compact(&self, revision: i64) -> Result<(), Error> {
            let mut fails = self.fails.lock().expect("nobody panicked");
            if *fails > 0 {
                *fails -= 1;
                return Err(Error::NoLeader);
            }
            let at = self.begun.elapsed();
            // The clock is exact to a millisecond.
            let at = Duration::from_secs(at.as_secs());
            self.done
                .lock()
                .expect("nobody panicked")
                .push((at, revision));
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_an_hour_goes_every_hour() {
        let done = Fake::new()
            .watched(Kept::Age(HOUR), 4 * HOUR - MINUTE)
            .await;
        let hours: Vec<u64> = done.iter().map(|(at, _)| at.as_secs() / 3_600).collect();
        assert_eq!(hours, [1, 2, 3]);
        for (at, revision) in done {
            let age = i64::try_from(at.as_secs()).expect("short") + 1 - revision;
            assert!((3_600..3_970).contains(&age), "{age} s at {at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_a_day_goes_every_hour_after_the_first_day() {
        let retention = Kept::Age(24 * HOUR);
        let done = Fake::new().watched(retention, 27 * HOUR - MINUTE).await;
        assert_eq!(done.len(), 3, "{done:?}");
        assert!(done[0].0 >= 24 * HOUR && done[0].1 < 400, "{done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_ten_minutes_goes_every_ten() {
        let retention = Kept::Age(10 * MINUTE);
        let done = Fake::new().watched(retention, HOUR - MINUTE).await;
        assert_eq!(done.len(), 5, "{done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_a_tenth_later() {
        let fake = Fake {
            fails: Mutex::new(2),
            ..Fake::new()
        };
        let done = fake.watched(Kept::Age(HOUR), 2 * HOUR - MINUTE).await;
        assert_eq!(done.len(), 1, "{done:?}");
        assert!((72..75).contains(&(done[0].0.as_secs() / 60)), "{done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_but_the_newest_revisions_go_every_five_minutes() {
        let kept = NonZeroU64::new(500).expect("not zero");
        let retention = Kept::Revisions(kept);
        let done = Fake::new().watched(retention, 16 * MINUTE).await;
        // After five minutes there are not enough.
        let expected = [(600, 101), (900, 401)].map(|(at, of)| (Duration::from_secs(at), of));
        assert_eq!(done, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_lead_compacts_nothing() {
        for retention in [Kept::Age(HOUR), Kept::Revisions(NonZeroU64::MIN)] {
            let fake = Fake {
                leads: false,
                ..Fake::new()
            };
            assert_eq!(fake.watched(retention, 3 * HOUR).await, []);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retention_of_nothing_does_not_compute_all_the_time() {
        let retention = Kept::Age(Duration::from_nanos(1));
        let done = Fake::new().watched(retention, MINUTE).await;
        assert!((30..=61).contains(&done.len()), "{}", done.len());
    }
}
