//! Informers of client-go and kube-rs follow changing objects while an apiserver and the
//! store's leader are killed. The short form is the test `informers`.

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::follow::{self, Settings};

/// Follows changes with informers while servers are killed. Needs Go.
#[derive(Args)]
pub struct Arguments {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    #[arg(long, default_value_t = 100_000)]
    changes: u64,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let client_go = follow::build(folder.path())?.context("go is not on the PATH")?;
    let kube_rs = follow::build_kube_rs()?;
    let settings = Settings {
        seed: arguments.seed,
        objects: arguments.objects,
        changes: arguments.changes,
    };
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let started = Instant::now();
        let reports = follow::run(cluster, Some(&client_go), &kube_rs, &settings).await?;
        println!(
            "{} changes in {:.1} s",
            settings.changes,
            started.elapsed().as_secs_f64()
        );
        for report in &reports {
            println!("{report:?}");
        }
        follow::judge(&reports)
    })
    .await
}
