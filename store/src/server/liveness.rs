//! Which members this one is in touch with, and since when. Every member asks
//! every other one at short intervals; the same answer says whether the asking
//! member still is one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future;
use mizzen_proto::peer::{PingRequest, PingResponse, membership_client::MembershipClient};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::{limits, raft::Group};

/// A member that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The first of the pings that were all answered.
    pub since: Instant,
    /// The highest level of features it can use.
    pub level: u32,
}

pub struct Liveness {
    contacts: Mutex<BTreeMap<u64, Contact>>,
    removed: watch::Sender<bool>,
    low_on_space: AtomicBool,
}

impl Liveness {
    pub fn start(group: Arc<Group>) -> Arc<Self> {
        let liveness = Arc::new(Self {
            contacts: Mutex::default(),
            removed: watch::channel(false).0,
            low_on_space: AtomicBool::new(false),
        });
        tokio::spawn(watch_peers(group, liveness.clone()));
        liveness
    }

    pub fn contact(&self, member: u64) -> Option<Contact> {
        self.contacts.lock().get(&member).copied()
    }

    /// Whether the disk of a member that answers is nearly full.
    pub fn low_on_space(&self) -> bool {
        self.low_on_space.load(Ordering::Relaxed)
    }

    /// Whether another member has said that this one was removed.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    fn record(&self, sent: Instant, answers: BTreeMap<u64, Option<PingResponse>>) {
        if answers.values().flatten().any(|answer| answer.removed) {
            self.removed.send_replace(true);
        }
        let low = answers.values().flatten().any(|answer| answer.low_on_space);
        self.low_on_space.store(low, Ordering::Relaxed);
        let mut contacts = self.contacts.lock();
        let before = std::mem::take(&mut *contacts);
        *contacts = answers
            .into_iter()
            .filter_map(|(id, answer)| {
                let answer = answer?;
                let contact = Contact {
                    since: before.get(&id).map_or(sent, |contact| contact.since),
                    level: answer.level,
                };
                Some((id, contact))
            })
            .collect();
    }
}

async fn watch_peers(group: Arc<Group>, liveness: Arc<Liveness>) {
    let mut ticks = tokio::time::interval(limits::PING_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        let others: Vec<u64> = group
            .configuration()
            .nodes
            .into_keys()
            .filter(|id| *id != group.id())
            .collect();
        let group = &group;
        let pings = others
            .into_iter()
            .map(async |id| (id, ping(group, id).await));
        let answers = future::join_all(pings).await.into_iter().collect();
        liveness.record(sent, answers);
    }
}

async fn ping(group: &Group, member: u64) -> Option<PingResponse> {
    const LIMIT: Duration = Duration::from_secs(1);
    let mut client = MembershipClient::new(group.channel(member).ok()?);
    let answer = client.ping(PingRequest { from: group.id() });
    let answer = tokio::time::timeout(LIMIT, answer).await.ok()?;
    Some(answer.ok()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_answer_starts_the_contact_anew() {
        let liveness = Liveness {
            contacts: Mutex::default(),
            removed: watch::channel(false).0,
            low_on_space: AtomicBool::new(false),
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let answer = |level| {
            Some(PingResponse {
                removed: false,
                level,
                low_on_space: false,
            })
        };
        let round = |sent, answers: [(u64, Option<PingResponse>); 2]| {
            liveness.record(sent, answers.into_iter().collect());
        };
        round(at(0), [(2, answer(1)), (3, None)]);
        round(at(1), [(2, answer(1)), (3, answer(2))]);
        assert_eq!(
            liveness.contact(2).map(|contact| contact.since),
            Some(at(0))
        );
        assert_eq!(liveness.contact(3).map(|contact| contact.level), Some(2));
        round(at(2), [(2, None), (3, answer(2))]);
        assert_eq!(liveness.contact(2), None);
        round(at(3), [(2, answer(1)), (3, answer(2))]);
        assert_eq!(
            liveness.contact(2).map(|contact| contact.since),
            Some(at(3))
        );
        assert_eq!(
            liveness.contact(3).map(|contact| contact.since),
            Some(at(1))
        );
        assert!(!*liveness.removed().borrow());
    }
}
