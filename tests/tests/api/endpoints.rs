//! The endpoints of the Service `kubernetes` are the servers of the resource API
//! that live: one that is stopped is gone with its process, one that is killed
//! when its key in the store has expired.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http::Method;
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use serde_json::{Value, json};

/// A killed server's key lives for 15 seconds after its last renewal.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api endpoints::";

pub const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
pub const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

/// The addresses in the endpoints and in the slice.
async fn addresses(door: &Https) -> Result<[Vec<String>; 2]> {
    let texts = |list: &Value, at: &str| -> Vec<String> {
        let items = list.as_array().into_iter().flatten();
        let texts = items.filter_map(|one| one.pointer(at)?.as_str().map(str::to_owned));
        texts.collect()
    };
    // Before the first server has written them there are none.
    let endpoints = door.json(Method::GET, ENDPOINTS, None).await;
    let slice = door.json(Method::GET, SLICE, None).await;
    Ok([
        endpoints.map_or(vec![], |one| texts(&one["subsets"][0]["addresses"], "/ip")),
        slice.map_or(vec![], |one| texts(&one["endpoints"], "/addresses/0")),
    ])
}

/// Waits until these are the addresses.
pub async fn become_these(door: &Https, expected: &[&str]) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = addresses(door).await?;
        if found.iter().all(|one| one == expected) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "the endpoints are {found:?}, not {expected:?}\n{REPRODUCE}"
        );
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_the_servers_that_live() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let endpoints = cluster.endpoints();
        let start = |address: &str| {
            let flag = format!("--advertise-address={address}");
            ApiServer::start_with(&endpoints, &[&flag])
        };
        let one = start("192.0.2.1")?;
        let door = Https::connect(&one).await?;
        become_these(&door, &["192.0.2.1"]).await?;
        let mut two = start("192.0.2.2")?;
        let mut three = start("192.0.2.3")?;
        become_these(&door, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]).await?;
        shape(&door, &one).await?;
        // At once: it is gone before its process is.
        three.terminate()?;
        let found = addresses(&door).await?;
        ensure!(
            found.iter().all(|one| one == &["192.0.2.1", "192.0.2.2"]),
            "{found:?}\n{REPRODUCE}"
        );
        two.kill()?;
        become_these(&door, &["192.0.2.1"]).await?;
        two.restart()?;
        become_these(&door, &["192.0.2.1", "192.0.2.2"]).await
    })
    .await
}

/// What controllers and proxies go by.
async fn shape(door: &Https, server: &ApiServer) -> Result<()> {
    let endpoints = door.json(Method::GET, ENDPOINTS, None).await?;
    let slice = door.json(Method::GET, SLICE, None).await?;
    // The port is that of the server that wrote them first.
    let ports = json!([{"name": "https", "port": server.port(), "protocol": "TCP"}]);
    ensure!(endpoints["subsets"][0]["ports"] == ports, "{endpoints}");
    ensure!(slice["ports"] == ports, "{slice}");
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    ensure!(endpoints["metadata"]["labels"] == labels, "{endpoints}");
    let labels = json!({"kubernetes.io/service-name": "kubernetes"});
    ensure!(slice["metadata"]["labels"] == labels, "{slice}");
    ensure!(
        slice["endpoints"][0]["conditions"] == json!({"ready": true}),
        "{slice}"
    );
    Ok(())
}

#[test]
fn a_loopback_address_is_no_endpoint() -> Result<()> {
    let endpoints = ["127.0.0.1:1".to_owned()];
    let refused = ApiServer::start_with(&endpoints, &["--advertise-address=127.0.0.1"]);
    let why = refused.err().map(|error| format!("{error:#}"));
    ensure!(
        why.as_ref()
            .is_some_and(|why| why.contains("may not be in the loopback range")),
        "{why:?}\n{REPRODUCE}"
    );
    Ok(())
}
