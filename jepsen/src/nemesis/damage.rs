//! Damage to the files of one stopped member: flipped bits and lost ends.
//!
//! It must serve what is right, or refuse to start. Afterwards it is replaced,
//! so that never more than a minority is damaged.

use super::kind::Kind;
use super::{Done, Nemesis, membership};
use crate::client::Client;
use crate::history::op::{Load, RangeReq, Request};
use crate::history::record::{Damage, Injected, Record};
use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a damaged member may take to serve or to refuse.
const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
const FLIPS: std::ops::RangeInclusive<u32> = 1..=8;
/// Bytes lost from the end at the most.
const CUT: u64 = 1024;
/// The id of the client that reads what is left.
const CLIENT: u32 = 3_000_002;
const PAST: i64 = 50;
/// Letters that are kept of what a process says.
const WORDS: usize = 300;

/// Which files a kind of damage is for, by the names that etcd and Mizzen give.
fn is_meant(kind: Kind, file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or("");
    let ends = |end: &str| name.ends_with(end);
    match kind {
        Kind::FlipLog | Kind::TruncateLog => ends(".wal") && !name.starts_with("spare"),
        Kind::FlipRows => ends(".sst") || name == "db",
        _ => ends(".snap") || ends(".snap.db"),
    }
}

pub async fn inject(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    let leader = n.leader().await;
    let m = match n.any_if_all_run().await {
        Ok(m) => m,
        Err(skipped) => return Ok(skipped),
    };
    let mut cluster = n.cluster.lock().await;
    cluster.leave_alone(m, true);
    // Rows are sure to be in files after an orderly end only.
    if matches!(kind, Kind::FlipRows | Kind::FlipSnapshot) {
        cluster.stop(m).await?;
    } else {
        cluster.kill(&[m]).await?;
    }
    let data = cluster.member(m)?.data.clone();
    drop(cluster);
    let hurt = hurt(kind, &data, &mut n.rng)?;
    let mut cluster = n.cluster.lock().await;
    cluster.start(m)?;
    drop(cluster);
    let Some(hurt) = hurt else {
        n.cluster.lock().await.leave_alone(m, false);
        let recovered = n.recover(&[m], false).await;
        return Ok(Done {
            members: vec![m],
            hit_leader: leader == Some(m),
            injected: Injected::Indeterminate,
            kills: 0,
            detail: format!("m{m} was stopped and has no such file; {recovered}"),
        });
    };
    let outcome = outcome(n, m, &hurt.file).await?;
    if outcome.served {
        read(n, m).await?;
        let length = n.cut_time();
        n.hold(length).await;
    }
    let words = words(&outcome);
    n.bench.sink.record(Record::Damage(outcome)).await;
    membership::remove(n, m).await?;
    membership::add(n, m).await?;
    let recovered = n.recover(&[m], true).await;
    Ok(Done {
        members: vec![m],
        hit_leader: leader == Some(m),
        injected: Injected::Installed,
        kills: 1,
        detail: format!("m{m}: {}; {words}; replaced, {recovered}", hurt.what),
    })
}

/// What the damaged member does.
async fn outcome(n: &mut Nemesis, m: usize, file: &str) -> Result<Damage> {
    let from = Instant::now();
    let mut damage = Damage {
        member: m,
        at: n.bench.clock.now(),
        file: file.to_string(),
        refused: None,
        served: false,
    };
    while from.elapsed() < START {
        let mut cluster = n.cluster.lock().await;
        cluster.watch_over().await?;
        if !cluster.running().contains(&m) {
            let log = cluster.member(m)?.log.clone();
            let said = fs::read_to_string(log).unwrap_or_default();
            damage.refused = Some(last_words(&said, file));
            return Ok(damage);
        }
        drop(cluster);
        damage.served = n.probe.healthy(m, Duration::ZERO).await;
        if damage.served {
            return Ok(damage);
        }
        sleep(POLL).await;
    }
    Ok(damage)
}

/// Of what a process said: where it names the file, or else its last line.
fn last_words(log: &str, file: &str) -> String {
    let begin = log.rfind("=== start").unwrap_or(0);
    let said = || log[begin..].lines().skip(1);
    let named = said().filter(|line| line.contains(file)).last();
    let line = named.or(said().last()).unwrap_or("");
    line.chars().take(WORDS).collect()
}

fn words(damage: &Damage) -> String {
    match (&damage.refused, damage.served) {
        (Some(said), _) => format!("it refused to start: {said}"),
        (None, true) => "it serves".into(),
        (None, false) => format!("it did not serve within {} s", START.as_secs()),
    }
}

/// Reads everything that the member has, now and some revisions ago.
async fn read(n: &Nemesis, m: usize) -> Result<()> {
    let mut client = Client::new(&n.bench, CLIENT, m)?;
    let head = n.bench.stats.head();
    for rev in [0, (head - PAST).max(1)] {
        if let Request::Range(scan) = Request::scan(rev) {
            let scan = Request::Range(RangeReq {
                serializable: true,
                ..scan
            });
            client.call(Load::Evidence, scan).await;
        }
    }
    Ok(())
}

struct Hurt {
    file: String,
    what: String,
}

/// Damages one file of the kind; `None` if there is none.
fn hurt(kind: Kind, data: &Path, rng: &mut StdRng) -> Result<Option<Hurt>> {
    let mut files = Vec::new();
    list(data, &mut files)?;
    files.retain(|file| is_meant(kind, file));
    files.sort();
    let mut used = Vec::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        // Files may have their full size from the start.
        let length = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        if length > 64 {
            used.push((file, length as u64));
        }
    }
    let chosen = match kind {
        Kind::TruncateLog => used.last(),
        _ => used.choose(rng),
    };
    let Some((path, length)) = chosen else {
        return Ok(None);
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let name = path
        .strip_prefix(data)
        .unwrap_or(path)
        .display()
        .to_string();
    let base = path.file_name().and_then(OsStr::to_str).unwrap_or(&name);
    let base = base.to_string();
    if kind == Kind::TruncateLog {
        let cut = rng.random_range(1..=CUT.min(*length));
        file.set_len(length - cut)?;
        return Ok(Some(Hurt {
            what: format!("{name} lost its last {cut} of {length} bytes"),
            file: base,
        }));
    }
    let flips = rng.random_range(FLIPS);
    for _ in 0..flips {
        let at = rng.random_range(0..*length);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << rng.random_range(0..8);
        file.write_all_at(&byte, at)?;
    }
    Ok(Some(Hurt {
        what: format!("{flips} bits flipped in {length} bytes of {name}"),
        file: base,
    }))
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
