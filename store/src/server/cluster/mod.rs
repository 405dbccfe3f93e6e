//! Who the members are and who leads: the members' rows, changes of them, Raft's
//! membership made to follow, contact with the others, and leadership moved.

pub mod contact;
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

use super::model::published::SharedPublished;
use crate::{raft::Group, workers};
use contact::LeaderContact;
use handover::Handover;
use liveness::Liveness;
use reconcile::Reconciler;

/// This member among the others.
pub struct Cluster<E: Engine> {
    pub liveness: Arc<Liveness>,
    pub contact: LeaderContact,
    pub handover: Arc<Handover<E>>,
}

impl<E: Engine> Cluster<E> {
    /// Starts pinging the others, reconciling, and looking at the log's disk.
    /// `limit`: how long a client waits.
    pub fn start(
        group: &Arc<Group>,
        published: &SharedPublished<E>,
        applied: watch::Receiver<u64>,
        limit: Duration,
    ) -> Self {
        let liveness = Liveness::start(group.clone());
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
        let (group, published) = (group.clone(), published.clone());
        let handover = Handover::start(group, published, liveness.clone(), limit);
        Self {
            liveness,
            contact,
            handover,
        }
    }
}
