//! Makes the Raft group's membership what the members' rows say, one safe step
//! at a time. Runs on every member and acts on the leader; whatever a leader
//! left half done, the next one finishes.
//!
//! A voter by the rows becomes one in the group only when it has started and
//! caught up, so that no majority is ever asked of members that cannot give it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mizzen_core::auth::By;
use mizzen_engine::Engine;
use mizzen_planted::sometimes;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::server::{
    cluster::liveness::Liveness,
    model::{
        level,
        members::{Change, Members},
        proposal::{Body, Proposal, RequestId},
        published::SharedPublished,
    },
};
use crate::{
    limits,
    raft::{Configuration, ConfigurationChange, Drain, Group, PeerNode, Progress},
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Change(ConfigurationChange),
    /// This member is to go and leads: another one must lead first.
    HandOver(u64),
}

/// The next step from what is to what ought to be; `None` when there is
/// nothing to do or nothing can be done yet.
fn plan(
    members: &Members,
    configuration: &Configuration,
    progress: &Progress,
    leader: u64,
) -> Option<Step> {
    if configuration.joint {
        return Some(Step::Change(ConfigurationChange::Finish));
    }
    let node = |urls: &[String]| PeerNode {
        peer_urls: urls.to_vec(),
        name: String::new(),
    };
    let missing: BTreeMap<u64, PeerNode> = members
        .iter()
        .filter(|member| !configuration.nodes.contains_key(&member.id))
        .map(|member| (member.id, node(&member.peer_urls)))
        .collect();
    if !missing.is_empty() {
        return Some(Step::Change(ConfigurationChange::AddLearners(missing)));
    }
    let moved: BTreeMap<u64, PeerNode> = members
        .iter()
        .filter(|member| {
            configuration
                .nodes
                .get(&member.id)
                .is_some_and(|node| node.peer_urls != member.peer_urls)
        })
        .map(|member| (member.id, node(&member.peer_urls)))
        .collect();
    if !moved.is_empty() {
        return Some(Step::Change(ConfigurationChange::Move(moved)));
    }
    let voters: BTreeSet<u64> = members
        .voters()
        .filter(|member| {
            configuration.voters.contains(&member.id)
                || member.is_started() && progress.is_in_sync(member.id)
        })
        .map(|member| member.id)
        .collect();
    // The last member cannot be taken out of its group; it stops instead.
    if voters != configuration.voters && !voters.is_empty() {
        if voters.contains(&leader) {
            return Some(Step::Change(ConfigurationChange::Voters(voters)));
        }
        return voters
            .intersection(&configuration.voters)
            .max_by_key(|id| progress.matched.get(id))
            .map(|id| Step::HandOver(*id));
    }
    let gone: BTreeSet<u64> = configuration
        .nodes
        .keys()
        .filter(|id| members.get(**id).is_none() && !configuration.voters.contains(id))
        .copied()
        .collect();
    (!gone.is_empty()).then_some(Step::Change(ConfigurationChange::Remove(gone)))
}

impl Progress {
    /// Near enough to the leader's log to vote without holding it up.
    pub fn is_in_sync(&self, member: u64) -> bool {
        self.matched
            .get(&member)
            .is_some_and(|matched| self.last_index.saturating_sub(*matched) <= limits::IN_SYNC_GAP)
    }
}

pub struct Reconciler<E: Engine> {
    pub group: Arc<Group>,
    pub published: SharedPublished<E>,
    pub applied: watch::Receiver<u64>,
    pub liveness: Arc<Liveness>,
}

impl<E: Engine> Reconciler<E> {
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(limits::RECONCILE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut contacts, mut leader) =
            (self.liveness.watch_contacts(), self.group.watch_leader());
        let mut known = None;
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                Ok(()) = contacts.changed() => {}
                Ok(()) = leader.changed() => {}
            }
            let members = self.published.load().members.clone();
            if known.as_ref() != Some(&members) {
                self.group.set_addresses(
                    members
                        .iter()
                        .map(|member| (member.id, member.peer_urls.clone()))
                        .collect(),
                );
                known = Some(members);
            }
            while self.group.is_leader() && self.advance().await {}
        }
    }

    fn plan(&self) -> Option<Step> {
        let published = self.published.load();
        // Without rows there is nothing the group ought to be.
        published.members.cluster_id()?;
        plan(
            &published.members,
            &self.group.configuration(),
            &self.group.progress()?,
            self.group.id(),
        )
    }

    /// Takes the next step, if there is one; false when it is time to wait.
    async fn advance(&mut self) -> bool {
        const LIMIT: Duration = Duration::from_secs(5);
        if self.plan().is_none() {
            return self.raise_level().await;
        }
        // Rows may be behind the configuration, and then would undo it: catch
        // up with all this leader has before deciding.
        if !self.catch_up(LIMIT).await {
            return false;
        }
        let Some(step) = self.plan() else {
            return true;
        };
        tracing::info!(?step, "changing the raft configuration");
        let taken = match step {
            Step::Change(change) => timeout(LIMIT, self.group.change_configuration(change))
                .await
                .unwrap_or_else(|_| Err("it took too long".to_owned())),
            Step::HandOver(to) => self
                .group
                .transfer(to, Drain::Wait, Instant::now() + LIMIT)
                .await
                .map_err(|error| error.to_string()),
        };
        match taken {
            Ok(()) => {
                sometimes!("configuration-changed");
                true
            }
            Err(reason) => {
                tracing::warn!(%reason, "the raft configuration is not changed yet");
                false
            }
        }
    }

    async fn catch_up(&mut self, limit: Duration) -> bool {
        let caught_up = async {
            let Ok(index) = self.group.read_index().await else {
                return false;
            };
            self.applied
                .wait_for(|applied| *applied >= index)
                .await
                .is_ok()
        };
        timeout(limit, caught_up).await.unwrap_or(false)
    }

    /// Proposes the highest level that every member can use, once all are
    /// heard of. Always false: it is applied later.
    async fn raise_level(&self) -> bool {
        let members = self.published.load().members.clone();
        let levels = members.iter().map(|member| {
            if member.id == self.group.id() {
                Some(level::own())
            } else {
                self.liveness
                    .contact(member.id)
                    .map(|contact| contact.level)
            }
        });
        let lowest = levels.min().flatten();
        if let Some(lowest) = lowest.filter(|lowest| *lowest > members.level()) {
            let payload = Proposal {
                // Nobody waits for it.
                id: RequestId {
                    member: self.group.id(),
                    number: 0,
                },
                by: By::Nobody,
                body: Body::Members(Change::Level(lowest)),
            }
            .encode(level::own());
            tracing::info!(level = lowest, "updating the cluster version");
            self.group.propose(payload).await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a member is by the rows and in the group, and how far it has come.
    #[derive(Clone, Copy)]
    struct Case {
        id: u64,
        row: Option<Row>,
        group: Option<Group>,
        matched: u64,
    }

    #[derive(Clone, Copy)]
    enum Row {
        Voter,
        Unstarted,
        Learner,
    }

    #[derive(Clone, Copy)]
    enum Group {
        Voter,
        Learner,
    }

    fn decide(cases: &[Case], joint: bool) -> Option<Step> {
        let mut overlay_rows = Vec::new();
        let mut configuration = Configuration {
            joint,
            ..Configuration::default()
        };
        let mut progress = Progress {
            last_index: 10_000,
            ..Progress::default()
        };
        for case in cases {
            let url = vec![format!("http://m{}:1", case.id)];
            if let Some(row) = case.row {
                overlay_rows.push((case.id, url.clone(), row));
            }
            if let Some(group) = case.group {
                configuration.nodes.insert(
                    case.id,
                    PeerNode {
                        peer_urls: url,
                        name: String::new(),
                    },
                );
                if matches!(group, Group::Voter) {
                    configuration.voters.insert(case.id);
                }
                progress.matched.insert(case.id, case.matched);
            }
        }
        plan(&members(overlay_rows), &configuration, &progress, 1)
    }

    fn members(rows: Vec<(u64, Vec<String>, Row)>) -> Members {
        use mizzen_engine::Engine as _;
        use mizzen_sim::MemEngine;
        let snapshot = MemEngine::default().snapshot();
        let mut overlay = mizzen_core::Overlay::new(&snapshot);
        let mut members = Members::default();
        members.begin(&mut overlay, 1, BTreeMap::new());
        for (id, peer_urls, row) in rows {
            let add = Change::Add {
                id,
                peer_urls: peer_urls.clone(),
                learner: matches!(row, Row::Learner),
                learners_max: 9,
            };
            members.apply(&mut overlay, &add).expect("it is new");
            if !matches!(row, Row::Unstarted) {
                let said = crate::server::model::members::Attributes {
                    member: id,
                    name: format!("m{id}"),
                    client_urls: peer_urls,
                };
                members
                    .apply(&mut overlay, &Change::Announce(said))
                    .expect("it is there");
            }
        }
        members
    }

    fn case(id: u64, row: Option<Row>, group: Option<Group>, matched: u64) -> Case {
        Case {
            id,
            row,
            group,
            matched,
        }
    }

    fn voters(ids: &[u64]) -> Option<Step> {
        Some(Step::Change(ConfigurationChange::Voters(
            ids.iter().copied().collect(),
        )))
    }

    const UP_TO_DATE: u64 = 10_000;

    fn settled(id: u64) -> Case {
        case(id, Some(Row::Voter), Some(Group::Voter), UP_TO_DATE)
    }

    #[test]
    fn nothing_is_done_where_all_is_as_it_ought_to_be() {
        assert_eq!(decide(&[settled(1), settled(2), settled(3)], false), None);
    }

    #[test]
    fn an_interrupted_change_is_finished_first() {
        let gone = case(2, None, Some(Group::Voter), UP_TO_DATE);
        assert_eq!(
            decide(&[settled(1), gone], true),
            Some(Step::Change(ConfigurationChange::Finish))
        );
    }

    #[test]
    fn a_voter_counts_when_it_has_started_and_caught_up() {
        let new = |row, group, matched| [settled(1), case(2, Some(row), group, matched)];
        assert!(matches!(
            decide(&new(Row::Unstarted, None, 0), false),
            Some(Step::Change(ConfigurationChange::AddLearners(_)))
        ));
        let waits = [
            (Row::Unstarted, 0),
            (Row::Unstarted, UP_TO_DATE),
            (Row::Voter, 0),
            (Row::Learner, UP_TO_DATE),
        ];
        for (row, matched) in waits {
            assert_eq!(
                decide(&new(row, Some(Group::Learner), matched), false),
                None
            );
        }
        assert_eq!(
            decide(&new(Row::Voter, Some(Group::Learner), UP_TO_DATE), false),
            voters(&[1, 2])
        );
    }

    #[test]
    fn a_removed_voter_loses_its_vote_then_its_place() {
        let gone = |group| {
            let gone = case(3, None, Some(group), UP_TO_DATE);
            decide(&[settled(1), settled(2), gone], false)
        };
        assert_eq!(gone(Group::Voter), voters(&[1, 2]));
        assert_eq!(
            gone(Group::Learner),
            Some(Step::Change(ConfigurationChange::Remove([3].into())))
        );
    }

    #[test]
    fn a_leader_that_is_to_go_hands_over_to_the_nearest_voter() {
        let leader = case(1, None, Some(Group::Voter), UP_TO_DATE);
        let behind = case(2, Some(Row::Voter), Some(Group::Voter), 9_000);
        assert_eq!(
            decide(&[leader, behind, settled(3)], false),
            Some(Step::HandOver(3))
        );
        assert_eq!(decide(&[leader], false), None);
    }
}
