//! Linearizable reads on any member: one quorum round for all readers that
//! came before it was sent.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use mizzen_core::planted;

use super::error::Error;
use crate::{limits, raft::Group, workers};

type Waiting = oneshot::Sender<Result<(), Error>>;

pub struct ReadIndex {
    waiting: mpsc::Sender<Waiting>,
}

impl ReadIndex {
    pub fn start(group: Arc<Group>, applied: watch::Receiver<u64>, limit: Duration) -> Self {
        let (waiting, queue) = mpsc::channel(limits::READERS_WAITING);
        workers::spawn("read index", rounds(group, applied, queue, limit));
        Self { waiting }
    }

    /// Returns when this member's rows hold every write acknowledged before
    /// the call.
    pub async fn wait(&self) -> Result<(), Error> {
        let (sender, confirmed) = oneshot::channel();
        self.waiting.try_send(sender).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        confirmed.await.map_err(|_| Error::Stopped)?
    }
}

async fn rounds(
    group: Arc<Group>,
    applied: watch::Receiver<u64>,
    mut queue: mpsc::Receiver<Waiting>,
    limit: Duration,
) {
    let mut readers = Vec::new();
    while queue.recv_many(&mut readers, limits::READERS_WAITING).await > 0 {
        let deadline = Instant::now() + limit;
        // Readers that come from here on wait for the next round: this one may
        // have been sent before they came.
        let index = confirmed_index(&group, deadline).await;
        while planted::has("read-joins-sent-round")
            && let Ok(reader) = queue.try_recv()
        {
            readers.push(reader);
        }
        let readers = std::mem::take(&mut readers);
        match index {
            Ok(index) if *applied.borrow() >= index => finish(readers, Ok(())),
            // The next round need not wait until this one is applied.
            Ok(index) => drop(workers::detached(finish_when(
                applied.clone(),
                index,
                deadline,
                readers,
            ))),
            Err(error) => finish(readers, Err(error)),
        }
    }
}

fn finish(readers: Vec<Waiting>, result: Result<(), Error>) {
    for reader in readers {
        // A reader that went away no longer wants it.
        let _ = reader.send(result.clone());
    }
}

async fn finish_when(
    mut applied: watch::Receiver<u64>,
    index: u64,
    deadline: Instant,
    readers: Vec<Waiting>,
) {
    let result = match timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Error::Stopped),
        Err(_) => Err(Error::Timeout),
    };
    finish(readers, result);
}

/// Asks whoever leads, again after a change of leader, until the deadline.
async fn confirmed_index(group: &Group, deadline: Instant) -> Result<u64, Error> {
    loop {
        let mut leader = group.watch_leader();
        let known = *leader.borrow_and_update();
        let attempt = attempt(group, known);
        match while_leading(&leader, deadline, attempt).await? {
            Some(index) => return Ok(index),
            None => retry(&mut leader, deadline).await?,
        }
    }
}

async fn attempt(group: &Group, leader: u64) -> Option<u64> {
    match leader {
        0 => None,
        leader if leader != group.id() && planted::has("stale-follower-read") => Some(0),
        leader if leader == group.id() && planted::has("stale-leader-read") => Some(0),
        leader if leader == group.id() => group.read_index().await.ok(),
        leader => remote(group, leader).await,
    }
}

fn remote(group: &Group, leader: u64) -> impl Future<Output = Option<u64>> + Send + use<> {
    let client = group.peer(leader);
    async move {
        let answer = client
            .ok()?
            .read_index(mizzen_proto::peer::ReadIndexRequest {})
            .await
            .ok()?;
        Some(answer.into_inner().index)
    }
}

/// What `attempt` gives; `None` too when another leader is known first: the one
/// that was asked may never answer.
pub async fn while_leading<T>(
    leader: &watch::Receiver<u64>,
    deadline: Instant,
    attempt: impl Future<Output = Option<T>>,
) -> Result<Option<T>, Error> {
    let mut leader = leader.clone();
    let answer = async {
        tokio::select! {
            biased;
            answer = attempt => answer,
            _ = leader.changed() => None,
        }
    };
    let answer = timeout_at(deadline, answer).await;
    answer.map_err(|_| Error::Timeout)
}

/// Waits for another leader, or a moment: the same one may have been busy.
pub async fn retry(leader: &mut watch::Receiver<u64>, deadline: Instant) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(20);
    if Instant::now() >= deadline {
        return Err(Error::Timeout);
    }
    match tokio::time::timeout(PAUSE, leader.changed()).await {
        Ok(Err(_)) => Err(Error::Stopped),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}
