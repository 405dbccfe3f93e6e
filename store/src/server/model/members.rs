//! Who is a member as clients see it: replicated rows, changed by commands.
//!
//! These rows are what the cluster ought to be; the Raft group's membership
//! follows them (by the reconciler). So a member can be added that is
//! not up yet, as in etcd, without counting towards a majority it cannot serve.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use bytes::Bytes;
use mizzen_core::{Family, Overlay, View, ViewError};
use mizzen_planted::bug;
use serde::{Deserialize, Serialize};

use crate::raft::PeerNode;

/// First byte of this module's keys in the Meta family; the second tells the
/// kind of row.
const OWNER: u8 = 0x03;
const CLUSTER: [u8; 2] = [OWNER, b'c'];
const LEVEL: [u8; 2] = [OWNER, b'l'];
const MEMBER: u8 = b'm';
const REMOVED: u8 = b'r';

/// One member as clients are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    /// Empty until the member has started.
    pub name: String,
    /// Sorted.
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// As clients see it: a voter that has not caught up is none.
    pub learner: bool,
}

impl Member {
    /// Has told the cluster who it is, at least once.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// What a member says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub member: u64,
    pub name: String,
    pub client_urls: Vec<String>,
}

/// A command that changes who is a member, or what is known of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Add {
        id: u64,
        peer_urls: Vec<String>,
        learner: bool,
        /// Learners there may be, this one included; the proposer's setting,
        /// so that all members decide alike.
        learners_max: usize,
    },
    Remove {
        id: u64,
    },
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    Promote {
        id: u64,
    },
    Announce(Attributes),
    /// All other members are lost for good.
    Alone {
        id: u64,
        peer_urls: Vec<String>,
    },
    /// All members can use the features of this level from here on.
    Level(u32),
}

impl Change {
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("strings and numbers encode")
            .into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// Why a change is refused. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("etcdserver: member ID already exist")]
    IdExists,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// Also of an id that was removed: ids are never used again.
    #[error("etcdserver: member not found")]
    NotFound,
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
}

/// All of this module's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// `None` before the log's first membership is applied.
    cluster_id: Option<u64>,
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    level: u32,
}

impl Members {
    pub fn load<V: View + ?Sized>(view: &V) -> Result<Self, ViewError> {
        let mut members = Self::default();
        let mut damaged = None;
        view.scan(
            Family::Meta,
            &[OWNER],
            Some(&[OWNER + 1]),
            &mut |key, row| match members.read(key, row) {
                Some(()) => ControlFlow::Continue(()),
                None => {
                    damaged = Some(key.to_vec());
                    ControlFlow::Break(())
                }
            },
        )?;
        match damaged {
            None => Ok(members),
            Some(key) => Err(ViewError::Failed(format!(
                "the row {key:02x?} of the members is damaged"
            ))),
        }
    }

    fn read(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        match (*key.get(1)?, key.get(2..)?) {
            (b'c', []) => self.cluster_id = Some(u64::from_be_bytes(row.try_into().ok()?)),
            (b'l', []) => self.level = u32::from_be_bytes(row.try_into().ok()?),
            (MEMBER, id) => {
                let id = u64::from_be_bytes(id.try_into().ok()?);
                let member: Member = serde_json::from_slice(row).ok()?;
                self.members
                    .insert(id, (member.id == id).then_some(member)?);
            }
            (REMOVED, id) => {
                self.removed.insert(u64::from_be_bytes(id.try_into().ok()?));
            }
            _ => return None,
        }
        Some(())
    }

    pub fn cluster_id(&self) -> Option<u64> {
        self.cluster_id
    }

    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// By id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.learner)
    }

    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// Features of this level and below may be used. 0 before the members have
    /// agreed.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Makes the rows of a new cluster from the log's first membership.
    pub fn begin<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        cluster_id: u64,
        nodes: BTreeMap<u64, PeerNode>,
    ) {
        self.cluster_id = Some(cluster_id);
        overlay.put(
            Family::Meta,
            Bytes::from_static(&CLUSTER),
            Bytes::copy_from_slice(&cluster_id.to_be_bytes()),
        );
        for (id, node) in nodes {
            self.put(
                overlay,
                Member {
                    id,
                    name: node.name,
                    peer_urls: node.peer_urls,
                    client_urls: Vec::new(),
                    learner: false,
                },
            );
        }
    }

    /// Applies a committed change, or refuses it and changes nothing.
    pub fn apply<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        change: &Change,
    ) -> Result<(), Refusal> {
        match change {
            Change::Add {
                id,
                peer_urls,
                learner,
                learners_max,
            } => {
                self.check_new(*id, peer_urls)?;
                bug!("member-id-reused" => if self.removed.remove(id) { overlay.delete(Family::Meta, key(REMOVED, *id)) });
                let learners = self.iter().filter(|member| member.learner).count();
                if *learner && learners >= *learners_max {
                    return Err(Refusal::TooManyLearners);
                }
                self.put(
                    overlay,
                    Member {
                        id: *id,
                        peer_urls: peer_urls.clone(),
                        learner: *learner,
                        ..Member::default()
                    },
                );
            }
            Change::Remove { id } => {
                self.get(*id).ok_or(Refusal::NotFound)?;
                self.remove(overlay, *id);
            }
            Change::Update { id, peer_urls } => {
                let member = self.get(*id).ok_or(Refusal::NotFound)?;
                let member = Member {
                    peer_urls: peer_urls.clone(),
                    ..member.clone()
                };
                self.check_urls(Some(*id), peer_urls)?;
                self.put(overlay, member);
            }
            Change::Promote { id } => {
                let member = self.get(*id).ok_or(Refusal::NotFound)?;
                if !member.learner {
                    return Err(Refusal::NotLearner);
                }
                let member = Member {
                    learner: false,
                    ..member.clone()
                };
                self.put(overlay, member);
            }
            Change::Announce(said) => {
                let member = self.get(said.member).ok_or(Refusal::NotFound)?;
                let member = Member {
                    name: said.name.clone(),
                    client_urls: said.client_urls.clone(),
                    ..member.clone()
                };
                self.put(overlay, member);
            }
            Change::Alone { id, peer_urls } => {
                let others = self.iter().map(|member| member.id);
                let others: Vec<u64> = others.filter(|other| other != id).collect();
                for other in others {
                    self.remove(overlay, other);
                }
                self.removed.remove(id);
                overlay.delete(Family::Meta, key(REMOVED, *id));
                let own = Member {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                    learner: false,
                    ..self.get(*id).cloned().unwrap_or_default()
                };
                self.put(overlay, own);
            }
            // Levels only rise: what was written under one stays readable.
            Change::Level(level) if *level > self.level => {
                self.level = *level;
                overlay.put(
                    Family::Meta,
                    Bytes::from_static(&LEVEL),
                    Bytes::copy_from_slice(&level.to_be_bytes()),
                );
            }
            Change::Level(_) => {}
        }
        Ok(())
    }

    fn check_new(&self, id: u64, peer_urls: &[String]) -> Result<(), Refusal> {
        if bug!("member-id-reused", self.removed.contains(&id) => false) {
            return Err(Refusal::NotFound);
        }
        if self.members.contains_key(&id) {
            return Err(Refusal::IdExists);
        }
        self.check_urls(None, peer_urls)
    }

    fn check_urls(&self, of: Option<u64>, peer_urls: &[String]) -> Result<(), Refusal> {
        let taken = self
            .iter()
            .filter(|member| Some(member.id) != of)
            .flat_map(|member| &member.peer_urls)
            .any(|url| peer_urls.contains(url));
        if taken {
            Err(Refusal::PeerUrlExists)
        } else {
            Ok(())
        }
    }

    fn remove<V: View + ?Sized>(&mut self, overlay: &mut Overlay<'_, V>, id: u64) {
        self.members.remove(&id);
        self.removed.insert(id);
        overlay.delete(Family::Meta, key(MEMBER, id));
        overlay.put(Family::Meta, key(REMOVED, id), Bytes::new());
    }

    fn put<V: View + ?Sized>(&mut self, overlay: &mut Overlay<'_, V>, member: Member) {
        let row = serde_json::to_vec(&member).expect("strings and numbers encode");
        overlay.put(Family::Meta, key(MEMBER, member.id), row.into());
        self.members.insert(member.id, member);
    }
}

fn key(kind: u8, member: u64) -> Bytes {
    let mut key = vec![OWNER, kind];
    key.extend_from_slice(&member.to_be_bytes());
    key.into()
}

#[cfg(test)]
mod tests {
    use mizzen_engine::Engine;
    use mizzen_sim::MemEngine;

    use super::*;

    const URL: [&str; 4] = ["http://a:1", "http://b:1", "http://c:1", "http://d:1"];

    fn urls(index: usize) -> Vec<String> {
        vec![URL[index].to_owned()]
    }

    fn add(id: u64, url: usize, learner: bool) -> Change {
        Change::Add {
            id,
            peer_urls: urls(url),
            learner,
            learners_max: 1,
        }
    }

    /// Applies the changes one by one, each to the rows the one before left,
    /// and holds the memory's form against the rows'.
    fn replay(changes: &[(Change, Result<(), Refusal>)]) -> Members {
        let engine = MemEngine::default();
        let nodes = (1..=2).map(|id| {
            let node = PeerNode {
                peer_urls: urls(usize::try_from(id - 1).unwrap()),
                name: format!("m{id}"),
            };
            (id, node)
        });
        let snapshot = engine.snapshot();
        let mut overlay = Overlay::new(&snapshot);
        let mut members = Members::default();
        members.begin(&mut overlay, 7, nodes.collect());
        engine.write(&overlay.into_batch()).unwrap();
        for (change, expected) in changes {
            let snapshot = engine.snapshot();
            let mut overlay = Overlay::new(&snapshot);
            let decoded = Change::decode(&change.encode()).unwrap();
            assert_eq!(&decoded, change);
            assert_eq!(members.apply(&mut overlay, change), *expected, "{change:?}");
            engine.write(&overlay.into_batch()).unwrap();
            assert_eq!(Members::load(&engine.snapshot()).unwrap(), members);
        }
        members
    }

    #[test]
    fn a_removed_id_never_returns() {
        let members = replay(&[
            (Change::Remove { id: 2 }, Ok(())),
            (Change::Remove { id: 2 }, Err(Refusal::NotFound)),
            (add(2, 1, false), Err(Refusal::NotFound)),
            (add(3, 1, false), Ok(())),
        ]);
        assert!(members.is_removed(2) && members.get(2).is_none());
        assert_eq!(members.cluster_id(), Some(7));
    }

    #[test]
    fn who_goes_on_alone_keeps_its_name_and_removes_the_others() {
        let alone = Change::Alone {
            id: 1,
            peer_urls: urls(3),
        };
        let members = replay(&[
            (add(3, 2, true), Ok(())),
            (alone.clone(), Ok(())),
            (alone, Ok(())),
            (add(2, 1, false), Err(Refusal::NotFound)),
            (add(4, 1, false), Ok(())),
        ]);
        assert_eq!(members.removed().collect::<Vec<_>>(), [2, 3]);
        let one = members.get(1).unwrap();
        assert_eq!((one.name.as_str(), &one.peer_urls), ("m1", &urls(3)));
    }

    #[test]
    fn addresses_and_ids_are_unique() {
        replay(&[
            (add(1, 2, false), Err(Refusal::IdExists)),
            (add(3, 0, false), Err(Refusal::PeerUrlExists)),
            (
                Change::Update {
                    id: 1,
                    peer_urls: urls(1),
                },
                Err(Refusal::PeerUrlExists),
            ),
            (
                Change::Update {
                    id: 1,
                    peer_urls: urls(0),
                },
                Ok(()),
            ),
            (
                Change::Update {
                    id: 9,
                    peer_urls: urls(3),
                },
                Err(Refusal::NotFound),
            ),
        ]);
    }

    #[test]
    fn learners_are_counted_and_promoted_once() {
        let members = replay(&[
            (add(3, 2, true), Ok(())),
            (add(4, 3, true), Err(Refusal::TooManyLearners)),
            (add(4, 3, false), Ok(())),
            (Change::Promote { id: 3 }, Ok(())),
            (Change::Promote { id: 3 }, Err(Refusal::NotLearner)),
            (Change::Promote { id: 9 }, Err(Refusal::NotFound)),
        ]);
        assert_eq!(members.voters().count(), 4);
    }

    #[test]
    fn what_a_member_says_of_itself_leaves_the_rest() {
        let members = replay(&[
            (add(3, 2, true), Ok(())),
            (
                Change::Announce(Attributes {
                    member: 3,
                    name: "three".to_owned(),
                    client_urls: urls(3),
                }),
                Ok(()),
            ),
            (
                Change::Announce(Attributes {
                    member: 9,
                    name: "nine".to_owned(),
                    client_urls: urls(3),
                }),
                Err(Refusal::NotFound),
            ),
            (Change::Level(2), Ok(())),
            (Change::Level(1), Ok(())),
        ]);
        let three = members.get(3).unwrap();
        assert!(three.learner && three.is_started());
        assert_eq!(three.peer_urls, urls(2));
        assert_eq!(members.level(), 2);
    }
}
