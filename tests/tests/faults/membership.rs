//! Changes of the membership of clusters of processes, through the Cluster
//! service as clients use it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest,
    cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use tonic::{Code, Status};

/// Within this time a membership is expected to be what was asked for.
const SETTLE: Duration = Duration::from_secs(10);

async fn put(cluster: &Cluster, index: usize, key: &str) -> Result<(), Status> {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        ..PutRequest::default()
    };
    let channel = cluster.channel(index).expect("an address");
    KvClient::new(channel).put(request).await.map(drop)
}

async fn count(cluster: &Cluster, index: usize, serializable: bool) -> Result<i64, Status> {
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        count_only: true,
        serializable,
        ..RangeRequest::default()
    };
    let channel = cluster.channel(index).expect("an address");
    let reply = KvClient::new(channel).range(request).await?;
    Ok(reply.into_inner().count)
}

fn client(cluster: &Cluster, index: usize) -> Result<ClusterClient<tonic::transport::Channel>> {
    Ok(ClusterClient::new(cluster.channel(index)?))
}

async fn add(
    cluster: &Cluster,
    through: usize,
    peer_url: &str,
    learner: bool,
) -> Result<Member, Status> {
    let request = MemberAddRequest {
        peer_ur_ls: vec![peer_url.to_owned()],
        is_learner: learner,
    };
    let mut client = client(cluster, through).expect("an address");
    let reply = client.member_add(request).await?.into_inner();
    Ok(reply.member.expect("a member"))
}

async fn remove(cluster: &Cluster, through: usize, id: u64) -> Result<(), Status> {
    let mut client = client(cluster, through).expect("an address");
    client
        .member_remove(MemberRemoveRequest { id })
        .await
        .map(drop)
}

async fn promote(cluster: &Cluster, through: usize, id: u64) -> Result<(), Status> {
    let mut client = client(cluster, through).expect("an address");
    client
        .member_promote(MemberPromoteRequest { id })
        .await
        .map(drop)
}

async fn list(cluster: &Cluster, through: usize, linearizable: bool) -> Result<Vec<Member>> {
    let request = MemberListRequest { linearizable };
    let reply = client(cluster, through)?.member_list(request).await?;
    Ok(reply.into_inner().members)
}

async fn id(cluster: &Cluster, index: usize) -> Result<u64> {
    let header = cluster.status(index).await?.header;
    Ok(header.context("a header")?.member_id)
}

/// Waits until `wanted` holds for the list of every member of `members`.
async fn settled(
    cluster: &Cluster,
    members: &[usize],
    wanted: impl Fn(&[Member]) -> bool,
) -> Result<()> {
    let started = Instant::now();
    for &index in members {
        loop {
            let listed = list(cluster, index, false).await;
            if listed.as_ref().is_ok_and(|listed| wanted(listed)) {
                break;
            }
            ensure!(
                started.elapsed() < SETTLE,
                "member {index} lists {listed:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Strict checks ask for connections that are some seconds old, as etcd's do.
async fn until_allowed<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, Status>,
) -> Result<T, Status> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Err(status)
                if status.message() == "etcdserver: unhealthy cluster"
                    && started.elapsed() < SETTLE =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, message: &str) -> Result<()> {
    let status = result.err().context("it was not refused")?;
    ensure!(
        (status.code(), status.message()) == (code, message),
        "refused with {status:?}, expected {code:?} {message:?}"
    );
    Ok(())
}

/// As etcd: the call succeeds, and the cluster serves, before the new member
/// is there, while it comes, and after it.
#[tokio::test]
async fn one_member_grows_to_three() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).members(1);
    Cluster::run(options, async |cluster| {
        put(cluster, 0, "before").await?;
        let second = cluster.reserve()?;
        let added = add(cluster, 0, &cluster.peer_url(second), false).await?;
        ensure!(added.id != 0 && added.name.is_empty() && !added.is_learner);
        for key in 0..50 {
            put(cluster, 0, &format!("while {key}")).await?;
        }
        ensure!(list(cluster, 0, true).await?.len() == 2);

        cluster.join(second, &[0, second])?;
        cluster.wait_ready(second).await?;
        ensure!(id(cluster, second).await? == added.id);
        ensure!(count(cluster, second, false).await? == 51);
        let named =
            |name: String| move |listed: &[Member]| listed.iter().any(|member| member.name == name);
        settled(cluster, &[0, second], named(cluster.name(second))).await?;

        let third = cluster.reserve()?;
        let url = cluster.peer_url(third);
        until_allowed(async || add(cluster, second, &url, false).await).await?;
        cluster.join(third, &[0, second, third])?;
        cluster.wait_ready(third).await?;
        settled(cluster, &[0, second, third], named(cluster.name(third))).await?;

        // All three count now: any one may go.
        let leader = cluster.leader().await?;
        cluster.kill(leader)?;
        let next = cluster.leader().await?;
        cluster.wait_ready(next).await?;
        put(cluster, next, "after").await?;
        ensure!(count(cluster, next, false).await? == 52);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_removed_member_stops_and_stays_away() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        // The leader itself, through itself.
        let leader = cluster.leader().await?;
        put(cluster, leader, "before").await?;
        let gone = id(cluster, leader).await?;
        until_allowed(async || remove(cluster, leader, gone).await).await?;
        let status = cluster.wait_end(leader).await?;
        ensure!(status.success(), "the removed member ended with {status}");
        let log = std::fs::read_to_string(cluster.log_path(leader))?;
        ensure!(log.contains("permanently removed from the cluster"));

        let rest: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        let next = cluster.leader().await?;
        cluster.wait_ready(next).await?;
        put(cluster, next, "after").await?;
        settled(cluster, &rest, |listed| {
            listed.len() == 2 && listed.iter().all(|member| member.id != gone)
        })
        .await?;
        refused(
            remove(cluster, next, gone).await,
            Code::NotFound,
            "etcdserver: member not found",
        )?;

        // It does not come back, neither with its data nor without.
        cluster.spawn(leader)?;
        ensure!(cluster.wait_end(leader).await?.success());
        std::fs::remove_dir_all(cluster.data_dir(leader))?;
        cluster.spawn(leader)?;
        ensure!(!cluster.wait_end(leader).await?.success());
        let log = std::fs::read_to_string(cluster.log_path(leader))?;
        ensure!(log.contains("has already been bootstrapped"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_learner_is_filled_and_promoted() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let learner = cluster.reserve()?;
        let url = cluster.peer_url(learner);
        for key in 0..100 {
            put(cluster, key % 3, &format!("{key}")).await?;
        }
        let added = until_allowed(async || add(cluster, 1, &url, true).await).await?;
        ensure!(added.is_learner);
        refused(
            promote(cluster, 0, added.id).await,
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        )?;
        refused(
            promote(cluster, 0, 1).await,
            Code::NotFound,
            "etcdserver: member not found",
        )?;
        refused(
            promote(cluster, 1, id(cluster, 0).await?).await,
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member",
        )?;
        // Each member judges by the age of its own connections.
        refused(
            until_allowed(async || add(cluster, 2, "http://127.0.0.1:1", true).await).await,
            Code::FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        )?;
        refused(
            add(cluster, 2, &url, false).await,
            Code::FailedPrecondition,
            "etcdserver: Peer URLs already exists",
        )?;
        cluster.join(learner, &[0, 1, 2, learner])?;
        // A learner answers for itself only.
        let started = Instant::now();
        while count(cluster, learner, true).await.ok() != Some(100) {
            ensure!(started.elapsed() < SETTLE, "the learner was not filled");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(cluster.status(learner).await?.is_learner);
        let unsupported = "etcdserver: rpc not supported for learner";
        refused(
            count(cluster, learner, false).await,
            Code::FailedPrecondition,
            unsupported,
        )?;
        refused(
            put(cluster, learner, "refused").await,
            Code::FailedPrecondition,
            unsupported,
        )?;
        let leader = cluster.leader().await?;
        let mut maintenance = MaintenanceClient::new(cluster.channel(leader)?);
        let request = MoveLeaderRequest {
            target_id: added.id,
        };
        refused(
            maintenance.move_leader(request).await,
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee",
        )?;

        // Through a follower.
        promote(cluster, (leader + 1) % 3, added.id).await?;
        let promoted = |listed: &[Member]| {
            listed
                .iter()
                .any(|member| member.id == added.id && !member.is_learner)
        };
        settled(cluster, &[0, 1, 2, learner], promoted).await?;
        cluster.wait_ready(learner).await?;
        put(cluster, learner, "accepted").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_member_moves_to_another_address() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let moved = id(cluster, 2).await?;
        let spare = cluster.reserve()?;
        let request = |url: String| MemberUpdateRequest {
            id: moved,
            peer_ur_ls: vec![url],
        };
        refused(
            client(cluster, 0)?
                .member_update(request(cluster.peer_url(0)))
                .await,
            Code::FailedPrecondition,
            "etcdserver: Peer URLs already exists",
        )?;
        refused(
            client(cluster, 0)?
                .member_update(request("nowhere".to_owned()))
                .await,
            Code::InvalidArgument,
            "etcdserver: given member URLs are invalid",
        )?;
        let url = cluster.peer_url(spare);
        client(cluster, 0)?
            .member_update(request(url.clone()))
            .await?;
        cluster.terminate(2).await?;
        cluster.move_peer(2, spare);
        cluster.restart(2).await?;
        settled(cluster, &[0, 1, 2], |listed| {
            listed
                .iter()
                .any(|member| member.id == moved && member.peer_ur_ls == [url.clone()])
        })
        .await?;
        // It takes part: without one of the others it is needed.
        let leader = cluster.leader().await?;
        cluster.kill(if leader == 2 { 0 } else { leader })?;
        cluster.leader().await?;
        cluster.wait_ready(2).await?;
        put(cluster, 2, "moved").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn strict_checks_protect_the_quorum() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        // The connections are younger than some seconds.
        refused(
            add_nowhere(cluster, 0, 1).await,
            Code::Unavailable,
            "etcdserver: unhealthy cluster",
        )?;
        until_allowed(async || add_nowhere(cluster, 0, 1).await).await?;
        // Four members, three of them started: a fifth that does not start
        // would leave no member to spare.
        until_allowed(async || add_nowhere(cluster, 0, 2).await).await?;
        refused(
            add_nowhere(cluster, 0, 3).await,
            Code::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        )?;
        let own = id(cluster, 0).await?;
        refused(
            remove(cluster, 1, own).await,
            Code::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        )?;
        // Those who never started can go.
        let unstarted: Vec<u64> = list(cluster, 0, true)
            .await?
            .into_iter()
            .filter(|member| member.name.is_empty())
            .map(|member| member.id)
            .collect();
        ensure!(unstarted.len() == 2);
        for id in unstarted {
            remove(cluster, 2, id).await?;
        }
        put(cluster, 1, "serving").await?;
        Ok(())
    })
    .await
}

/// Adds a member that will never be there.
async fn add_nowhere(cluster: &Cluster, through: usize, number: u16) -> Result<Member, Status> {
    add(
        cluster,
        through,
        &format!("http://127.0.0.1:{number}"),
        false,
    )
    .await
}

#[tokio::test]
async fn leadership_moves_where_it_is_sent() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        for _ in 0..6 {
            let leader = cluster.leader().await?;
            let target = (leader + 1) % 3;
            let request = MoveLeaderRequest {
                target_id: id(cluster, target).await?,
            };
            refused(
                MaintenanceClient::new(cluster.channel(target)?)
                    .move_leader(request)
                    .await,
                Code::FailedPrecondition,
                "etcdserver: not leader",
            )?;
            let mut client = MaintenanceClient::new(cluster.channel(leader)?);
            refused(
                client.move_leader(MoveLeaderRequest { target_id: 1 }).await,
                Code::FailedPrecondition,
                "etcdserver: bad leader transferee",
            )?;
            let term = cluster.status(leader).await?.raft_term;
            client.move_leader(request).await?;
            ensure!(cluster.status(leader).await?.leader == request.target_id);
            ensure!(cluster.leader().await? == target);
            ensure!(cluster.status(target).await?.raft_term == term + 1);
            put(cluster, leader, "moved").await?;
        }
        Ok(())
    })
    .await
}
