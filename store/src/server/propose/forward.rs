//! Proposals of clients of a follower, on their way to the leader.

use std::sync::Arc;

use mizzen_planted::{bug, sometimes};
use mizzen_proto::peer::{ProposeOutcome, ProposeRequest};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::server::error::Error;
use crate::{
    limits,
    raft::{Group, Payload, Submitted, never_sent},
    workers,
};

struct Item {
    payload: Payload,
    outcome: oneshot::Sender<Submitted>,
}

/// Sends what has gathered while the earlier batches were on their way.
pub struct Forward {
    items: mpsc::Sender<Item>,
}

impl Forward {
    pub fn start(group: Arc<Group>) -> Self {
        let (items, queue) = mpsc::channel(limits::PROPOSALS_IN_FLIGHT);
        workers::spawn("forwarding", batches(group, queue));
        Self { items }
    }

    /// Has the leader propose it. `Refused` only if no member appended it.
    pub async fn propose(&self, payload: Payload) -> Result<Submitted, Error> {
        let (sender, outcome) = oneshot::channel();
        self.items
            .try_send(Item {
                payload,
                outcome: sender,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
                mpsc::error::TrySendError::Closed(_) => Error::Stopped,
            })?;
        outcome.await.map_err(|_| Error::Stopped)
    }
}

async fn batches(group: Arc<Group>, mut queue: mpsc::Receiver<Item>) {
    let in_flight = Arc::new(Semaphore::new(limits::FORWARDS_IN_FLIGHT));
    let mut waiting: Option<Item> = None;
    loop {
        let Some(first) = (match waiting.take() {
            Some(item) => Some(item),
            None => queue.recv().await,
        }) else {
            return;
        };
        let Ok(permit) = in_flight.clone().acquire_owned().await else {
            return;
        };
        let mut bytes = first.payload.0.len();
        let mut batch = vec![first];
        while batch.len() < limits::FORWARD_BATCH
            && let Ok(item) = queue.try_recv()
        {
            bytes += item.payload.0.len();
            if bytes > limits::FORWARD_BATCH_BYTES {
                waiting = Some(item);
                break;
            }
            batch.push(item);
        }
        let group = group.clone();
        workers::detached(async move {
            send(&group, batch).await;
            drop(permit);
        });
    }
}

async fn send(group: &Group, batch: Vec<Item>) {
    let payloads = batch.iter().map(|item| item.payload.0.clone()).collect();
    let client = group
        .leader()
        .filter(|leader| *leader != group.id())
        .map(|leader| group.peer(leader));
    let outcomes = match client {
        // Nobody was asked, so nobody appended.
        None | Some(Err(_)) => {
            sometimes!("nobody-to-forward-to");
            vec![Submitted::Refused; batch.len()]
        }
        Some(Ok(mut client)) => match client.propose(ProposeRequest { payloads }).await {
            Ok(answer) => answer
                .into_inner()
                .outcomes
                .into_iter()
                .map(submitted)
                .collect(),
            Err(status) if never_sent(&status) => vec![Submitted::Refused; batch.len()],
            // The leader may have received it.
            Err(_) => {
                sometimes!("forwarded-and-not-answered");
                bug!("write-sent-again", Vec::new() => vec![Submitted::Refused; batch.len()])
            }
        },
    };
    let outcomes = outcomes
        .into_iter()
        .chain(std::iter::repeat(Submitted::Unknown));
    for (item, outcome) in batch.into_iter().zip(outcomes) {
        // A client that went away no longer wants it.
        let _ = item.outcome.send(outcome);
    }
}

fn submitted(outcome: i32) -> Submitted {
    match ProposeOutcome::try_from(outcome) {
        Ok(ProposeOutcome::Done) => Submitted::Done,
        Ok(ProposeOutcome::Refused) => Submitted::Refused,
        Ok(ProposeOutcome::Busy) => Submitted::Busy,
        Ok(ProposeOutcome::Unknown) | Err(_) => Submitted::Unknown,
    }
}
