//! Life of a cluster of processes: leaders, crashes, restarts.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_tests::cluster::{self, Cluster, Options};

const KEY: &[u8] = b"cluster";

async fn put(cluster: &Cluster, index: usize, value: &'static str) -> Result<()> {
    let mut client = KvClient::new(cluster.channel(index)?);
    let request = PutRequest {
        key: Bytes::from_static(KEY),
        value: Bytes::from_static(value.as_bytes()),
        ..Default::default()
    };
    client.put(request).await?;
    Ok(())
}

async fn get(cluster: &Cluster, index: usize) -> Result<Bytes> {
    let mut client = KvClient::new(cluster.channel(index)?);
    let request = RangeRequest {
        key: Bytes::from_static(KEY),
        ..Default::default()
    };
    let mut reply = client.range(request).await?.into_inner();
    Ok(reply.kvs.pop().context("no value")?.value)
}

#[tokio::test]
async fn one_member_keeps_its_data_over_a_crash() -> Result<()> {
    Cluster::run(
        Options::new(cluster::mizzen()?).members(1),
        async |cluster| {
            assert_eq!(cluster.leader().await?, 0);
            put(cluster, 0, "before").await?;
            cluster.kill(0)?;
            cluster.restart(0).await?;
            assert_eq!(get(cluster, 0).await?, "before");
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn the_others_go_on_without_the_leader() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let first = cluster.leader().await?;
        put(cluster, first, "before").await?;
        cluster.kill(first)?;

        let second = cluster.leader().await?;
        assert_ne!(second, first);
        cluster.wait_ready(second).await?;
        assert_eq!(get(cluster, second).await?, "before");
        put(cluster, second, "after").await?;

        cluster.restart(first).await?;
        for index in 0..cluster.len() {
            assert_eq!(get(cluster, index).await?, "after", "member {index}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_clean_stop_of_all_keeps_the_data() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        put(cluster, 1, "kept").await?;
        for index in 0..cluster.len() {
            cluster.terminate(index).await?;
        }
        for index in 0..cluster.len() {
            cluster.spawn(index)?;
        }
        for index in 0..cluster.len() {
            cluster.wait_ready(index).await?;
            assert_eq!(get(cluster, index).await?, "kept", "member {index}");
        }
        Ok(())
    })
    .await
}
