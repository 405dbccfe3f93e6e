//! The engine in memory stands in for RocksDB in simulations, so both must
//! answer alike: the same operations go to both, and every answer is compared.

use std::{env, fmt, ops::ControlFlow, path::Path, time::SystemTime};

use bytes::Bytes;
use mizzen_core::{Batch, Family, RowOp, RowSpan, View, ViewError};
use mizzen_engine::{Engine, EngineOptions, RocksEngine, Snapshot};
use mizzen_sim::MemEngine;
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};

/// Cases of one run, unless `MIZZEN_CASES` says otherwise. Each has up to
/// [`MAX_OPERATIONS`] and makes a RocksDB.
const CASES: u32 = 48;
const MAX_OPERATIONS: usize = 200;
/// More are not held at a time.
const MAX_SNAPSHOTS: usize = 6;

#[derive(Clone, Debug)]
enum Operation {
    Write(Batch),
    /// On the rows as they are now, or on one of the held snapshots.
    Read(Option<Index>, Sight, Read),
    Persisted(Family, Bytes),
    Hold,
    Release(Index),
    Flush,
    /// Flushes and opens again.
    Reopen,
    /// Opens again without a flush. Held snapshots go, as RocksDB's belong to
    /// the process.
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum Sight {
    Normal,
    /// An answer that needs the disk may be refused by RocksDB.
    InMemory,
    Bulk,
}

#[derive(Clone, Debug)]
enum Read {
    Get(Family, Bytes),
    MultiGet(Family, Vec<Bytes>),
    ScanEach(Family, Vec<(Bytes, Option<Bytes>)>, usize),
    /// Breaks after that many rows.
    Scan(Family, Bytes, Option<Bytes>, usize),
}

/// Few keys, so that operations meet; the extremes of the order of bytes, and
/// the empty key.
fn key() -> impl Strategy<Value = Bytes> {
    vec(
        prop_oneof![Just(0x00), Just(b'a'), Just(b'b'), Just(0xff)],
        0..4,
    )
    .prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40),
        // Larger than a block.
        1 => vec(any::<u8>(), 6000),
    ]
    .prop_map(Bytes::from)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Head), Just(Family::Log), Just(Family::Meta)]
}

fn row_op() -> impl Strategy<Value = RowOp> {
    prop_oneof![
        3 => (family(), key(), value()).prop_map(|(family, key, value)| RowOp::Put { family, key, value }),
        2 => (family(), key()).prop_map(|(family, key)| RowOp::Delete { family, key }),
    ]
}

fn read() -> impl Strategy<Value = Read> {
    let limit = || prop_oneof![Just(usize::MAX), 0..4usize];
    prop_oneof![
        2 => (family(), key()).prop_map(|(family, key)| Read::Get(family, key)),
        2 => (family(), vec(key(), 0..8)).prop_map(|(family, keys)| Read::MultiGet(family, keys)),
        3 => (family(), key(), prop::option::of(key()), limit())
            .prop_map(|(family, from, to, limit)| Read::Scan(family, from, to, limit)),
        2 => (family(), vec((key(), prop::option::of(key())), 0..4), limit())
            .prop_map(|(family, spans, limit)| Read::ScanEach(family, spans, limit)),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let sight =
        prop_oneof![3 => Just(Sight::Normal), 2 => Just(Sight::InMemory), 1 => Just(Sight::Bulk)];
    prop_oneof![
        30 => vec(row_op(), 0..8).prop_map(|ops| Operation::Write(Batch { ops })),
        50 => (prop::option::of(any::<Index>()), sight, read()).prop_map(|(at, sight, read)| Operation::Read(at, sight, read)),
        6 => (family(), key()).prop_map(|(family, key)| Operation::Persisted(family, key)),
        5 => Just(Operation::Hold),
        3 => any::<Index>().prop_map(Operation::Release),
        3 => Just(Operation::Flush),
        1 => Just(Operation::Reopen),
        2 => Just(Operation::Crash),
    ]
}

/// What a read gave, with the rows a scan has visited.
type Answer = Result<Vec<(Bytes, Option<Bytes>)>, ViewError>;

impl Read {
    fn on(&self, view: &impl View) -> Answer {
        match self {
            Read::Get(family, key) => Ok(vec![(key.clone(), view.get(*family, key)?)]),
            Read::MultiGet(family, keys) => {
                let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                Ok(keys
                    .iter()
                    .cloned()
                    .zip(view.multi_get(*family, &slices)?)
                    .collect())
            }
            Read::Scan(family, from, to, limit) => {
                let mut rows = Vec::new();
                view.scan(*family, from, to.as_deref(), &mut |key, value| {
                    rows.push((
                        Bytes::copy_from_slice(key),
                        Some(Bytes::copy_from_slice(value)),
                    ));
                    if rows.len() > *limit {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                Ok(rows)
            }
            Read::ScanEach(family, spans, limit) => {
                let slices: Vec<RowSpan<'_>> = spans
                    .iter()
                    .map(|(from, to)| (&from[..], to.as_deref()))
                    .collect();
                let mut rows = vec![Vec::new(); spans.len()];
                view.scan_each(*family, &slices, &mut |place, key, value| {
                    rows[place].push((
                        Bytes::copy_from_slice(key),
                        Some(Bytes::copy_from_slice(value)),
                    ));
                    if rows[place].len() > *limit {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                Ok(rows.concat())
            }
        }
    }
}

fn with_sight<S: Snapshot>(snapshot: &S, sight: Sight) -> S {
    match sight {
        Sight::Normal => snapshot.clone(),
        Sight::InMemory => snapshot.in_memory(),
        Sight::Bulk => snapshot.bulk(),
    }
}

struct Pair<'a> {
    dir: &'a Path,
    mem: MemEngine,
    rocks: Option<RocksEngine>,
    held: Vec<(
        <MemEngine as Engine>::Snapshot,
        <RocksEngine as Engine>::Snapshot,
    )>,
}

impl<'a> Pair<'a> {
    fn new(dir: &'a Path) -> Result<Self, TestCaseError> {
        Ok(Self {
            dir,
            mem: MemEngine::default(),
            rocks: Some(open(dir)?),
            held: Vec::new(),
        })
    }

    fn rocks(&self) -> &RocksEngine {
        self.rocks.as_ref().expect("open between operations")
    }

    fn run(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Write(batch) => {
                self.mem.write(batch).map_err(failed)?;
                self.rocks().write(batch).map_err(failed)?;
            }
            Operation::Read(at, sight, read) => {
                let now = (self.mem.snapshot(), self.rocks().snapshot());
                let (mem, rocks) = match at {
                    Some(at) if !self.held.is_empty() => at.get(&self.held),
                    _ => &now,
                };
                let expected = read.on(&with_sight(mem, *sight));
                let answer = read.on(&with_sight(rocks, *sight));
                if !(matches!(sight, Sight::InMemory) && answer == Err(ViewError::WouldBlock)) {
                    prop_assert_eq!(expected, answer);
                }
            }
            Operation::Persisted(family, key) => {
                let expected = self.mem.persisted(*family, key).map_err(failed)?;
                prop_assert_eq!(
                    expected,
                    self.rocks().persisted(*family, key).map_err(failed)?
                );
            }
            Operation::Hold if self.held.len() < MAX_SNAPSHOTS => {
                self.held
                    .push((self.mem.snapshot(), self.rocks().snapshot()));
            }
            Operation::Hold => {}
            Operation::Release(at) if !self.held.is_empty() => {
                self.held.swap_remove(at.index(self.held.len()));
            }
            Operation::Release(_) => {}
            Operation::Flush => self.flush()?,
            Operation::Reopen => {
                self.flush()?;
                self.crash()?;
            }
            Operation::Crash => self.crash()?,
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), TestCaseError> {
        self.mem.flush().map_err(failed)?;
        self.rocks().flush().map_err(failed)
    }

    fn crash(&mut self) -> Result<(), TestCaseError> {
        self.held.clear();
        self.mem = self.mem.crash();
        self.rocks = None;
        self.rocks = Some(open(self.dir)?);
        self.compare_all()
    }

    fn compare_all(&self) -> Result<(), TestCaseError> {
        for family in Family::ALL {
            let all = Read::Scan(family, Bytes::new(), None, usize::MAX);
            prop_assert_eq!(
                all.on(&self.mem.snapshot()),
                all.on(&self.rocks().snapshot())
            );
        }
        Ok(())
    }
}

fn failed(error: impl fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

fn open(dir: &Path) -> Result<RocksEngine, TestCaseError> {
    let options = EngineOptions {
        cache_bytes: 32 << 20,
        write_buffer_bytes: 8 << 20,
        ..EngineOptions::default()
    };
    RocksEngine::open(dir, &options).map_err(failed)
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
    )
}

#[test]
fn both_engines_answer_alike() {
    let fresh = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as u64)
    };
    let seed = number("MIZZEN_SEED").unwrap_or_else(fresh);
    let cases = number("MIZZEN_CASES").unwrap_or(CASES);
    println!("MIZZEN_SEED={seed} MIZZEN_CASES={cases}");
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&vec(operation(), 1..MAX_OPERATIONS), |operations| {
        let dir = tempfile::tempdir().map_err(failed)?;
        let mut pair = Pair::new(dir.path())?;
        for operation in &operations {
            pair.run(operation)?;
        }
        pair.compare_all()
    });
    if let Err(error) = result {
        let reason = match error {
            TestError::Fail(reason, operations) => format!("{reason}\nafter {operations:#?}"),
            TestError::Abort(reason) => reason.to_string(),
        };
        panic!(
            "{reason}\nagain: MIZZEN_SEED={seed} MIZZEN_CASES={cases} \
             cargo test --release -p mizzen-engine --test differential"
        );
    }
}
