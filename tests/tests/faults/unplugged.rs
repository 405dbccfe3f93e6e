//! A member whose network is gone for a while, with nobody told: what TCP makes
//! of it by itself is not good enough. Needs root and `ip`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mizzen_proto::etcdserverpb::PutRequest;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::hosts::Hosts;
use mizzen_tests::skip::{self, Why};
use mizzen_tests::snapshot::same_hash;

/// TCP sends again after 0.2 s, 0.6 s, 1.4 s and so on: what is lost at 25.4 s it
/// sends at 51 s and not before.
const OUTAGE: Duration = Duration::from_secs(27);
/// Within which the member is back: far less than TCP would wait, and far more
/// than it takes.
const BACK: Duration = Duration::from_secs(15);
/// Between two puts of the others.
const PAUSE: Duration = Duration::from_millis(50);

async fn comes_back(hosts: &Hosts, cluster: &mut Cluster, victim: usize) -> Result<()> {
    let other = (victim + 1) % cluster.len();
    hosts.unplug(victim)?;
    let began = Instant::now();
    let mut client = KvClient::new(cluster.channel(other)?);
    let mut puts = 0;
    while began.elapsed() < OUTAGE {
        let put = PutRequest {
            key: format!("key-{puts}").into(),
            value: "value".into(),
            ..PutRequest::default()
        };
        // There is no leader at first if it was the victim.
        puts += u32::from(client.put(put).await.is_ok());
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(puts > 0, "the others did not go on");
    hosts.plug_in(victim)?;
    let plugged_in = Instant::now();
    cluster.wait_ready(victim).await?;
    let took = plugged_in.elapsed();
    println!("member {victim} without a network, {puts} puts meanwhile: back after {took:.1?}");
    ensure!(took < BACK, "it was back after {took:?} only");
    same_hash(cluster).await
}

#[tokio::test]
async fn a_member_is_back_soon_after_its_network_is() -> Result<()> {
    let hosts = match Hosts::new(3) {
        Ok(hosts) => Arc::new(hosts),
        Err(error) => {
            let why = Why::Refused(format!("network namespaces: {error:#}"));
            return Ok(skip::test(&why)?);
        }
    };
    let options = Options::new(cluster::mizzen()?).hosts(hosts.clone());
    Cluster::run(options, async |cluster| {
        let leader = cluster.leader().await?;
        comes_back(&hosts, cluster, (leader + 1) % 3).await?;
        let leader = cluster.leader().await?;
        comes_back(&hosts, cluster, leader).await
    })
    .await
}
