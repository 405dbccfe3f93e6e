//! Who takes part, as the log's newest membership has it, and the steps that
//! change it. What the membership ought to be is decided by others.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use openraft::{ChangeMembers, async_runtime::watch::WatchReceiver as _};

use super::{Group, PeerChannel, PeerNode, types::RaftMembership};

/// The newest membership in this member's log, committed or not: the one that
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Everyone the leader replicates to.
    pub nodes: BTreeMap<u64, PeerNode>,
    /// Those whose votes count, or will when the change is over.
    pub voters: BTreeSet<u64>,
    /// A change of voters has begun and not ended: two majorities are needed.
    pub joint: bool,
}

impl Configuration {
    /// Whether `member` counts as any other voter does. While a change of
    /// voters goes on that is not so: the majority of the old ones is needed
    /// too, and `member` cannot stand in for one of them.
    pub fn votes(&self, member: u64) -> bool {
        !self.joint && self.voters.contains(&member)
    }
}

/// One step. Each is safe on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigurationChange {
    /// Ends a change of voters that was interrupted.
    Finish,
    /// Replicate to these too. They do not vote.
    AddLearners(BTreeMap<u64, PeerNode>),
    /// Members are somewhere else.
    Move(BTreeMap<u64, PeerNode>),
    /// Exactly these vote, by way of a joint configuration. All must be
    /// learners or voters already; who votes no more becomes a learner.
    Voters(BTreeSet<u64>),
    /// Replicate no more to these learners.
    Remove(BTreeSet<u64>),
}

/// How far the members have come, as the leader knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The leader's last entry.
    pub last_index: u64,
    /// Last entry known to be durable on each member.
    pub matched: BTreeMap<u64, u64>,
}

fn configuration(membership: &RaftMembership) -> Configuration {
    let configs = membership.get_joint_config();
    Configuration {
        nodes: membership
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect(),
        voters: configs.last().cloned().unwrap_or_default(),
        joint: configs.len() > 1,
    }
}

impl Group {
    pub fn configuration(&self) -> Configuration {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        configuration(metrics.membership_config.membership())
    }

    /// Waits until the configuration is as wanted; false when the group has
    /// stopped on this member.
    pub async fn wait_configuration(&self, wanted: impl Fn(&Configuration) -> bool) -> bool {
        let mut metrics = self.raft.server_metrics();
        loop {
            let now = configuration(metrics.borrow_and_update().membership_config.membership());
            if wanted(&now) {
                return true;
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    }

    /// The leader's view of everyone's log; `None` on others.
    pub fn progress(&self) -> Option<Progress> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?;
        Some(Progress {
            last_index: metrics.last_log_index.unwrap_or(0),
            matched: matched
                .iter()
                .map(|(id, matched)| (*id, matched.as_ref().map_or(0, |id| id.index)))
                .collect(),
        })
    }

    /// Takes one step as the leader; returns when it is committed, or with the
    /// reason why it is not known to be.
    pub async fn change_configuration(&self, change: ConfigurationChange) -> Result<(), String> {
        let change = match change {
            ConfigurationChange::Finish => ChangeMembers::AddVoterIds(BTreeSet::new()),
            ConfigurationChange::AddLearners(nodes) => ChangeMembers::AddNodes(nodes),
            ConfigurationChange::Move(nodes) => ChangeMembers::SetNodes(nodes),
            ConfigurationChange::Voters(voters) => ChangeMembers::ReplaceAllVoters(voters),
            ConfigurationChange::Remove(learners) => ChangeMembers::RemoveNodes(learners),
        };
        const LEAVE_AS_LEARNERS: bool = true;
        self.raft
            .change_membership(change, LEAVE_AS_LEARNERS)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// The connection to `member`, if it is one.
    pub fn channel(&self, member: u64) -> io::Result<PeerChannel> {
        let metrics = self.raft.server_metrics();
        let node = metrics
            .borrow_watched()
            .membership_config
            .membership()
            .get_node(&member)
            .cloned();
        let node = node.ok_or_else(|| io::Error::other(format!("{member:x} is not a member")))?;
        self.peers.channel(member, &node)
    }

    /// Tells where members are now.
    pub fn set_addresses(&self, addresses: BTreeMap<u64, Vec<String>>) {
        self.peers.retain(|id| addresses.contains_key(&id));
        self.peers.set_addresses(addresses);
    }
}
