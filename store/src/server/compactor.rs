//! Gives back the space of compacted versions, in the background and in small
//! steps. A compaction itself is instant: readers are refused from the moment
//! it is applied.

use std::{io, sync::Arc, time::Instant};

use mizzen_core::State;
use mizzen_engine::Engine;
use tokio::sync::watch;

use super::apply::{Applier, SharedPublished};
use crate::limits;

/// Follows the published state until the applying thread stops. `reclaimed`
/// is the compaction up to which nothing is left to give back.
pub async fn run<E: Engine>(
    engine: Arc<E>,
    applier: Applier,
    published: SharedPublished<E>,
    mut applied: watch::Receiver<u64>,
    reclaimed: watch::Sender<i64>,
    fail: impl Fn(&io::Error) + Send,
) {
    loop {
        let target = published.load().state.compact_revision();
        if *reclaimed.borrow() < target {
            if let Err(error) = reclaim(&engine, &applier).await {
                fail(&error);
                return;
            }
            reclaimed.send_replace(target);
        } else if applied.changed().await.is_err() {
            return;
        }
    }
}

async fn reclaim<E: Engine>(engine: &Arc<E>, applier: &Applier) -> io::Result<()> {
    loop {
        let began = Instant::now();
        // Each step begins where the rows say the last one ended; what readers
        // see is older.
        let rows = engine.snapshot();
        let step = tokio::task::spawn_blocking(move || {
            mizzen_core::reclaim(&State::load(&rows)?, &rows, limits::RECLAIM_ROWS)
        });
        let step = step
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        // First the newest rows, then the history that leads to them: a crash
        // in between leaves history behind, which the next pass finds again.
        if !step.tombstones.is_empty() {
            applier.drop_tombstones(step.tombstones).await?;
        }
        let engine = engine.clone();
        let write = tokio::task::spawn_blocking(move || engine.write(&step.batch));
        write
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        if step.done {
            return Ok(());
        }
        // At most half of one core, whatever the backlog.
        tokio::time::sleep(began.elapsed()).await;
    }
}
