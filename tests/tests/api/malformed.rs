//! Ten thousand malformed requests to a resource API over a three-replica
//! store: each refused, nothing changed. The long form is `resource_api fuzz`.

use anyhow::Result;
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::malformed::{Settings, run};
use mizzen_tests::setting;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let server = ApiServer::start(&cluster.endpoints())?;
        let settings = Settings {
            seed: 1,
            first: 0,
            requests: setting("MIZZEN_TEST_REQUESTS", 10_000),
            findings: 1,
        };
        let report = run(&server, &cluster.channel(0)?, &settings).await?;
        println!("{} requests", report.values().sum::<u64>());
        Ok(())
    })
    .await
}
