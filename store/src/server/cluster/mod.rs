//! Who the members are and who leads: the members' rows, changes of them, Raft's
//! membership made to follow, contact with the others, and leadership moved.

pub mod contact;
pub mod corruption;
pub mod force_new;
pub mod handover;
pub mod join;
pub mod liveness;
pub mod peer_service;
pub mod reconcile;
pub mod requests;

use std::{sync::Arc, time::Duration};

use mizzen_engine::Engine;
use tokio::sync::watch;

use super::{
    model::{figures::MemberFigures, members::Member},
    propose::Proposer,
    read::Reads,
};
use crate::workers;
use contact::LeaderContact;
use corruption::Comparison;
use handover::Handover;
use liveness::Liveness;
use reconcile::Reconciler;
use requests::Requests;

/// What the operator wants of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Refuse changes that would endanger the quorum.
    pub strict: bool,
    /// How often a leader compares its rows with those of the others, if at all.
    pub check_rows: Option<Duration>,
}

/// This member among the others.
pub struct Cluster<E: Engine> {
    pub contact: LeaderContact,
    pub comparison: Arc<Comparison<E>>,
    pub handover: Arc<Handover<E>>,
    pub requests: Requests<E>,
}

impl<E: Engine> Cluster<E> {
    /// Starts pinging the others, reconciling, and looking at the log's disk.
    pub fn start(
        reads: &Arc<Reads<E>>,
        proposer: &Arc<Proposer<E>>,
        applied: watch::Receiver<u64>,
        rules: Rules,
    ) -> Self {
        let (group, published) = (&proposer.group, &proposer.published);
        let liveness = Liveness::start(group.clone(), proposer.space.clone());
        let reconciler = Reconciler::<E> {
            group: group.clone(),
            published: published.clone(),
            applied,
            liveness: liveness.clone(),
        };
        workers::spawn("reconciler", reconciler.run());
        let contact = LeaderContact {
            group: group.clone(),
            liveness: liveness.clone(),
        };
        let comparison = Arc::new(Comparison {
            group: group.clone(),
            reads: reads.clone(),
            limit: proposer.limit,
        });
        if let Some(interval) = rules.check_rows {
            let checking =
                corruption::check_at_intervals(comparison.clone(), proposer.clone(), interval);
            workers::spawn("corruption check", checking);
        }
        let handover = Handover::start(
            group.clone(),
            published.clone(),
            liveness.clone(),
            proposer.limit,
        );
        let requests = Requests {
            group: group.clone(),
            published: published.clone(),
            reads: reads.clone(),
            proposer: proposer.clone(),
            liveness,
            cluster_changed: proposer.cluster_changed.clone(),
            strict: rules.strict,
        };
        Self {
            contact,
            comparison,
            handover,
            requests,
        }
    }

    /// All members, as this one sees them.
    pub fn figures(&self) -> Vec<MemberFigures> {
        let group = &self.contact.group;
        let (own, leader) = (group.id(), group.leader());
        let progress = group.progress();
        let seen = |member: Member| {
            let contact = self.contact.liveness.contact(member.id);
            let behind = progress.as_ref().and_then(|progress| {
                let matched = progress.matched.get(&member.id)?;
                Some(progress.last_index.saturating_sub(*matched))
            });
            MemberFigures {
                own: member.id == own,
                leads: leader == Some(member.id),
                up_for: contact.map(|contact| contact.since.elapsed()),
                behind,
                member,
            }
        };
        self.requests.members().into_iter().map(seen).collect()
    }
}
