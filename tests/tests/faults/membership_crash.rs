//! The leader is killed in the middle of every change of the membership, after
//! each of the log entries that the change takes: the others finish it or leave
//! it undone, and agree.
//!
//! `MIZZEN_TEST_ENTRIES` sets after how many entries at most the leader is killed
//! (2 if not given): each operation is run once for each number up to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, PutRequest, cluster_client::ClusterClient, kv_client::KvClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::setting;
use tonic::Status;
use tonic::transport::Channel;

/// Within this time after the leader's end the others agree.
const SETTLE: Duration = Duration::from_secs(10);
/// No entries for so long: nothing is under way any more.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
enum Operation {
    AddVoter,
    AddLearner,
    Promote,
    RemoveFollower,
    RemoveLeader,
    Update,
}

/// One change, as it is asked for.
#[derive(Clone, Debug)]
enum Call {
    Add(MemberAddRequest),
    Promote(MemberPromoteRequest),
    Remove(MemberRemoveRequest),
    Update(MemberUpdateRequest),
}

impl Call {
    async fn send(self, channel: Channel) -> Result<(), Status> {
        let mut client = ClusterClient::new(channel);
        match self {
            Self::Add(request) => client.member_add(request).await.map(drop),
            Self::Promote(request) => client.member_promote(request).await.map(drop),
            Self::Remove(request) => client.member_remove(request).await.map(drop),
            Self::Update(request) => client.member_update(request).await.map(drop),
        }
    }

    /// Whether the list shows what was asked for.
    fn is_done(&self, members: &[Member]) -> bool {
        let has = |id: u64| members.iter().find(|member| member.id == id);
        let url = |urls: &[String]| members.iter().any(|member| member.peer_ur_ls == urls);
        match self {
            Self::Add(request) => url(&request.peer_ur_ls),
            Self::Promote(request) => has(request.id).is_some_and(|member| !member.is_learner),
            Self::Remove(request) => has(request.id).is_none(),
            Self::Update(request) => url(&request.peer_ur_ls),
        }
    }
}

async fn put(cluster: &Cluster, index: usize) -> Result<(), Status> {
    let request = PutRequest {
        key: Bytes::from_static(b"key"),
        ..PutRequest::default()
    };
    let channel = cluster.channel(index).expect("an address");
    KvClient::new(channel).put(request).await.map(drop)
}

async fn list(cluster: &Cluster, index: usize) -> Result<Vec<Member>> {
    let request = MemberListRequest {
        linearizable: false,
    };
    let mut client = ClusterClient::new(cluster.channel(index)?);
    Ok(client.member_list(request).await?.into_inner().members)
}

async fn id(cluster: &Cluster, index: usize) -> Result<u64> {
    let header = cluster.status(index).await?.header;
    Ok(header.context("a header")?.member_id)
}

async fn raft_index(cluster: &Cluster, index: usize) -> Result<u64> {
    Ok(cluster.status(index).await?.raft_index)
}

/// Waits until all of `members` have the same log and list, which do not change
/// any more, and serve. Gives the list.
async fn agreed(cluster: &Cluster, members: &[usize]) -> Result<Vec<Member>> {
    let started = Instant::now();
    let mut last = None;
    let mut since = Instant::now();
    loop {
        let now = sight(cluster, members).await;
        if let Ok(now) = &now {
            if last.as_ref() != Some(now) {
                (last, since) = (Some(now.clone()), Instant::now());
            } else if since.elapsed() >= QUIET {
                break;
            }
        }
        ensure!(
            started.elapsed() < SETTLE,
            "{members:?} do not agree: {now:?}, before {last:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, list) = last.context("a sight")?;
    for &index in members {
        let own = id(cluster, index).await?;
        if list
            .iter()
            .any(|member| member.id == own && !member.is_learner)
        {
            put(cluster, index).await?;
        }
    }
    Ok(list)
}

/// The index and the list that all of `members` have.
async fn sight(cluster: &Cluster, members: &[usize]) -> Result<(u64, Vec<Member>)> {
    let mut seen = None;
    for &index in members {
        let status = cluster.status(index).await?;
        ensure!(status.leader != 0, "{index} knows no leader");
        // Learners list no members.
        let list = if status.is_learner {
            seen.as_ref().map(|(_, list)| Vec::clone(list))
        } else {
            Some(list(cluster, index).await?)
        };
        let now = (status.raft_index, list.context("only learners")?);
        ensure!(
            status.raft_applied_index == now.0 && *seen.get_or_insert(now.clone()) == now,
            "{index} has {now:?}"
        );
    }
    seen.context("no members")
}

/// What is to be done, through whom, and the member to be started meanwhile.
async fn prepare(
    cluster: &mut Cluster,
    operation: Operation,
    leader: usize,
) -> Result<(Call, Option<usize>)> {
    let follower = (leader + 2) % 3;
    let add = async |cluster: &mut Cluster, learner| {
        let new = cluster.reserve()?;
        let request = MemberAddRequest {
            peer_ur_ls: vec![cluster.peer_url(new)],
            is_learner: learner,
        };
        anyhow::Ok((new, Call::Add(request)))
    };
    Ok(match operation {
        Operation::AddVoter | Operation::AddLearner => {
            let learner = matches!(operation, Operation::AddLearner);
            let (new, call) = add(cluster, learner).await?;
            (call, Some(new))
        }
        Operation::Promote => {
            let (new, call) = add(cluster, true).await?;
            call.send(cluster.channel(leader)?).await?;
            cluster.join(new, &[0, 1, 2, new])?;
            let started = Instant::now();
            let id = loop {
                let listed = list(cluster, leader).await?;
                let learner = listed.iter().find(|member| member.is_learner);
                match learner {
                    // It has told its name: it is up and has caught up with that.
                    Some(learner) if !learner.name.is_empty() => break learner.id,
                    _ => ensure!(started.elapsed() < SETTLE, "the learner does not start"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            (Call::Promote(MemberPromoteRequest { id }), None)
        }
        Operation::RemoveFollower | Operation::RemoveLeader => {
            let gone = match operation {
                Operation::RemoveLeader => leader,
                _ => follower,
            };
            let id = id(cluster, gone).await?;
            (Call::Remove(MemberRemoveRequest { id }), None)
        }
        Operation::Update => {
            // The same place under another name.
            let url = cluster.peer_url(follower);
            let request = MemberUpdateRequest {
                id: id(cluster, follower).await?,
                peer_ur_ls: vec![url.replace("127.0.0.1", "localhost")],
            };
            (Call::Update(request), None)
        }
    })
}

/// Runs one operation and kills the leader after `entries` of it.
async fn interrupt(operation: Operation, entries: u64) -> Result<()> {
    let options = Options::new(cluster::mizzen()?).flag("--strict-reconfig-check=false");
    Cluster::run(options, async |cluster| {
        agreed(cluster, &[0, 1, 2]).await?;
        let leader = cluster.leader().await?;
        let through = (leader + 1) % 3;
        let (call, mut joining) = prepare(cluster, operation, leader).await?;
        let base = quiet(cluster, leader).await?;
        let asked = tokio::spawn(call.clone().send(cluster.channel(through)?));

        let mut seen = base;
        let mut grew = Instant::now();
        let mut patience = 2 * QUIET;
        while let Ok(index) = raft_index(cluster, leader).await {
            if index > seen {
                (seen, grew) = (index, Instant::now());
            }
            if seen >= base + entries || asked.is_finished() && grew.elapsed() > patience {
                break;
            }
            if asked.is_finished()
                && let Some(new) = joining.take()
            {
                cluster.join(new, &[0, 1, 2, new])?;
                // It starts, is filled, and gets its vote.
                (grew, patience) = (Instant::now(), SETTLE);
            }
        }
        cluster.kill(leader)?;
        let killed = Instant::now();
        // Without both of these there is no majority of what is left.
        let needed = matches!(operation, Operation::RemoveFollower);
        if needed {
            cluster.spawn(leader)?;
        }

        let mut members = Vec::new();
        let gone = if needed { (leader + 2) % 3 } else { leader };
        for index in (0..cluster.len()).filter(|index| *index != gone) {
            if is_running(cluster, index).await? {
                members.push(index);
            }
        }
        agreed(cluster, &members).await?;
        let time = killed.elapsed();
        // What was refused by the one that is gone may be asked of the next one.
        let answer = asked.await?;
        let agreed_list = agreed(cluster, &members).await?;
        ensure!(
            answer.is_err() || call.is_done(&agreed_list),
            "{call:?} was acknowledged, but the members are {agreed_list:?}"
        );
        println!(
            "{operation:?}: killed after {} entries, {}, agreed after {} ms",
            seen - base,
            if call.is_done(&agreed_list) {
                "done"
            } else {
                "not done"
            },
            time.as_millis()
        );

        // The one that was killed comes back, if it is to.
        let stays = agreed_list
            .iter()
            .any(|member| member.name == cluster.name(leader));
        if needed {
            ensure!(cluster.wait_end(gone).await?.success());
            return Ok(());
        }
        cluster.spawn(leader)?;
        if stays {
            members.push(leader);
            cluster.wait_ready(leader).await?;
            ensure!(agreed(cluster, &members).await? == agreed_list);
        } else {
            ensure!(cluster.wait_end(leader).await?.success());
        }
        Ok(())
    })
    .await
    .with_context(|| format!("{operation:?}, killed after {entries} entries"))
}

/// Waits until the log does not grow any more. Gives its last index.
async fn quiet(cluster: &Cluster, index: usize) -> Result<u64> {
    let started = Instant::now();
    let mut last = raft_index(cluster, index).await?;
    let mut since = Instant::now();
    while since.elapsed() < QUIET {
        let now = raft_index(cluster, index).await?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        ensure!(started.elapsed() < SETTLE, "the log grows on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(last)
}

/// Whether a member takes part: it runs, and does not end because it was removed.
async fn is_running(cluster: &mut Cluster, index: usize) -> Result<bool> {
    if cluster.pid(index).is_none() {
        return Ok(false);
    }
    let started = Instant::now();
    loop {
        if cluster.has_ended(index)? {
            return Ok(false);
        }
        if let Ok(status) = cluster.status(index).await {
            let own = status.header.map(|header| header.member_id);
            let listed = list(cluster, index).await.unwrap_or_default();
            if status.is_learner || listed.iter().any(|member| Some(member.id) == own) {
                return Ok(true);
            }
        }
        if started.elapsed() > SETTLE {
            bail!("member {index} neither ends nor serves");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn each(operation: Operation) -> Result<()> {
    for entries in 1..=setting("MIZZEN_TEST_ENTRIES", 2) {
        interrupt(operation, entries).await?;
    }
    Ok(())
}

#[tokio::test]
async fn while_a_voter_is_added() -> Result<()> {
    each(Operation::AddVoter).await
}

#[tokio::test]
async fn while_a_learner_is_added() -> Result<()> {
    each(Operation::AddLearner).await
}

#[tokio::test]
async fn while_a_learner_is_promoted() -> Result<()> {
    each(Operation::Promote).await
}

#[tokio::test]
async fn while_a_follower_is_removed() -> Result<()> {
    each(Operation::RemoveFollower).await
}

#[tokio::test]
async fn while_the_leader_is_removed() -> Result<()> {
    each(Operation::RemoveLeader).await
}

#[tokio::test]
async fn while_an_address_changes() -> Result<()> {
    each(Operation::Update).await
}
