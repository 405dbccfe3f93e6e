//! Handing leadership over, because a client asks for it or because this
//! member is about to stop.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use mizzen_engine::Engine;
use mizzen_planted::sometimes;
use tokio::time::Instant;

use super::liveness::Liveness;
use crate::server::{error::Error, model::published::SharedPublished};
use crate::{
    limits,
    raft::{Drain, Group, TransferError},
    workers,
};

/// Moves leadership away from this member.
pub struct Handover<E: Engine> {
    group: Arc<Group>,
    published: SharedPublished<E>,
    liveness: Arc<Liveness>,
    /// How long a client waits.
    limit: Duration,
}

impl<E: Engine> Handover<E> {
    /// Starts looking at the log's disk, for as long as the owner of this keeps it.
    pub fn start(
        group: Arc<Group>,
        published: SharedPublished<E>,
        liveness: Arc<Liveness>,
        limit: Duration,
    ) -> Arc<Self> {
        let handover = Arc::new(Self {
            group,
            published,
            liveness,
            limit,
        });
        let disk = Self::watch_disk(Arc::downgrade(&handover));
        workers::spawn("watching the log's disk", disk);
        handover
    }

    /// Makes `to` the leader; returns when it is.
    pub async fn move_to(&self, to: u64) -> Result<(), Error> {
        if !self.group.is_leader() {
            return Err(Error::NotLeader);
        }
        let votes = {
            let published = self.published.load();
            published
                .members
                .get(to)
                .is_some_and(|member| !member.learner)
        };
        if !votes {
            return Err(Error::BadLeaderTransferee);
        }
        let deadline = Instant::now() + self.limit;
        match self.group.transfer(to, Drain::Wait, deadline).await {
            Ok(()) => {
                sometimes!("leadership-transferred");
                Ok(())
            }
            Err(TransferError::NotLeader) => Err(Error::NotLeader),
            Err(error) => {
                tracing::warn!(%error, to = %format_args!("{to:x}"), "leadership was not transferred");
                Err(Error::TimeoutLeaderTransfer)
            }
        }
    }

    /// Leaves the leadership to another member when this one's disk does not
    /// answer: nothing could be acknowledged here until it does.
    async fn watch_disk(leadership: Weak<Self>) {
        let mut ticks = tokio::time::interval(limits::DISK_WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(leadership) = leadership.upgrade() else {
                return;
            };
            let waited = leadership.group.disk_wait();
            if waited >= leadership.group.election_timeout() / 2 && leadership.group.is_leader() {
                tracing::warn!(
                    waited_ms = waited.as_millis(),
                    "the disk of the raft log does not answer: handing leadership over"
                );
                leadership.hand_over(Drain::Leave).await;
                // With its disk this member may be slow to hear who leads now.
                let pause = leadership.group.election_timeout();
                drop(leadership);
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// If this member leads, has the voter that is nearest lead instead. Tries
    /// all voters that are up; gives up after a while.
    pub async fn hand_over(&self, drain: Drain) {
        let deadline = Instant::now() + limits::HAND_OVER_LIMIT;
        let mut tried = Vec::new();
        while self.group.is_leader() && Instant::now() < deadline {
            let Some(to) = self.successor(&tried) else {
                return;
            };
            let patience = Instant::now() + limits::HAND_OVER_LIMIT / 4;
            match self.group.transfer(to, drain, patience.min(deadline)).await {
                Ok(()) => {
                    tracing::info!(to = %format_args!("{to:x}"), "handed leadership over");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, to = %format_args!("{to:x}"), "leadership was not handed over");
                    tried.push(to);
                }
            }
        }
    }

    /// The voter that is up and has most of the log.
    fn successor(&self, tried: &[u64]) -> Option<u64> {
        let progress = self.group.progress()?;
        self.group
            .configuration()
            .voters
            .into_iter()
            .filter(|id| *id != self.group.id() && !tried.contains(id))
            .filter(|id| self.liveness.contact(*id).is_some())
            .max_by_key(|id| progress.matched.get(id).copied())
    }
}
