//! Linearizable reads on any member: one quorum round for all readers that
//! came before it was sent.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use mizzen_planted::{bug, sometimes};

use crate::server::{admission::Admission, error::Error, leader};
use crate::{limits, raft::Group, workers};

type Waiting = oneshot::Sender<Result<(), Error>>;

pub struct ReadIndex {
    waiting: mpsc::Sender<Waiting>,
    admission: Admission,
}

impl ReadIndex {
    pub fn start(group: Arc<Group>, applied: watch::Receiver<u64>, limit: Duration) -> Self {
        let (waiting, queue) = mpsc::channel(limits::READERS_WAITING);
        workers::spawn("read index", rounds(group, applied, queue, limit));
        Self {
            waiting,
            admission: Admission::new(),
        }
    }

    /// Returns when this member's rows hold every write acknowledged before
    /// the call. For clients: refused where too many wait.
    pub async fn wait(&self) -> Result<(), Error> {
        let admitted = self.admission.admit()?;
        self.confirmed().await?;
        // It waits for no disk of its own.
        admitted.served(|| Duration::ZERO);
        Ok(())
    }

    /// The same, for probes and for the member itself.
    pub async fn confirmed(&self) -> Result<(), Error> {
        let (sender, confirmed) = oneshot::channel();
        self.waiting.try_send(sender).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        confirmed.await.map_err(|_| Error::Stopped)?
    }

    /// Brings this member's rows up to what has been decided, perhaps a moment
    /// ago through another member. Without a quorum the newest known must do.
    pub async fn refresh(&self) {
        // Either way the rows are looked at next.
        let _ = timeout(limits::REFRESH_LIMIT, self.confirmed()).await;
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
        let index = leader::ask(&group, deadline, |leader| attempt(&group, leader)).await;
        bug!("read-joins-sent-round" => while let Ok(one) = queue.try_recv() { readers.push(one); });
        let readers = std::mem::take(&mut readers);
        sometimes!("readers-share-a-round", readers.len() > 1);
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
    sometimes!("read-waits-for-rows");
    let result = match timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Error::Stopped),
        Err(_) => Err(Error::Timeout),
    };
    finish(readers, result);
}

/// The index that a quorum confirms to `leader`.
async fn attempt(group: &Group, leader: u64) -> Option<u64> {
    if leader == group.id() {
        return bug!("stale-leader-read", group.read_index().await.ok() => Some(0));
    }
    bug!("stale-follower-read", remote(group, leader).await => Some(0))
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
