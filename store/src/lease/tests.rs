//! The lessor against a model that looks at every lease each time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestCaseResult};

use super::*;

const INTERVAL: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
enum Step {
    Pass(Duration),
    Grant(i64, i64),
    Restore(i64, i64, i64, Duration, Duration),
    Revoke(i64),
    Renew(i64),
    Expire(usize),
    Checkpoint(usize),
    Unnote(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![20 => 1..9_i64, 1 => any::<i64>()];
    let ttl = || {
        prop_oneof![
            4 => 1..10_i64,
            4 => select(&[60_i64, 300, 301, 500, 601, 1_000, 9_000_000_000][..]),
            1 => select(&[0, -1, i64::MAX, i64::MIN][..]),
        ]
    };
    let pass = prop_oneof![
        4 => (0..5_000_000_000_u64).prop_map(Duration::from_nanos),
        3 => (0..400_u64).prop_map(Duration::from_secs),
        1 => Just(Duration::ZERO),
    ];
    let remaining = prop_oneof![1 => Just(0_i64), 2 => 1..700_i64, 1 => Just(-3_i64)];
    let brief = || (0..3_000_u64).prop_map(Duration::from_millis);
    let restore = (id(), ttl(), remaining, brief(), brief());
    prop_oneof![
        10 => pass.prop_map(Step::Pass),
        6 => (id(), ttl()).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        4 => restore.prop_map(|(id, ttl, remaining, ago, extension)| {
            Step::Restore(id, ttl, remaining, ago, extension)
        }),
        3 => id().prop_map(Step::Revoke),
        10 => id().prop_map(Step::Renew),
        6 => select(&[0, 1, 2, usize::MAX][..]).prop_map(Step::Expire),
        6 => select(&[0, 1, 2, usize::MAX, usize::MAX][..]).prop_map(Step::Checkpoint),
        2 => id().prop_map(Step::Unnote),
    ]
}

#[derive(Clone, Debug)]
struct Known {
    ttl: i64,
    deadline: Duration,
    /// Since when the next leader would know no better.
    told: Duration,
    noted: bool,
    expiring: bool,
}

#[derive(Default)]
struct Model {
    now: Duration,
    leases: BTreeMap<i64, Known>,
}

/// What fits into a moment.
const END: Duration = Duration::from_nanos(u64::MAX);

impl Model {
    fn insert(&mut self, id: i64, ttl: i64, told: Duration, left: i64, noted: bool) {
        self.leases.insert(
            id,
            Known {
                ttl: ttl.max(0),
                deadline: (told + seconds(left)).min(END),
                told,
                noted,
                expiring: false,
            },
        );
    }

    fn overdue(&self) -> BTreeSet<i64> {
        let overdue = self
            .leases
            .iter()
            .filter(|(_, lease)| !lease.expiring && lease.deadline <= self.now);
        overdue.map(|(id, _)| *id).collect()
    }

    fn renew(&mut self, id: i64) -> Renewal {
        match self.leases.get_mut(&id) {
            None => Renewal::Unknown,
            Some(lease) if lease.expiring => Renewal::Expiring,
            Some(lease) => {
                lease.deadline = (self.now + seconds(lease.ttl)).max(lease.deadline).min(END);
                lease.told = lease.told.max(self.now);
                Renewal::Renewed {
                    ttl: lease.ttl,
                    noted: lease.noted,
                }
            }
        }
    }
}

struct Run {
    model: Model,
    lessor: Lessor,
}

impl Run {
    fn step(&mut self, step: Step) -> TestCaseResult {
        let now = self.model.now;
        match step {
            Step::Pass(time) => self.model.now += time,
            Step::Grant(id, ttl) => {
                self.model.insert(id, ttl, now, ttl, false);
                self.lessor.grant(now, id, ttl);
            }
            Step::Restore(id, ttl, remaining, ago, extension) => {
                let since = now.saturating_sub(ago);
                self.model.insert(id, ttl, now, ttl, remaining > 0);
                let known = self.model.leases.get_mut(&id).expect("just granted");
                known.deadline = since + seconds(ttl);
                if remaining > 0 {
                    let left = since + extension + seconds(remaining);
                    known.deadline = known.deadline.min(left);
                }
                let least = now + extension.min(seconds(ttl));
                known.deadline = known.deadline.max(least).min(END);
                let takeover = Takeover { since, extension };
                self.lessor.restore(now, takeover, id, ttl, remaining);
            }
            Step::Revoke(id) => {
                self.model.leases.remove(&id);
                self.lessor.revoked(id);
            }
            Step::Renew(id) => {
                prop_assert_eq!(self.lessor.renew(now, id), self.model.renew(id));
            }
            Step::Expire(max) => self.expire(max)?,
            Step::Checkpoint(max) => self.checkpoint(max)?,
            Step::Unnote(id) => {
                if let Some(lease) = self.model.leases.get_mut(&id) {
                    lease.noted = false;
                }
                self.lessor.unnoted(id);
            }
        }
        self.compare()
    }

    fn expire(&mut self, max: usize) -> TestCaseResult {
        let overdue = self.model.overdue();
        let named = self.lessor.expire(self.model.now, max);
        let distinct: BTreeSet<i64> = named.iter().copied().collect();
        prop_assert_eq!(named.len(), max.min(overdue.len()));
        prop_assert_eq!(distinct.len(), named.len());
        prop_assert!(distinct.is_subset(&overdue), "{:?} early", named);
        for id in named {
            self.model.leases.get_mut(&id).expect("in the set").expiring = true;
        }
        if max == usize::MAX {
            let next = self.lessor.next_deadline();
            prop_assert!(next.is_none_or(|next| next > self.model.now));
        }
        Ok(())
    }

    fn checkpoint(&mut self, max: usize) -> TestCaseResult {
        let now = self.model.now;
        let due = self.lessor.due_checkpoints(now, max);
        prop_assert!(due.len() <= max);
        for (id, remaining) in due {
            let lease = self.model.leases.get_mut(&id).expect("a lease");
            prop_assert!(!lease.expiring && lease.deadline > now);
            let left = lease.deadline - now;
            prop_assert!(
                seconds(remaining) >= left && seconds(remaining - 1) < left,
                "{} for {:?}",
                remaining,
                left
            );
            prop_assert!(remaining < lease.ttl, "nothing has passed");
            lease.noted = true;
            lease.told = now;
        }
        if max == usize::MAX {
            for (id, lease) in &self.model.leases {
                let worth_it = !lease.expiring
                    && lease.deadline > now + INTERVAL
                    && lease.ttl <= 9_000_000_000;
                prop_assert!(
                    !worth_it || now < lease.told + INTERVAL,
                    "{} has no checkpoint: {:?} at {:?}",
                    id,
                    lease,
                    now
                );
            }
            prop_assert!(self.lessor.next_checkpoint().is_none_or(|next| next > now));
        }
        Ok(())
    }

    fn compare(&self) -> TestCaseResult {
        let now = self.model.now;
        prop_assert_eq!(self.lessor.len(), self.model.leases.len());
        prop_assert!(self.lessor.deadlines.len() <= self.lessor.len());
        prop_assert!(self.lessor.checkpoints.len() <= self.lessor.len());
        for (id, lease) in &self.model.leases {
            let expected = Remaining {
                left: lease.deadline.saturating_sub(now),
                ttl: lease.ttl,
            };
            prop_assert_eq!(self.lessor.remaining(now, *id), Some(expected));
            prop_assert_eq!(self.lessor.is_expiring(*id), lease.expiring);
        }
        let waiting = self.model.leases.values().filter(|lease| !lease.expiring);
        let first = waiting.map(|lease| lease.deadline).min();
        prop_assert!(self.lessor.next_deadline() <= first || first.is_none());
        prop_assert_eq!(self.lessor.next_deadline().is_some(), first.is_some());
        Ok(())
    }
}

#[test]
fn the_lessor_does_what_the_model_does() {
    let seed = match std::env::var("MIZZEN_SEED") {
        Ok(seed) => seed.parse().expect("MIZZEN_SEED is a number"),
        Err(_) => rand::random::<u64>(),
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = proptest::test_runner::TestRng::from_seed(
        proptest::test_runner::RngAlgorithm::ChaCha,
        &bytes,
    );
    let config = ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = proptest::test_runner::TestRunner::new_with_rng(config, rng).run(
        &vec(step(), 1..120),
        |steps| {
            let mut run = Run {
                model: Model::default(),
                lessor: Lessor::new(INTERVAL),
            };
            steps.into_iter().try_for_each(|step| run.step(step))
        },
    );
    if let Err(failure) = result {
        panic!(
            "{failure}\nagain: MIZZEN_SEED={seed} cargo test --release -p mizzen-store --lib \
             the_lessor_does_what_the_model_does"
        );
    }
}

/// A lease that is renewed often enough never costs an entry of the log.
#[test]
fn renewals_put_checkpoints_off() {
    let mut lessor = Lessor::new(INTERVAL);
    let mut now = Duration::ZERO;
    lessor.grant(now, 1, 600);
    for _ in 0..100 {
        now += Duration::from_secs(200);
        assert_eq!(lessor.due_checkpoints(now, usize::MAX), []);
        assert_eq!(
            lessor.renew(now, 1),
            Renewal::Renewed {
                ttl: 600,
                noted: false
            }
        );
    }
    now += INTERVAL;
    assert_eq!(lessor.due_checkpoints(now, usize::MAX), [(1, 300)]);
}

/// Ending leases at that pace ends none too late, and never faster than there
/// is need for.
#[test]
fn leases_of_one_moment_end_at_an_even_pace() {
    const LATE: Duration = Duration::from_secs(1);
    let mut lessor = Lessor::new(INTERVAL);
    assert_eq!(lessor.pace(Duration::ZERO, LATE), 0);
    for id in 0..10_000 {
        lessor.grant(Duration::ZERO, id, 10);
    }
    let due = Duration::from_secs(10);
    assert_eq!(lessor.pace(due - LATE * 2, LATE), 0, "none is near");
    let tick = Duration::from_millis(10);
    let mut now = due;
    let mut ended = 0;
    while ended < 10_000 {
        assert!(now < due + LATE, "{ended} have ended");
        let pace = lessor.pace(now, LATE);
        assert!((9_000..=10_000).contains(&pace), "{pace} at {now:?}");
        let share = usize::try_from(pace).expect("few") / 100;
        ended += lessor.expire(now, share.max(1)).len();
        now += tick;
    }
}
