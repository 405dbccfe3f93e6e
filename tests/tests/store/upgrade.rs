//! Members are replaced by newer ones while clients go on: what only the newer
//! ones understand is not written before all can read it.
//!
//! The older program is an executable of its own that lacks these levels of
//! features: `store/examples/mizzen-older.rs`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mizzen_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthRoleAddRequest, HashKvRequest, alarm_request::AlarmAction,
    auth_client::AuthClient, maintenance_client::MaintenanceClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::load::Load;
use tonic::{Code, Status};

const SETTLE: Duration = Duration::from_secs(10);

async fn alarm(cluster: &Cluster, index: usize, action: AlarmAction) -> Result<usize, Status> {
    let request = AlarmRequest {
        action: action.into(),
        member_id: 7,
        alarm: AlarmType::Nospace.into(),
    };
    let channel = cluster.channel(index).expect("an address");
    let reply = MaintenanceClient::new(channel).alarm(request).await?;
    Ok(reply.into_inner().alarms.len())
}

async fn add_role(cluster: &Cluster, index: usize) -> Result<(), Status> {
    let name = "r".to_owned();
    let channel = cluster.channel(index).expect("an address");
    let mut client = AuthClient::new(channel);
    client.role_add(AuthRoleAddRequest { name }).await.map(drop)
}

fn is_not_capable(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition && status.message() == "etcdserver: not capable"
}

/// Members of the first level refuse what belongs to the second, or do not know
/// the call; those that know it do not propose it.
async fn not_yet(cluster: &Cluster, upgraded: usize) -> Result<()> {
    for index in 0..3 {
        let status = alarm(cluster, index, AlarmAction::Activate).await.err();
        ensure!(
            status.as_ref().is_some_and(is_not_capable),
            "member {index} answered {status:?}"
        );
        let status = add_role(cluster, index).await.err();
        ensure!(
            status.as_ref().is_some_and(|status| is_not_capable(status)
                || index >= upgraded && status.code() == Code::Unimplemented),
            "member {index} answered {status:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn members_are_upgraded_one_by_one() -> Result<()> {
    let (older, newer) = (cluster::mizzen_older()?, cluster::mizzen()?);
    Cluster::run(Options::new(older.clone()), async |cluster| {
        let members = (0..3).map(|index| cluster.channel(index));
        let load = Load::start(members.collect::<Result<_>>()?, 200);
        not_yet(cluster, 0).await?;
        for index in 0..3 {
            load.flows(50).await?;
            ensure!(cluster.terminate(index).await?.success());
            cluster.set_binary(index, &newer);
            cluster.restart(index).await?;
            load.flows(50).await?;
            if index < 2 {
                not_yet(cluster, index + 1).await?;
            }
        }
        let outcome = load.stop().await?;
        println!("{} puts, failed: {:?}", outcome.sent, outcome.failed);
        outcome.ensure_retryable()?;
        for index in 0..3 {
            outcome.ensure_kept(cluster.channel(index)?).await?;
        }

        // Now all can.
        let started = Instant::now();
        while let Err(status) = alarm(cluster, 0, AlarmAction::Activate).await {
            ensure!(started.elapsed() < SETTLE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for index in 0..3 {
            ensure!(alarm(cluster, index, AlarmAction::Get).await? == 1);
        }
        let started = Instant::now();
        while let Err(status) = add_role(cluster, 0).await {
            ensure!(started.elapsed() < SETTLE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(alarm(cluster, 1, AlarmAction::Deactivate).await? == 1);
        let mut hashes = Vec::new();
        for index in 0..3 {
            let mut client = MaintenanceClient::new(cluster.channel(index)?);
            let reply = client.hash_kv(HashKvRequest::default()).await?.into_inner();
            hashes.push((reply.hash, reply.hash_revision));
        }
        ensure!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "{hashes:?}"
        );

        // There is no way back for a member's data.
        ensure!(cluster.terminate(2).await?.success());
        cluster.set_binary(2, &older);
        cluster.spawn(2)?;
        ensure!(!cluster.wait_end(2).await?.success());
        let log = std::fs::read_to_string(cluster.log_path(2))?;
        ensure!(log.contains("too old for this data"));
        cluster.set_binary(2, &newer);
        cluster.restart(2).await
    })
    .await
}
