//! Whether this member knows of a leader that it can reach, for clients that would
//! rather ask elsewhere than wait.

use std::{sync::Arc, time::Duration};

use tokio::time::{timeout, timeout_at};

use super::liveness::Liveness;
use crate::{limits, raft::Group};

/// Whether there is a leader within reach.
#[derive(Clone)]
pub struct LeaderContact {
    pub group: Arc<Group>,
    pub liveness: Arc<Liveness>,
}

impl LeaderContact {
    pub fn exists(&self) -> bool {
        self.group.leader().is_some() && !self.is_cut_off()
    }

    fn is_cut_off(&self) -> bool {
        let since = self.liveness.cut_off_since();
        since.is_some_and(|since| since.elapsed() >= self.patience())
    }

    /// Returns when there has been no leader for so long that whoever needs one
    /// should ask elsewhere; at once if there is none now.
    pub async fn lost(&self) {
        tokio::select! {
            () = self.no_leader_known() => {}
            () = self.cut_off() => {}
        }
    }

    fn patience(&self) -> Duration {
        limits::ELECTIONS_WITHOUT_LEADER * self.group.election_timeout()
    }

    async fn no_leader_known(&self) {
        let mut leader = self.group.watch_leader();
        let mut patience = Duration::ZERO;
        loop {
            let found = leader.wait_for(|leader| *leader != 0);
            match timeout(patience, found).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            patience = self.patience();
            if leader.wait_for(|leader| *leader == 0).await.is_err() {
                return;
            }
        }
    }

    /// With pre-votes, and on a leader itself, the last leader stays known when
    /// all the others are gone.
    async fn cut_off(&self) {
        let mut cut_off = self.liveness.watch_cut_off();
        loop {
            let since = match cut_off.wait_for(Option::is_some).await {
                Ok(since) => *since,
                Err(_) => return,
            };
            let Some(since) = since else {
                continue;
            };
            let reached = cut_off.wait_for(Option::is_none);
            match timeout_at(since + self.patience(), reached).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}
