//! What a store forgets without being asked, beside etcd.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, GetOptions};
use mizzen_tests::cluster::{self, Cluster, Options};

/// With a retention of a second, a revision can be read, and then no more; what is
/// newest stays.
async fn forgets(binary: &Path) -> Result<()> {
    let options = Options::new(binary).flag("--auto-compaction-retention=1s");
    Cluster::run(options, async |cluster| {
        let mut client = Client::connect(cluster.endpoints(), None).await?;
        let first = client.put("key", "first", None).await?;
        let first = first.header().context("a header")?.revision();
        client.put("key", "second", None).await?;
        let begun = Instant::now();
        let refused = loop {
            let past = GetOptions::new().with_revision(first);
            match client.get("key", Some(past)).await {
                Ok(found) => ensure!(found.kvs()[0].value() == b"first"),
                Err(refused) => break refused.to_string(),
            }
            ensure!(begun.elapsed() < Duration::from_secs(60), "never compacted");
        };
        let text = "etcdserver: mvcc: required revision has been compacted";
        ensure!(refused.contains(text), "{refused}");
        let newest = client.get("key", None).await?;
        ensure!(newest.kvs()[0].value() == b"second");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_past_is_forgotten() -> Result<()> {
    forgets(&cluster::mizzen()?).await
}

#[tokio::test]
async fn and_so_it_is_by_etcd() -> Result<()> {
    forgets(&cluster::reference()?).await
}
