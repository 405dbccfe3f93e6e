//! A seeded script of operations, the states a log goes through while it runs, and a runner.

use std::collections::BTreeMap;

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Append(Vec<Entry>),
    Vote(Bytes),
    Committed((u64, u64)),
    Truncate(Option<u64>),
    Purge((u64, u64)),
    /// So many steps of the writer, where it is stepped.
    Steps(u64),
}

/// What a log contains: the naive model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub vote: Option<Bytes>,
    pub purged: Option<(u64, u64)>,
    pub entries: BTreeMap<u64, (u64, Bytes)>,
}

impl Contents {
    pub fn of(wal: &Wal, recovered: &Recovered) -> Result<Self, WalError> {
        let entries = try_all(wal)?;
        Ok(Self {
            vote: recovered.vote.clone(),
            purged: wal.purged(),
            entries: entries
                .into_iter()
                .map(|e| (e.index, (e.term, e.payload)))
                .collect(),
        })
    }

    pub fn last(&self) -> Option<(u64, u64)> {
        let last = self.entries.last_key_value();
        last.map(|(&index, entry)| (entry.0, index)).or(self.purged)
    }

    pub fn next_index(&self) -> u64 {
        self.last().map_or(1, |last| last.1 + 1)
    }

    pub fn append(&mut self, entry: &Entry) {
        self.entries
            .insert(entry.index, (entry.term, entry.payload.clone()));
    }

    pub fn truncate(&mut self, last_kept: Option<u64>) {
        self.entries
            .retain(|&index, _| last_kept.is_some_and(|last| index <= last));
    }

    pub fn purge(&mut self, upto: (u64, u64)) {
        self.purged = Some(upto);
        self.entries.retain(|&index, _| index > upto.1);
    }
}

pub(super) struct Script {
    pub seed: u64,
    pub ops: Vec<Op>,
    /// The contents after each step: an operation is one step, an append one per entry.
    pub states: Vec<Contents>,
    /// Steps done after each operation.
    pub ends: Vec<usize>,
}

impl Script {
    pub fn new(seed: u64, length: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut script = Self {
            seed,
            ops: Vec::new(),
            states: vec![Contents::default()],
            ends: Vec::new(),
        };
        let (mut term, mut committed) = (1, 0);
        for number in 0..length as u64 {
            let contents = script.states.last().cloned().unwrap_or_default();
            let floor = committed.max(contents.purged.map_or(0, |purged| purged.1));
            let last = contents.next_index() - 1;
            let between = floor + rng.random_range(0..(last - floor + 1));
            let held = contents
                .entries
                .get(&between)
                .map(|entry| (entry.0, between));
            let op = match (rng.random_range(0..20), held) {
                (0..=8, _) => Op::Append(new_entries(&mut rng, term, last + 1, number)),
                (9, _) => Op::Vote(Bytes::from(format!("vote {number}"))),
                (10 | 11, Some(id)) => {
                    committed = id.1;
                    Op::Committed(id)
                }
                (12, _) if last > 0 => {
                    term += 1;
                    Op::Truncate((between > 0).then_some(between))
                }
                (13, Some(id)) => Op::Purge(id),
                (14, _) if number % 4 == 0 => {
                    term += 1;
                    Op::Purge((term, last + 1 + rng.random_range(0..3)))
                }
                _ => Op::Steps(rng.random_range(0..4)),
            };
            script.push(op);
        }
        script
    }

    fn push(&mut self, op: Op) {
        let mut now = self.states.last().cloned().unwrap_or_default();
        match &op {
            Op::Append(entries) => {
                for entry in entries {
                    now.append(entry);
                    self.states.push(now.clone());
                }
            }
            Op::Vote(vote) => now.vote = Some(vote.clone()),
            Op::Truncate(last) => now.truncate(*last),
            Op::Purge(upto) => now.purge(*upto),
            Op::Committed(_) | Op::Steps(_) => {}
        }
        if !matches!(op, Op::Append(_)) {
            self.states.push(now);
        }
        self.ops.push(op);
        self.ends.push(self.states.len() - 1);
    }

    /// Runs it until the log stops; returns (steps acknowledged, steps submitted).
    pub fn run(&self, wal: &Wal) -> (usize, usize) {
        let calls = Calls::default();
        let submitted = self.submit(wal, &calls);
        (last_acknowledged(&calls), submitted)
    }

    /// The same, counting what is acknowledged until the log is closed.
    pub fn run_to_close(&self, wal: Wal) -> (usize, usize) {
        let calls = Calls::default();
        let submitted = self.submit(&wal, &calls);
        drop(wal);
        (last_acknowledged(&calls), submitted)
    }

    fn submit(&self, wal: &Wal, calls: &Calls) -> usize {
        let mut submitted = 0;
        for (op, &end) in self.ops.iter().zip(&self.ends) {
            let done = calls.done(end as u64);
            let result = match op.clone() {
                Op::Append(entries) => wal.append(entries, done),
                Op::Vote(vote) => wal.save_vote(vote, done),
                Op::Committed(id) => wal.save_committed(id),
                Op::Truncate(last) => wal.truncate_after(last, done),
                Op::Purge(upto) => wal.purge(upto),
                Op::Steps(count) => {
                    for _ in 0..count {
                        wal.step();
                    }
                    Ok(())
                }
            };
            match result {
                Ok(()) => submitted = end,
                Err(WalError::Poisoned(_)) => break,
                Err(error) => panic!("seed {}: {op:?}: {error}", self.seed),
            }
        }
        submitted
    }

    /// Checks that a recovered log is one the script went through, at or after `acknowledged`.
    pub fn check(
        &self,
        wal: &Wal,
        recovered: &Recovered,
        (acknowledged, submitted): (usize, usize),
    ) -> Result<usize, String> {
        let contents = Contents::of(wal, recovered).map_err(|error| error.to_string())?;
        if recovered.last != contents.last() || wal.last() != contents.last() {
            return Err(format!(
                "last is {:?}, the entries say {:?}",
                recovered.last,
                contents.last()
            ));
        }
        if let Some((term, index)) = recovered.committed
            && wal.term_of(index) != Some(term)
            && contents.purged.is_none_or(|purged| purged.1 < index)
        {
            return Err(format!("committed {term}.{index} is not in the log"));
        }
        let range = acknowledged..=submitted;
        let found = range
            .clone()
            .rev()
            .find(|&step| self.states[step] == contents);
        found.ok_or_else(|| {
            let acknowledged = &self.states[acknowledged];
            format!("no state in {range:?} is {contents:?}\nacknowledged: {acknowledged:?}")
        })
    }
}

fn last_acknowledged(calls: &Calls) -> usize {
    let acknowledged = calls.acknowledged();
    assert!(acknowledged.is_sorted(), "callbacks in order");
    acknowledged.last().map_or(0, |&end| end as usize)
}

fn new_entries(rng: &mut StdRng, term: u64, first: u64, number: u64) -> Vec<Entry> {
    let count = 1 + rng.random_range(0..4);
    let new = |index| {
        let size = if rng.random_range(0..12) == 0 {
            1200
        } else {
            rng.random_range(0..200) as usize
        };
        let mut payload = format!("{number}/{index}/").into_bytes();
        payload.resize(payload.len() + size, b'x');
        entry(term, index, payload)
    };
    (first..first + count).map(new).collect()
}
