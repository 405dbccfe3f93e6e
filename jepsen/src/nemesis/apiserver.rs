//! Servers of the resource API that are killed.

use super::{Done, Nemesis};
use crate::history::record::Injected;
use anyhow::Result;
use rand::Rng;

/// kill -9 of one, a while without it, start, wait until it serves.
pub async fn kill(n: &mut Nemesis) -> Result<Done> {
    let Some(apis) = n.apis.clone() else {
        return Ok(Done::skipped("no servers of the resource API"));
    };
    let count = apis.lock().await.len();
    let victim = n.rng.random_range(0..count.max(1));
    apis.lock().await.kill(victim).await?;
    let length = n.downtime();
    n.hold(length).await;
    apis.lock().await.start(victim).await?;
    Ok(Done {
        members: Vec::new(),
        hit_leader: false,
        injected: Injected::Installed,
        kills: 1,
        detail: format!("a{victim} was away for {:.2} s", length.as_secs_f64()),
    })
}
