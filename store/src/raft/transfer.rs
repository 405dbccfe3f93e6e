//! Handing leadership to a chosen voter.
//!
//! The group's own way is not used: once begun it refuses proposals for ever,
//! also when the other member never takes over. Here this member keeps the
//! leadership until the other one has been elected; it only holds proposals
//! back meanwhile, so that the other one's log is as long as its own.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use mizzen_proto::peer as wire;
use tokio::time::{Instant, timeout_at};

use super::{Group, LogId};

/// Holds proposals back while leadership is handed over.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicBool,
    inside: AtomicUsize,
}

/// A proposal on its way.
pub struct Pass<'a>(&'a Gate);

impl Gate {
    /// `None` while the gate is closed.
    pub fn enter(&self) -> Option<Pass<'_>> {
        // Counted before looking, so that whoever closed the gate either is
        // seen here or sees this one.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(self);
        (!self.closed.load(Ordering::SeqCst)).then_some(pass)
    }

    fn is_drained(&self) -> bool {
        self.inside.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Closed while this lives.
struct Closed<'a>(&'a Gate);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.closed.store(false, Ordering::SeqCst);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("this member does not lead")]
    NotLeader,
    #[error("leadership is being transferred already")]
    Busy,
    #[error("the member does not vote")]
    NotVoter,
    #[error("the leader's log was not drained in time")]
    NotDrained,
    #[error("the member did not take over: {0}")]
    Refused(String),
    #[error("the member did not take over in time")]
    Timeout,
}

/// How often a drain is looked at. A drain takes one round to the followers.
const POLL: Duration = Duration::from_millis(1);

/// What a leader does with proposals that are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Answers them first.
    Wait,
    /// Leaves them to the next leader, who has them in its log: this one cannot
    /// answer, because its disk does not.
    Leave,
}

impl Group {
    /// How long this member has waited for its disk to take what is being
    /// written to the log; zero if nothing is.
    pub fn disk_wait(&self) -> Duration {
        self.wal.work_age()
    }

    /// Makes `to` the leader; returns when this member knows it to be. After
    /// an error this member leads as before, or whoever was elected meanwhile.
    pub async fn transfer(
        &self,
        to: u64,
        drain: Drain,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        if !self.is_leader() {
            return Err(TransferError::NotLeader);
        }
        if to == self.id() {
            return Ok(());
        }
        if !self.configuration().voters.contains(&to) {
            return Err(TransferError::NotVoter);
        }
        if self.gate.closed.swap(true, Ordering::SeqCst) {
            return Err(TransferError::Busy);
        }
        let _closed = Closed(&self.gate);
        let mut leader = self.watch_leader();
        let last = timeout_at(deadline, self.drained(to, drain))
            .await
            .map_err(|_| TransferError::NotDrained)??;
        let asked = timeout_at(deadline, self.ask_to_lead(to, last)).await;
        asked.map_err(|_| TransferError::Timeout)??;
        // Another one may win; this member then leads no more either.
        let id = self.id();
        let elected = leader.wait_for(|leader| *leader != 0 && *leader != id);
        match timeout_at(deadline, elected).await {
            Ok(Ok(leader)) if *leader == to => Ok(()),
            Ok(Ok(leader)) => Err(TransferError::Refused(format!("{:x} did", *leader))),
            Ok(Err(_)) | Err(_) => Err(TransferError::Timeout),
        }
    }

    /// Waits until nothing is on its way and `to` has all of this log.
    async fn drained(&self, to: u64, drain: Drain) -> Result<LogId, TransferError> {
        loop {
            let progress = self.progress().ok_or(TransferError::NotLeader)?;
            let last = self.wal.last().map(LogId::from);
            if (drain == Drain::Leave || self.gate.is_drained())
                && let Some(last) = last
                && progress.matched.get(&to) == Some(&last.index)
            {
                return Ok(last);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask_to_lead(&self, to: u64, last: LogId) -> Result<(), TransferError> {
        let refused = |reason: String| TransferError::Refused(reason);
        let request = wire::TransferLeaderRequest {
            from: Some(wire::Vote {
                term: self.term(),
                node_id: self.id(),
                committed: true,
            }),
            to,
            last_log_id: Some(wire::LogId {
                term: last.term,
                index: last.index,
            }),
        };
        let mut client = self.peer(to).map_err(|error| refused(error.to_string()))?;
        let answer = client
            .transfer_leader(request)
            .await
            .map_err(|status| refused(status.message().to_owned()))?
            .into_inner();
        if answer.refused.is_empty() {
            Ok(())
        } else {
            Err(refused(answer.refused))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_out_but_not_in() {
        let gate = Gate::default();
        let pass = gate.enter().expect("it is open");
        gate.closed.store(true, Ordering::SeqCst);
        let closed = Closed(&gate);
        assert!(gate.enter().is_none());
        assert!(!gate.is_drained());
        drop(pass);
        assert!(gate.is_drained());
        drop(closed);
        assert!(gate.enter().is_some());
    }
}
