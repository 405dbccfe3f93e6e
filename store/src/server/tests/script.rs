//! A script of writes, with the power going off at, or an operation failing
//! at, each step of it.

use mizzen_sim::{Event, Flaw};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use mizzen_core::{Command, Compaction, DeleteRange, Operation, Put, Range, Txn};
use mizzen_proto::etcdserverpb::RangeResponse;
use parking_lot::Mutex;
use prost::Message;

use super::{
    members::{Life, Member, Setup, live},
    setting,
};
use crate::server::Caller;

const OPERATIONS: usize = 300;
const KEYS: u64 = 40;
const SEED: u64 = 7;
/// Lives at the same time, unless told otherwise.
const WORKERS: u64 = 2;
/// Points that a planted mistake may survive: some of the first come before the
/// first write.
const SOON: u64 = 24;
/// Between two looks at whether a member has stopped.
const POLL: Duration = Duration::from_millis(20);

/// What readers see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    revision: i64,
    rows: BTreeMap<Bytes, Bytes>,
}

struct Script {
    commands: Vec<Command>,
    /// Before each command, and after the last.
    states: Vec<Contents>,
    /// The compacted revision beside each of them.
    floors: Vec<i64>,
}

fn put(key: Bytes, value: Bytes) -> Put {
    Put {
        key,
        value,
        ..Put::default()
    }
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut contents = Contents {
            revision: 1,
            ..Contents::default()
        };
        // Nothing is compacted.
        let mut floor = -1;
        let mut script = Self {
            commands: Vec::new(),
            states: vec![contents.clone()],
            floors: vec![floor],
        };
        for number in 0..OPERATIONS {
            let key = |rng: &mut StdRng| Bytes::from(format!("key-{}", rng.random_range(0..KEYS)));
            let value = |rng: &mut StdRng| {
                Bytes::from(format!("{number}:").repeat(1 + rng.random_range(0..60) as usize))
            };
            let command = match rng.random_range(0..20) {
                0..3 => {
                    let key = key(&mut rng);
                    contents.revision += i64::from(contents.rows.remove(&key).is_some());
                    Command::DeleteRange(DeleteRange {
                        key,
                        ..DeleteRange::default()
                    })
                }
                3..6 => {
                    let first = key(&mut rng);
                    let second = Bytes::from([&first[..], b"'"].concat());
                    contents.revision += 1;
                    let success = [first, second].map(|key| {
                        let value = value(&mut rng);
                        contents.rows.insert(key.clone(), value.clone());
                        Operation::Put(put(key, value))
                    });
                    Command::Txn(Txn {
                        success: success.into(),
                        ..Txn::default()
                    })
                }
                6 if contents.revision - 10 > floor.max(0) => {
                    floor = contents.revision - 10;
                    Command::Compact(Compaction { revision: floor })
                }
                _ => {
                    let (key, value) = (key(&mut rng), value(&mut rng));
                    contents.revision += 1;
                    contents.rows.insert(key.clone(), value.clone());
                    Command::Put(put(key, value))
                }
            };
            script.commands.push(command);
            script.states.push(contents.clone());
            script.floors.push(floor);
        }
        script
    }
}

/// What a client of the first life knows.
#[derive(Default)]
struct Known {
    acknowledged: AtomicU64,
    /// A lone member acknowledged a write begun after it had failed.
    late: AtomicBool,
}

/// Returns when the member has found that it cannot go on.
async fn ended(member: &Member) {
    while !member.failed.load(Ordering::SeqCst) {
        tokio::time::sleep(POLL).await;
    }
}

/// Runs the script; ends at the first write whose outcome is not known.
async fn write(members: Vec<Member>, script: Arc<Script>, known: Arc<Known>) {
    for member in &members {
        let ready = tokio::select! {
            ready = member.server.ready() => ready.is_ok(),
            () = ended(member) => false,
        };
        if !ready {
            return;
        }
    }
    for (number, command) in script.commands.iter().enumerate() {
        let member = &members[number % members.len()];
        let caller = Caller::default();
        let write = || member.server.write(&caller, command.clone());
        let outcome = tokio::select! {
            outcome = write() => outcome.is_ok(),
            () = ended(member) => {
                // Not in a group: there the first write may be carried out
                // yet, and a second one would be another.
                if members.len() == 1 {
                    let another = tokio::time::timeout(POLL, write()).await;
                    known.late.store(matches!(another, Ok(Ok(_))), Ordering::SeqCst);
                }
                false
            }
        };
        if !outcome {
            return;
        }
        known
            .acknowledged
            .store(number as u64 + 1, Ordering::SeqCst);
    }
}

async fn contents(member: &Member) -> Result<Contents, String> {
    let all = Range {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Range::default()
    };
    let reply = member.server.range(&Caller::default(), all).await;
    let reply = reply.map_err(|error| format!("cannot read: {error}"))?;
    let kvs = RangeResponse::decode(reply.kvs.bytes).map_err(|error| error.to_string())?;
    Ok(Contents {
        revision: reply.revision,
        rows: kvs.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect(),
    })
}

/// Checks every member against what the client knows, then that writes go on.
async fn check(members: Vec<Member>, script: Arc<Script>, known: Arc<Known>) -> Result<(), String> {
    let acknowledged = known.acknowledged.load(Ordering::SeqCst) as usize;
    if known.late.load(Ordering::SeqCst) {
        return Err("a write was acknowledged after the log had failed".to_owned());
    }
    let possible = acknowledged..=(acknowledged + 1).min(OPERATIONS);
    for (id, member) in (1..).zip(&members) {
        let ready = member.server.ready().await;
        ready.map_err(|error| format!("member {id} is not ready: {error}"))?;
        let contents = contents(member).await?;
        if !possible
            .clone()
            .any(|number| script.states[number] == contents)
        {
            let expected = &script.states[acknowledged];
            return Err(differences(id, acknowledged, expected, &contents));
        }
    }
    let mut hashes = Vec::new();
    for member in &members {
        let hash = member.server.hash_kv(&Caller::default(), 0).await;
        let hash = hash.map_err(|error| format!("no hash: {error}"))?;
        if hash.compact_revision < script.floors[acknowledged] {
            return Err(format!(
                "a compaction at {} was acknowledged, and is at {} now",
                script.floors[acknowledged], hash.compact_revision
            ));
        }
        hashes.push((hash.hash, hash.hash_revision, hash.compact_revision));
    }
    if hashes.iter().any(|hash| *hash != hashes[0]) {
        return Err(format!("members differ: {hashes:?}"));
    }
    for member in &members {
        let command = Command::Put(put(Bytes::from_static(b"later"), Bytes::from_static(b"v")));
        let outcome = member.server.write(&Caller::default(), command).await;
        outcome.map_err(|error| format!("cannot write any more: {error}"))?;
    }
    Ok(())
}

fn differences(id: u64, acknowledged: usize, expected: &Contents, found: &Contents) -> String {
    let mut text = format!(
        "member {id}: {acknowledged} writes were acknowledged, up to revision {}; it is at {}",
        expected.revision, found.revision
    );
    for (key, value) in &expected.rows {
        if found.rows.get(key) != Some(value) {
            // Writing to a string cannot fail.
            let _ = write!(text, "; {key:?} is lost or old");
        }
    }
    text
}

/// True if the event happened before the script was over.
fn case(setup: &Setup, script: &Arc<Script>, event: Event) -> Result<bool, String> {
    let known = Arc::new(Known::default());
    let (writing, knowing) = (script.clone(), known.clone());
    let life = live(setup, setup.empty(), event, |members| {
        write(members, writing, knowing).boxed()
    });
    let happened = life.power.happened();
    let images = match life {
        Life {
            outcome: Some(Err(error)),
            ..
        } if event == Event::Never || !happened => {
            return Err(format!("cannot begin: {error}"));
        }
        Life { images, .. } => images,
    };
    // The power goes off a second time, while the members recover.
    let again = Event::PowerOff(1 + setup.seed % 11);
    let images = live(setup, images, again, |members| {
        async move {
            for member in &members {
                // Whoever gets that far has recovered.
                let _ = member.server.ready().await;
            }
        }
        .boxed()
    })
    .images;
    let (checking, knowing) = (script.clone(), known);
    let life = live(setup, images, Event::Never, |members| {
        check(members, checking, knowing).boxed()
    });
    match life.outcome {
        Some(Ok(outcome)) => outcome.map(|()| happened),
        Some(Err(error)) => Err(format!("a member refuses to start: {error}")),
        None => Err("the power went off by itself".to_owned()),
    }
}

struct Report {
    points: u64,
    failures: Vec<String>,
}

/// Goes through the steps, `stride` apart, up to the end of the script.
fn every_step(
    members: u64,
    flaw: Flaw,
    stride: u64,
    event: impl Fn(u64) -> Event + Sync,
    enough: usize,
) -> Report {
    let script = Arc::new(Script::new(SEED));
    let only = setting("MIZZEN_POWER_STEP", 0);
    let next = AtomicU64::new(if only == 0 { 1 } else { only });
    let over = AtomicBool::new(false);
    let report = Mutex::new(Report {
        points: 0,
        failures: Vec::new(),
    });
    std::thread::scope(|scope| {
        for _ in 0..setting("MIZZEN_POWER_WORKERS", WORKERS) {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let step = next.fetch_add(stride, Ordering::SeqCst);
                    if only != 0 && step != only {
                        return;
                    }
                    let setup = Setup {
                        members,
                        seed: SEED + step,
                        flaw,
                    };
                    let outcome = case(&setup, &script, event(step));
                    let mut report = report.lock();
                    if report.failures.len() >= enough {
                        return;
                    }
                    match outcome {
                        Ok(true) => report.points += 1,
                        Ok(false) => over.store(true, Ordering::SeqCst),
                        Err(error) => {
                            report.points += 1;
                            report.failures.push(format!("step {step}: {error}"));
                        }
                    }
                    if report.failures.len() >= enough {
                        over.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    report.into_inner()
}

fn must_hold(test: &str, members: u64, default_stride: u64, event: impl Fn(u64) -> Event + Sync) {
    let stride = setting("MIZZEN_POWER_STRIDE", default_stride);
    let report = every_step(members, Flaw::None, stride, event, 5);
    println!(
        "{test}: {} points, {stride} steps apart, {} failures",
        report.points,
        report.failures.len()
    );
    assert!(report.points > 0, "nothing was tested");
    assert!(
        report.failures.is_empty(),
        "{:#?}\nagain: MIZZEN_POWER_STEP=<step> cargo test --release -p mizzen-store --lib {test}",
        report.failures
    );
}

#[test]
fn a_lone_member_loses_nothing_whenever_the_power_goes_off() {
    let test = "a_lone_member_loses_nothing_whenever_the_power_goes_off";
    must_hold(test, 1, 1, Event::PowerOff);
}

#[test]
fn three_members_lose_nothing_whenever_the_power_of_all_goes_off() {
    let test = "three_members_lose_nothing_whenever_the_power_of_all_goes_off";
    must_hold(test, 3, 11, Event::PowerOff);
}

#[test]
fn a_lone_member_acknowledges_nothing_after_a_failed_operation() {
    let test = "a_lone_member_acknowledges_nothing_after_a_failed_operation";
    must_hold(test, 1, 1, Event::Failure);
}

#[test]
fn three_members_lose_nothing_when_an_operation_of_one_fails() {
    let test = "three_members_lose_nothing_when_an_operation_of_one_fails";
    must_hold(test, 3, 13, Event::Failure);
}

/// The tests above must be able to fail, and soon.
fn must_be_found(members: u64, flaw: Flaw) {
    let report = every_step(members, flaw, 37, Event::PowerOff, 1);
    println!(
        "{flaw:?}, {members} members: found after {} points: {:?}",
        report.points,
        report.failures.first()
    );
    assert!(!report.failures.is_empty(), "{flaw:?} was not found");
    assert!(
        report.points <= SOON,
        "{flaw:?} was found only after {} points",
        report.points
    );
}

#[test]
fn a_missing_fdatasync_is_found() {
    must_be_found(1, Flaw::NoSync);
    must_be_found(3, Flaw::NoSync);
}

#[test]
fn rows_ahead_of_the_log_are_found() {
    must_be_found(3, Flaw::Hasty);
}
