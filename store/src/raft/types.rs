//! The types openraft is instantiated with. Nothing outside this module names
//! openraft.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use openraft::{EntryPayload, Membership, impls::leader_id_std};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Payload,
        R = (),
        NodeId = u64,
        Node = PeerNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = super::runtime::OwnedTasks,
);

pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type RaftLogId = openraft::alias::LogIdOf<TypeConfig>;
pub type RaftVote = openraft::alias::VoteOf<TypeConfig>;
pub type RaftMembership = Membership<u64, PeerNode>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// A proposal as the log keeps it. Opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Where a member is reached by its peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    pub peer_urls: Vec<String>,
    /// What one of the first members is called; empty for later ones, whose
    /// name is not known when they are added.
    #[serde(default)]
    pub name: String,
}

/// Position in the log: entries of one term and index are the same entry on
/// every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    pub term: u64,
    pub index: u64,
}

impl From<RaftLogId> for LogId {
    fn from(id: RaftLogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogId> for RaftLogId {
    fn from(id: LogId) -> Self {
        openraft::LogId {
            leader_id: id.term.into(),
            index: id.index,
        }
    }
}

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Bytes that are not an entry or a vote of ours.
#[derive(Debug, thiserror::Error)]
#[error("undecodable {what} in the raft log")]
pub struct DecodeError {
    what: &'static str,
}

#[derive(Serialize, Deserialize)]
struct MembershipRepr {
    configs: Vec<std::collections::BTreeSet<u64>>,
    nodes: BTreeMap<u64, PeerNode>,
}

pub fn encode_membership(membership: &RaftMembership) -> Bytes {
    let repr = MembershipRepr {
        configs: membership.get_joint_config().clone(),
        nodes: membership
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect(),
    };
    serde_json::to_vec(&repr)
        .expect("maps of strings encode")
        .into()
}

pub fn decode_membership(bytes: &[u8]) -> Result<RaftMembership, DecodeError> {
    let wrong = DecodeError { what: "membership" };
    let Ok(repr) = serde_json::from_slice::<MembershipRepr>(bytes) else {
        return Err(wrong);
    };
    Membership::new(repr.configs, repr.nodes).map_err(|_| wrong)
}

/// Term and index, as the log names its entries.
impl From<(u64, u64)> for LogId {
    fn from((term, index): (u64, u64)) -> Self {
        Self { term, index }
    }
}

impl From<LogId> for (u64, u64) {
    fn from(id: LogId) -> Self {
        (id.term, id.index)
    }
}

/// The log's form of an entry: its kind, then its content.
pub fn encode_payload(payload: &EntryPayload<Payload, u64, PeerNode>) -> Bytes {
    let (kind, content) = match payload {
        EntryPayload::Blank => return Bytes::from_static(&[KIND_BLANK]),
        // A proposal is built with its kind in front, so that nothing is copied here.
        EntryPayload::Normal(Payload(bytes)) => return bytes.clone(),
        EntryPayload::Membership(membership) => (KIND_MEMBERSHIP, encode_membership(membership)),
    };
    let mut bytes = Vec::with_capacity(1 + content.len());
    bytes.push(kind);
    bytes.extend_from_slice(&content);
    bytes.into()
}

pub fn decode_payload(bytes: Bytes) -> Result<EntryPayload<Payload, u64, PeerNode>, DecodeError> {
    match bytes.first() {
        Some(&KIND_BLANK) if bytes.len() == 1 => Ok(EntryPayload::Blank),
        Some(&KIND_NORMAL) => Ok(EntryPayload::Normal(Payload(bytes))),
        Some(&KIND_MEMBERSHIP) => Ok(EntryPayload::Membership(decode_membership(&bytes[1..])?)),
        _ => Err(DecodeError { what: "entry" }),
    }
}

impl Payload {
    /// Wraps a proposal: what is given to [`Payload::content`]'s reader.
    pub fn new(len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(1 + len);
        bytes.push(KIND_NORMAL);
        write(&mut bytes);
        Self(bytes.into())
    }

    /// A payload received from a peer, if it is one. In memory of its own: it
    /// stays in the log's tail, and would keep the whole buffer that was
    /// received, which is many times as large and counted nowhere.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        (bytes.first() == Some(&KIND_NORMAL)).then(|| Self(Bytes::copy_from_slice(bytes)))
    }

    pub fn content(&self) -> Bytes {
        self.0.slice(1..)
    }
}

pub fn entry(log_id: LogId, payload: Bytes) -> Result<Entry, DecodeError> {
    Ok(openraft::Entry {
        log_id: log_id.into(),
        payload: decode_payload(payload)?,
    })
}

/// Fixed 17 bytes: term, node id (both big-endian), committed.
pub fn encode_vote(vote: &RaftVote) -> Bytes {
    let mut bytes = Vec::with_capacity(17);
    bytes.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    bytes.extend_from_slice(&vote.leader_id.voted_for.to_be_bytes());
    bytes.push(u8::from(vote.committed));
    bytes.into()
}

pub fn decode_vote(bytes: &[u8]) -> Result<RaftVote, DecodeError> {
    let wrong = DecodeError { what: "vote" };
    let Ok(bytes) = <&[u8; 17]>::try_from(bytes) else {
        return Err(wrong);
    };
    let (term, rest) = bytes.split_first_chunk::<8>().expect("17 bytes hold 8");
    let (node_id, rest) = rest.split_first_chunk::<8>().expect("9 bytes hold 8");
    let committed = match rest {
        [0] => false,
        [1] => true,
        _ => return Err(wrong),
    };
    Ok(vote(
        u64::from_be_bytes(*term),
        u64::from_be_bytes(*node_id),
        committed,
    ))
}

pub fn vote(term: u64, node_id: u64, committed: bool) -> RaftVote {
    openraft::Vote {
        leader_id: leader_id_std::LeaderId {
            term,
            voted_for: node_id,
        },
        committed,
    }
}
