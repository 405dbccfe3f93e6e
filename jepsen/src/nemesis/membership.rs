//! Members removed and added while clients work. A member comes back with
//! another id and empty, on its old addresses.

use super::kind::Kind;
use super::{Done, Nemesis};
use crate::history::record::{Change, Injected, Record};
use anyhow::{Context, Result, bail};
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::cluster_client::ClusterClient;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a change may be refused, for instance because another member has
/// only just started.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(250);

pub async fn inject(n: &mut Nemesis, kind: Kind) -> Result<Done> {
    let leader = n.leader().await;
    let m = match n.any_if_all_run().await {
        Ok(m) => m,
        Err(skipped) => return Ok(skipped),
    };
    let apart = match kind {
        Kind::MemberShrink => n.cut_time(),
        _ => Duration::ZERO,
    };
    remove(n, m).await?;
    n.hold(apart).await;
    add(n, m).await?;
    let recovered = n.recover(&[m], true).await;
    Ok(Done {
        members: vec![m],
        hit_leader: leader == Some(m),
        injected: Injected::Installed,
        kills: 1,
        detail: format!(
            "m{m} removed, away for {:.1} s, added empty; {recovered}",
            apart.as_secs_f64()
        ),
    })
}

/// Removes a member and ends its process.
pub async fn remove(n: &mut Nemesis, m: usize) -> Result<()> {
    n.cluster.lock().await.leave_alone(m, true);
    change(n, m, false)
        .await
        .with_context(|| format!("remove m{m}"))?;
    let mut cluster = n.cluster.lock().await;
    // It may have ended by itself as soon as it learned of it.
    if cluster.running().contains(&m) {
        cluster.kill_unwatched(&[m]).await?;
    }
    Ok(())
}

/// Adds a removed member again and starts it without data.
pub async fn add(n: &mut Nemesis, m: usize) -> Result<()> {
    change(n, m, true)
        .await
        .with_context(|| format!("add m{m}"))?;
    let mut cluster = n.cluster.lock().await;
    cluster.empty(m)?;
    cluster.start(m)?;
    cluster.leave_alone(m, false);
    Ok(())
}

/// Asks one other member after the other until the member is (or is not) one
/// of the cluster.
async fn change(n: &Nemesis, m: usize, wanted: bool) -> Result<()> {
    let url = n.cluster.lock().await.peer_url(m)?;
    let from = Instant::now();
    let mut last = String::new();
    let mut known = None;
    while from.elapsed() < PATIENCE {
        let others = n.cluster.lock().await.running();
        for other in others.into_iter().filter(|other| *other != m) {
            let attempt = attempt(n, other, &url, wanted);
            match timeout(ANSWER, attempt).await {
                Ok(Ok((id, done))) => {
                    known = id.or(known);
                    if done {
                        record(n, m, known, wanted).await;
                        return Ok(());
                    }
                }
                Ok(Err(status)) => last = status.to_string(),
                Err(_) => last = "no answer".into(),
            }
            sleep(RETRY).await;
        }
    }
    bail!("given up: {last}")
}

async fn record(n: &Nemesis, member: usize, id: Option<u64>, added: bool) {
    let Some(id) = id else { return };
    let change = Change {
        member,
        at: n.bench.clock.now(),
        id,
        added,
    };
    n.bench.sink.record(Record::Change(change)).await;
}

/// Gives the member's id if it is one, and true when it is as wanted already;
/// otherwise asks for it.
async fn attempt(
    n: &Nemesis,
    other: usize,
    url: &str,
    wanted: bool,
) -> Result<(Option<u64>, bool), tonic::Status> {
    let channel = n
        .bench
        .channel(other)
        .map_err(|e| tonic::Status::internal(e.to_string()))?;
    let mut client = ClusterClient::new(channel);
    let list = pb::MemberListRequest { linearizable: true };
    let members = client.member_list(list).await?.into_inner().members;
    let found = members
        .iter()
        .find(|member| member.peer_ur_ls.iter().any(|u| u == url));
    let id = found.map(|member| member.id);
    match (id, wanted) {
        (Some(_), true) | (None, false) => return Ok((id, true)),
        (Some(id), false) => {
            let request = pb::MemberRemoveRequest { id };
            client.member_remove(request).await.map(drop)?;
        }
        (None, true) => {
            let request = pb::MemberAddRequest {
                peer_ur_ls: vec![url.to_string()],
                ..pb::MemberAddRequest::default()
            };
            client.member_add(request).await.map(drop)?;
        }
    }
    Ok((id, false))
}
