//! Asking whoever leads, for what a follower cannot answer.
//!
//! Knows which member leads and for how long a client waits. Must not know what
//! is asked.

use std::{future::Future, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::error::Error;
use crate::raft::Group;

/// Gives `attempt` the id of the leader, again after a change of leader or when
/// it was answered nothing, until there is an answer or the deadline. An attempt
/// is given up when another leader is known, because the one that was asked may
/// never answer: it must be harmless to ask twice.
pub async fn ask<T, F>(
    group: &Group,
    deadline: Instant,
    mut attempt: impl FnMut(u64) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Option<T>>,
{
    let mut leader = group.watch_leader();
    loop {
        let known = *leader.borrow_and_update();
        if known != 0 {
            let mut changed = leader.clone();
            let answer = attempt(known);
            let answer = async {
                tokio::select! {
                    biased;
                    answer = answer => answer,
                    _ = changed.changed() => None,
                }
            };
            let answer = timeout_at(deadline, answer).await;
            if let Some(answer) = answer.map_err(|_| Error::Timeout)? {
                return Ok(answer);
            }
        }
        pause(&mut leader, deadline).await?;
    }
}

/// Waits for another leader, or a moment: the same one may have been busy.
///
/// # Errors
/// At the deadline.
pub async fn pause(leader: &mut watch::Receiver<u64>, deadline: Instant) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(20);
    if Instant::now() >= deadline {
        return Err(Error::Timeout);
    }
    match timeout(PAUSE, leader.changed()).await {
        Ok(Err(_)) => Err(Error::Stopped),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}
