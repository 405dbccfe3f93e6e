//! Handing leadership over, because a client asks for it or because this
//! member is about to stop.

use std::sync::Weak;

use mizzen_engine::Engine;
use tokio::time::Instant;

use super::{Error, Server};
use crate::{
    limits,
    raft::{Drain, TransferError},
};

impl<E: Engine> Server<E> {
    /// Makes `to` the leader; returns when it is.
    pub async fn move_leader(&self, to: u64) -> Result<(), Error> {
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
        let deadline = Instant::now() + self.request_limit;
        match self.group.transfer(to, Drain::Wait, deadline).await {
            Ok(()) => Ok(()),
            Err(TransferError::NotLeader) => Err(Error::NotLeader),
            Err(error) => {
                tracing::warn!(%error, to = %format_args!("{to:x}"), "leadership was not transferred");
                Err(Error::TimeoutLeaderTransfer)
            }
        }
    }

    /// If this member leads, has the voter that is nearest lead instead. Tries
    /// all voters that are up; gives up after a while.
    pub async fn hand_over(&self) {
        self.hand_over_with(Drain::Wait).await;
    }

    /// Leaves the leadership to another member when this one's disk does not
    /// answer: nothing could be acknowledged here until it does. Ends with the
    /// server.
    pub(super) async fn watch_disk(server: Weak<Self>) {
        let mut ticks = tokio::time::interval(limits::DISK_WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(server) = server.upgrade() else {
                return;
            };
            let waited = server.group.disk_wait();
            if waited >= server.group.election_timeout() / 2 && server.group.is_leader() {
                tracing::warn!(
                    waited_ms = waited.as_millis(),
                    "the disk of the raft log does not answer: handing leadership over"
                );
                server.hand_over_with(Drain::Leave).await;
                // With its disk this member may be slow to hear who leads now.
                let pause = server.group.election_timeout();
                drop(server);
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn hand_over_with(&self, drain: Drain) {
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
