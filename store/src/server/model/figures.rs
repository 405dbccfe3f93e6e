//! What a replica says of itself in numbers.

use std::{collections::BTreeMap, time::Duration};

use mizzen_counters::Distribution;

use super::members::Member;
use crate::raft::PeerFigures;

/// A replica in numbers.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub member_id: u64,
    pub has_leader: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    pub leader_changes: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub proposals_pending: u64,
    pub proposals_failed: u64,
    pub slow_runs: u64,
    pub cluster_version: Option<&'static str>,
    /// Bytes; none without a limit.
    pub quota: Option<u64>,
    pub db_bytes: i64,
    pub db_bytes_in_use: i64,
    /// About so many keys live.
    pub keys: u64,
    pub revision: i64,
    pub compact_revision: i64,
    /// Of users and roles.
    pub auth_revision: u64,
    pub puts: u64,
    pub deletes: u64,
    pub txns: u64,
    pub compactions: u64,
    pub leases_granted: u64,
    pub leases_revoked: u64,
    pub leases_expired: u64,
    pub log_syncs: Distribution,
    pub log_written_bytes: u64,
    pub commits: Distribution,
    /// By id.
    pub peers: BTreeMap<u64, PeerFigures>,
}

/// A member as another one sees it.
#[derive(Clone, Debug)]
pub struct MemberFigures {
    pub member: Member,
    /// The one that looks.
    pub own: bool,
    pub leads: bool,
    /// How long it has answered; nobody asks itself.
    pub up_for: Option<Duration>,
    /// Entries of the log that it is not known to have; known on the leader.
    pub behind: Option<u64>,
}

impl MemberFigures {
    pub fn is_up(&self) -> bool {
        self.own || self.up_for.is_some()
    }
}
