//! Leases end neither early nor late while the leader is killed, and all of
//! those that end in the same second do; what any member said of a lease, the
//! others say too. In small; for figures:
//! `cargo run --release -p mizzen-tests --bin leases -- --help`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::leases::{churn, storm};
use tonic::codegen::tokio_stream;
use tonic::transport::Channel;

const ELECTION: Duration = Duration::from_secs(1);

fn options() -> Result<Options> {
    Ok(Options::new(cluster::mizzen()?)
        .flag("--heartbeat-interval=100")
        .flag(format!("--election-timeout={}", ELECTION.as_millis())))
}

#[tokio::test]
async fn leases_end_in_time_while_leaders_are_killed() -> Result<()> {
    let plan = churn::Plan {
        leases: 2_000,
        ttl: Duration::from_secs(6),
        kills: 2,
        time: Duration::from_secs(15),
        election: ELECTION,
        // A busy machine is no reason to fail; a lease whose time began anew
        // once too often is, and ends a whole time to live late.
        slack: Duration::from_secs(4),
        seed: 1,
    };
    Cluster::run(options()?.alone(), async |cluster| {
        println!("{:?}", churn::run(cluster, plan).await?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn leases_of_the_same_second_all_end_and_puts_go_on() -> Result<()> {
    let plan = storm::Plan {
        leases: 2_000,
        lead: Duration::from_secs(10),
        control: Duration::from_secs(3),
        rate: 100,
    };
    Cluster::run(options()?.alone(), async |cluster| {
        let report = storm::run(cluster, plan).await?;
        println!("{report:?}");
        ensure!(report.early == 0, "{} leases ended early", report.early);
        ensure!(report.failed == 0, "{} puts failed", report.failed);
        Ok(())
    })
    .await
}

/// Granted by one member, a lease is renewed by another at once; revoked by one,
/// by none any more: whichever of them leads, and however far behind the others
/// it is with its rows.
#[tokio::test]
async fn a_lease_is_renewed_once_granted_and_no_more_once_revoked() -> Result<()> {
    const WORKERS: usize = 24;
    const TURNS: usize = 60;
    Cluster::run(options()?, async |cluster| {
        let members = (0..cluster.len())
            .map(|index| Ok(LeaseClient::new(cluster.channel(index)?)))
            .collect::<Result<Vec<_>>>()?;
        let workers = (0..WORKERS).map(|worker| {
            let members = members.clone();
            async move {
                for turn in 0..TURNS {
                    let member =
                        |offset: usize| members[(worker + turn + offset) % members.len()].clone();
                    let (mut one, mut other) = (member(0), member(1 + turn % 2));
                    let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
                    let id = one.lease_grant(grant).await?.into_inner().id;
                    let left = renew(&mut other, id).await?;
                    ensure!(left == 60, "{left} after the grant");
                    other.lease_revoke(pb::LeaseRevokeRequest { id }).await?;
                    let left = renew(&mut one, id).await?;
                    ensure!(left == 0, "{left} after the revocation");
                }
                Ok(())
            }
        });
        try_join_all(workers).await?;
        Ok(())
    })
    .await
}

/// The time to live that one renewal is answered with; 0 for no such lease.
async fn renew(member: &mut LeaseClient<Channel>, id: i64) -> Result<i64> {
    let request = pb::LeaseKeepAliveRequest { id };
    let replies = member.lease_keep_alive(tokio_stream::once(request)).await?;
    let reply = replies.into_inner().message().await?;
    Ok(reply.context("a stream without an answer")?.ttl)
}
