//! SIGKILL in the first start of a member, at many moments of it: the next start
//! serves.
//!
//! The moments are those at which its directory shows something new for the first
//! time, until nothing is new any more, and `MIZZEN_TEST_KILLS` spread over its
//! first 200 ms (40 if not given, of which a start in a cluster of three gets a
//! quarter).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    MemberAddRequest, PutRequest, cluster_client::ClusterClient, kv_client::KvClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};

/// The last delay of a spread kill.
const SPREAD: Duration = Duration::from_millis(200);
/// A start that shows nothing new for so long is over.
const OVER: Duration = Duration::from_millis(500);
/// More sights than a first start has.
const SIGHTS: usize = 200;

fn kills() -> u32 {
    let given = std::env::var("MIZZEN_TEST_KILLS");
    given.ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// When a start is killed.
enum Moment<'a> {
    After(Duration),
    /// When the directories show what is not in the set yet.
    New(&'a mut BTreeSet<Vec<String>>),
}

/// The names of all files below `folder`.
fn sight(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What vanishes meanwhile is not seen.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            found.push(path.display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    let prefix = folder.display().to_string();
    found.iter().map(|path| path.replace(&prefix, "")).collect()
}

/// Waits for the moment in a start that has just begun, and kills the member.
/// False if the moment did not come, and the member runs on.
fn kill(cluster: &mut Cluster, index: usize, moment: Moment<'_>) -> Result<bool> {
    match moment {
        Moment::After(delay) => std::thread::sleep(delay),
        Moment::New(seen) => {
            let folder = cluster.data_dir(index).to_owned();
            let mut since = Instant::now();
            let mut last = Vec::new();
            loop {
                let now = sight(&folder);
                if seen.insert(now.clone()) {
                    break;
                }
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > OVER {
                    return Ok(false);
                }
            }
        }
    }
    cluster.kill(index)?;
    Ok(true)
}

async fn put(cluster: &Cluster, index: usize) -> Result<()> {
    let request = PutRequest {
        key: Bytes::from_static(b"key"),
        ..PutRequest::default()
    };
    KvClient::new(cluster.channel(index)?).put(request).await?;
    Ok(())
}

/// Kills member 0 of a new cluster in its first start, and again in the second
/// one if that is asked for. False if the moment did not come.
async fn interrupt(members: usize, moment: Moment<'_>, again: Option<Duration>) -> Result<bool> {
    let options = Options::new(cluster::mizzen()?).members(members);
    let mut killed = false;
    Cluster::prepare(options)
        .await?
        .attend(async |cluster| {
            for index in 0..members {
                cluster.spawn(index)?;
            }
            killed = kill(cluster, 0, moment)?;
            if killed {
                cluster.spawn(0)?;
            }
            if let (true, Some(delay)) = (killed, again) {
                kill(cluster, 0, Moment::After(delay))?;
                cluster.spawn(0)?;
            }
            for index in 0..members {
                cluster.wait_ready(index).await?;
            }
            put(cluster, 0).await
        })
        .await?;
    Ok(killed)
}

#[tokio::test]
async fn of_a_lone_member_at_every_sight() -> Result<()> {
    let mut seen = BTreeSet::new();
    while interrupt(1, Moment::New(&mut seen), None)
        .await
        .with_context(|| format!("killed at {:?}", seen.last()))?
    {
        ensure!(seen.len() < SIGHTS, "it never ends: {seen:#?}");
    }
    println!("killed at {} sights of its directory", seen.len());
    ensure!(seen.len() > 5, "only {seen:#?}");
    Ok(())
}

#[tokio::test]
async fn of_a_lone_member_at_any_time() -> Result<()> {
    for number in 0..kills() {
        let delay = SPREAD * number / kills();
        interrupt(1, Moment::After(delay), Some(SPREAD - delay))
            .await
            .with_context(|| format!("killed after {delay:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn of_one_of_three_at_any_time() -> Result<()> {
    let kills = kills().div_ceil(4);
    for number in 0..kills {
        let delay = SPREAD * number / kills;
        interrupt(3, Moment::After(delay), None)
            .await
            .with_context(|| format!("killed after {delay:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn of_a_member_that_joins() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).members(1);
    Cluster::run(options, async |cluster| {
        let new = cluster.reserve()?;
        let request = MemberAddRequest {
            peer_ur_ls: vec![cluster.peer_url(new)],
            is_learner: true,
        };
        ClusterClient::new(cluster.channel(0)?)
            .member_add(request)
            .await?;
        let kills = kills().div_ceil(4);
        cluster.join(new, &[0, new])?;
        for number in 0..kills {
            kill(cluster, new, Moment::After(SPREAD * number / kills))?;
            cluster.spawn(new)?;
        }
        let started = Instant::now();
        loop {
            let caught_up = match (cluster.status(0).await, cluster.status(new).await) {
                (Ok(first), Ok(learner)) => learner.raft_applied_index >= first.raft_index,
                _ => false,
            };
            if caught_up {
                return Ok(());
            }
            ensure!(!cluster.has_ended(new)?, "the learner has ended");
            ensure!(
                started.elapsed() < Duration::from_secs(60),
                "the learner does not catch up"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// The second attempt must not take the log for its own that the first one
/// would have made.
#[tokio::test]
async fn a_member_whose_log_is_gone_never_starts() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).members(1);
    Cluster::run(options, async |cluster| {
        put(cluster, 0).await?;
        cluster.kill(0)?;
        std::fs::remove_dir_all(cluster.data_dir(0).join("member/raft-log"))?;
        for _ in 0..2 {
            cluster.spawn(0)?;
            ensure!(!cluster.wait_end(0).await?.success());
        }
        let log = std::fs::read_to_string(cluster.log_path(0))?;
        ensure!(log.matches("is gone from").count() == 2, "{log}");
        Ok(())
    })
    .await
}
