//! What operators do while clients work: compaction, defragmentation, and
//! handing over leadership.

use super::kind::Kind;
use super::{Done, Nemesis};
use crate::client::Client;
use crate::history::op::{Load, Outcome, Request};
use crate::history::record::Injected;
use anyhow::Result;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use rand::seq::IndexedRandom;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The id of the client that compacts.
const CLIENT: u32 = 3_000_001;
const DEFRAGMENT: Duration = Duration::from_secs(30);
const MOVE: Duration = Duration::from_secs(5);

pub async fn inject(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    match kind {
        Kind::Compact => compact(n).await,
        Kind::Defragment => defragment(n).await,
        _ => move_leader(n).await,
    }
}

/// Everything that is on record already, but for the last revision.
async fn compact(n: &mut Nemesis) -> Result<Done> {
    let through = n.collected.through() - 1;
    if through < 2 {
        return Ok(Done::skipped("nothing to compact yet"));
    }
    let members: Vec<usize> = (0..n.bench.view.members()).collect();
    let Some(&member) = members.choose(&mut n.rng) else {
        return Ok(Done::skipped("no members"));
    };
    let mut client = Client::new(&n.bench, CLIENT, member)?;
    let request = Request::Compact { rev: through };
    let outcome = client.call(Load::Compaction, request).await;
    let (injected, word) = match outcome {
        Outcome::Ok { .. } => (Injected::Installed, "acknowledged"),
        Outcome::Fail { .. } => (Injected::Skipped, "refused"),
        Outcome::Unknown { .. } => (Injected::Indeterminate, "of unknown outcome"),
    };
    Ok(Done {
        members,
        hit_leader: true,
        injected,
        kills: 0,
        detail: format!("compaction at {through} {word}"),
    })
}

/// Each member in turn.
async fn defragment(n: &mut Nemesis) -> Result<Done> {
    let members = n.cluster.lock().await.running();
    let mut detail = Vec::new();
    let mut good = true;
    for &m in &members {
        let mut client = MaintenanceClient::new(n.bench.channel(m)?);
        let begun = Instant::now();
        let reply = timeout(DEFRAGMENT, client.defragment(pb::DefragmentRequest {})).await;
        let done = matches!(reply, Ok(Ok(_)));
        good &= done;
        let word = if done { "in" } else { "failed after" };
        detail.push(format!(
            "m{m} {word} {:.2} s",
            begun.elapsed().as_secs_f64()
        ));
    }
    Ok(Done {
        members,
        hit_leader: true,
        injected: if good {
            Injected::Installed
        } else {
            Injected::Indeterminate
        },
        kills: 0,
        detail: detail.join("; "),
    })
}

/// Asks the leader to hand over to a random other member.
async fn move_leader(n: &mut Nemesis) -> Result<Done> {
    let Some(leader) = n.leader().await else {
        return Ok(Done::skipped("no leader known"));
    };
    let running = n.cluster.lock().await.running();
    let others: Vec<usize> = running.into_iter().filter(|m| *m != leader).collect();
    let Some(&target) = others.choose(&mut n.rng) else {
        return Ok(Done::skipped("nobody to hand over to"));
    };
    let Some(target_id) = n.probe.id(target).await else {
        return Ok(Done::skipped("the other member does not answer"));
    };
    let begun = Instant::now();
    let mut client = MaintenanceClient::new(n.bench.channel(leader)?);
    let request = pb::MoveLeaderRequest { target_id };
    let reply = timeout(MOVE, client.move_leader(request)).await;
    let mut now = None;
    while begun.elapsed() < MOVE {
        now = n.leader().await;
        if now == Some(target) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let answer = match reply {
        Ok(Ok(_)) => "acknowledged".to_string(),
        Ok(Err(status)) => status.message().to_string(),
        Err(_) => "no answer".to_string(),
    };
    Ok(Done {
        members: vec![leader, target],
        hit_leader: true,
        injected: if now == Some(target) {
            Injected::Installed
        } else {
            Injected::Indeterminate
        },
        kills: 0,
        detail: format!(
            "m{leader} to m{target}: {answer}, {:.2} s",
            begun.elapsed().as_secs_f64()
        ),
    })
}
