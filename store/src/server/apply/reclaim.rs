//! Gives back the space of compacted versions, in the background and in small
//! steps. A compaction itself is instant: readers are refused from the moment
//! it is applied.

use std::{io, sync::Arc};

use mizzen_core::State;
use mizzen_engine::Transfer;
use tokio::{sync::watch, time::Instant};

use super::thread::{Applier, Reclaim};
use crate::{
    limits,
    server::model::published::SharedPublished,
    workers::{self, Workers},
};

/// Starts following the published state, until the applying thread stops. Gives
/// the compaction up to which nothing is left to give back.
pub fn start<E: Transfer>(
    applier: Applier<E>,
    cluster_changed: watch::Receiver<()>,
    fail: impl Fn(&io::Error) + Send + Sync + 'static,
) -> watch::Receiver<i64> {
    let (reclaimed, seen) = watch::channel(0);
    let compactor = run(applier, cluster_changed, reclaimed, fail);
    workers::spawn("compactor", compactor);
    seen
}

async fn run<E: Transfer>(
    applier: Applier<E>,
    mut cluster_changed: watch::Receiver<()>,
    reclaimed: watch::Sender<i64>,
    fail: impl Fn(&io::Error) + Send + Sync + 'static,
) {
    let Applier {
        engine,
        published,
        workers,
        ..
    } = applier.clone();
    let mut replaced = 0;
    loop {
        let (target, now) = {
            let published = published.load();
            (published.state.compact_revision(), published.replaced)
        };
        // Another member's rows: it had not come as far, perhaps.
        if replaced != now {
            replaced = now;
            reclaimed.send_replace(0);
        }
        if *reclaimed.borrow() < target {
            match reclaim(&engine, &applier, &published, workers).await {
                Ok(()) if published.load().replaced == replaced => {
                    reclaimed.send_replace(target);
                }
                Ok(()) => {}
                Err(error) => {
                    fail(&error);
                    return;
                }
            }
        } else if cluster_changed.changed().await.is_err() {
            return;
        }
    }
}

async fn reclaim<E: Transfer>(
    engine: &Arc<E>,
    applier: &Applier<E>,
    published: &SharedPublished<E>,
    workers: Workers,
) -> io::Result<()> {
    loop {
        let began = Instant::now();
        let replaced = published.load().replaced;
        // Each step begins where the rows say the last one ended; what readers
        // see is older.
        let rows = engine.snapshot();
        let step = move || mizzen_core::reclaim(&State::load(&rows)?, &rows, limits::RECLAIM_ROWS);
        let step = workers.run(step).await?.map_err(io::Error::other)?;
        applier
            .reclaim(Reclaim {
                replaced,
                tombstones: step.tombstones,
                batch: step.batch,
            })
            .await?;
        if step.done {
            return Ok(());
        }
        // At most half of one core, whatever the backlog.
        tokio::time::sleep(began.elapsed()).await;
    }
}
