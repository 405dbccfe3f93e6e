//! Informers of client-go and kube-rs follow 1,000 objects through 10,000 changes while an
//! apiserver and the store's leader are killed. The long form is the tool
//! `resource_api follow`.

use anyhow::{Context as _, Result};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::follow::{self, Settings};
use mizzen_tests::skip::{self, Why};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers_miss_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let client_go = follow::build(folder.path())?;
    if client_go.is_none() {
        skip::part("client-go's informers", &Why::program("go"))?;
    }
    let kube_rs = follow::build_kube_rs()?;
    let settings = Settings {
        seed: 1,
        objects: 1_000,
        changes: 10_000,
    };
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let reports = follow::run(cluster, client_go.as_deref(), &kube_rs, &settings).await?;
        println!("{reports:?}");
        follow::judge(&reports)
    })
    .await
    .with_context(|| {
        format!(
            "reproduce: cargo run --release -p mizzen-tests --bin resource_api -- follow --seed {} --objects {} --changes {}",
            settings.seed, settings.objects, settings.changes
        )
    })
}
