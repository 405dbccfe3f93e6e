//! Which members this one is in touch with, and since when. Every member asks
//! every other one at short intervals; the same answer says whether the asking
//! member still is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future;
use mizzen_proto::peer::{PingRequest, PingResponse, membership_client::MembershipClient};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{limits, raft::Group, server::propose::space::Space, workers};

/// A member that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The first of the pings that were all answered.
    pub since: Instant,
    /// The newest ping that was answered.
    heard: Instant,
    /// The highest level of features it can use.
    pub level: u32,
}

/// What became of a ping.
#[derive(Clone, Debug)]
enum Ping {
    Answered(PingResponse),
    /// No answer in time, which a busy machine can do too.
    Late,
    /// Nobody is there.
    Failed,
}

#[derive(Default)]
pub struct Liveness {
    contacts: Mutex<BTreeMap<u64, Contact>>,
    changed: watch::Sender<()>,
    /// Somebody asks who was not there in the last round.
    knocked: Notify,
    removed: watch::Sender<bool>,
    cut_off: watch::Sender<Option<Instant>>,
}

impl Liveness {
    /// Starts pinging the others; `space` is told what they say of their disks.
    pub fn start(group: Arc<Group>, space: Arc<Space>) -> Arc<Self> {
        let liveness = Arc::new(Self::default());
        workers::spawn("liveness", watch_peers(group, liveness.clone(), space));
        liveness
    }

    /// Another member has asked whether this one is there, so it is there itself: if
    /// that is news, it is asked at once.
    pub fn heard_from(&self, member: u64) {
        if !self.contacts.lock().contains_key(&member) {
            self.knocked.notify_one();
        }
    }

    /// Changes of who is there, and of what they can use.
    pub fn watch_contacts(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn contact(&self, member: u64) -> Option<Contact> {
        self.contacts.lock().get(&member).copied()
    }

    /// Whether another member has said that this one was removed.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    /// Since when this member has reached too few others for any of them to
    /// lead; `None` while there are enough.
    pub fn cut_off_since(&self) -> Option<Instant> {
        *self.cut_off.borrow()
    }

    /// [`Liveness::cut_off_since`], to be waited for.
    pub fn watch_cut_off(&self) -> watch::Receiver<Option<Instant>> {
        self.cut_off.subscribe()
    }

    fn count(&self, sent: Instant, own: u64, voters: &BTreeSet<u64>) {
        let contacts = self.contacts.lock();
        let heard = |id: u64| {
            contacts
                .get(&id)
                .is_some_and(|contact| contact.heard >= sent)
        };
        let reached = |id: &&u64| **id == own || heard(**id);
        let enough = 2 * voters.iter().filter(reached).count() > voters.len();
        self.cut_off.send_if_modified(|since| {
            let now = match enough || voters.is_empty() {
                true => None,
                false => Some(since.unwrap_or(sent)),
            };
            std::mem::replace(since, now) != now
        });
    }

    /// Gives whether the disk of a member that answers is nearly full.
    fn record(&self, sent: Instant, pings: &BTreeMap<u64, Ping>) -> bool {
        let mut answers = pings.values().filter_map(|ping| match ping {
            Ping::Answered(answer) => Some(answer),
            Ping::Late | Ping::Failed => None,
        });
        if answers.clone().any(|answer| answer.removed) {
            self.removed.send_replace(true);
        }
        let low = answers.any(|answer| answer.low_on_space);
        let mut contacts = self.contacts.lock();
        let before = std::mem::take(&mut *contacts);
        let now = pings
            .iter()
            .filter_map(|(id, ping)| {
                let before = before.get(id);
                let contact = match ping {
                    Ping::Answered(answer) => Contact {
                        since: before.map_or(sent, |contact| contact.since),
                        heard: sent,
                        level: answer.level,
                    },
                    Ping::Late => *before.filter(|contact| {
                        sent.duration_since(contact.heard) < limits::PEER_SILENCE
                    })?,
                    Ping::Failed => return None,
                };
                Some((*id, contact))
            })
            .collect();
        tell(&before, &now);
        let levels = |contacts: &BTreeMap<u64, Contact>| -> Vec<(u64, u32)> {
            let all = contacts.iter();
            all.map(|(id, contact)| (*id, contact.level)).collect()
        };
        if levels(&before) != levels(&now) {
            self.changed.send_replace(());
        }
        *contacts = now;
        low
    }
}

/// Says whose contact begins or ends, once.
fn tell(before: &BTreeMap<u64, Contact>, now: &BTreeMap<u64, Contact>) {
    for id in before.keys().filter(|id| !now.contains_key(id)) {
        tracing::warn!(member = %format_args!("{id:x}"), "lost touch with a member");
    }
    for id in now.keys().filter(|id| !before.contains_key(id)) {
        tracing::info!(member = %format_args!("{id:x}"), "in touch with a member");
    }
}

async fn watch_peers(group: Arc<Group>, liveness: Arc<Liveness>, space: Arc<Space>) {
    loop {
        let sent = Instant::now();
        let configuration = group.configuration();
        let nodes: BTreeSet<u64> = configuration.nodes.into_keys().collect();
        let group = &group;
        let others = nodes.iter().filter(|id| **id != group.id());
        let pings = others.map(async |id| (*id, ping(group, *id).await));
        let pings: BTreeMap<u64, Ping> = future::join_all(pings).await.into_iter().collect();
        // Before it has begun, a member does not know whom it misses.
        let all = in_touch(&pings) && !nodes.is_empty();
        space.see_others(liveness.record(sent, &pings));
        liveness.count(sent, group.id(), &configuration.voters);
        // Since when a member is there decides over changes of the membership:
        // that it has come is to be known soon.
        let pause = match all {
            true => limits::PING_INTERVAL,
            false => limits::PING_INTERVAL_MISSING,
        };
        let least = tokio::time::sleep_until(sent + limits::PING_INTERVAL_LEAST);
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(sent + pause) => {}
            () = liveness.knocked.notified() => least.await,
            true = group.wait_configuration(|now| !now.nodes.keys().eq(&nodes)) => least.await,
        }
    }
}

/// Whether nobody is missing.
fn in_touch(pings: &BTreeMap<u64, Ping>) -> bool {
    !pings.values().any(|ping| matches!(ping, Ping::Failed))
}

async fn ping(group: &Group, member: u64) -> Ping {
    const LIMIT: Duration = Duration::from_secs(1);
    let Ok(channel) = group.channel(member) else {
        return Ping::Failed;
    };
    let mut client = MembershipClient::new(channel);
    let sent = Instant::now();
    let answer = client.ping(PingRequest { from: group.id() });
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(Ok(answer)) => {
            group.traffic().of(member).round_trip(sent.elapsed());
            Ping::Answered(answer.into_inner())
        }
        Ok(Err(_)) => Ping::Failed,
        Err(_) => Ping::Late,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const A: u64 = 2;
    const B: u64 = 3;

    fn answer(level: u32) -> Ping {
        Ping::Answered(PingResponse {
            removed: false,
            level,
            low_on_space: false,
        })
    }

    #[test]
    fn a_member_is_cut_off_from_the_first_round_in_which_it_reaches_too_few() {
        let liveness = Liveness::default();
        let start = Instant::now();
        let own = 1;
        let voters = BTreeSet::from([own, A, B]);
        let round = |seconds, a, b| {
            let sent = start + Duration::from_secs(seconds);
            liveness.record(sent, &BTreeMap::from([(A, a), (B, b)]));
            liveness.count(sent, own, &voters);
            liveness.cut_off_since().map(|since| since - start)
        };
        assert_eq!(round(0, answer(1), Ping::Failed), None);
        let since = Some(Duration::from_secs(1));
        assert_eq!(round(1, Ping::Late, Ping::Failed), since);
        assert_eq!(round(2, Ping::Late, Ping::Late), since);
        assert_eq!(round(3, Ping::Late, answer(1)), None);
        liveness.count(start, own, &BTreeSet::new());
        assert_eq!(liveness.cut_off_since(), None);
    }

    #[test]
    fn a_member_that_is_not_there_starts_the_contact_anew() {
        let liveness = Liveness::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let round = |sent, a, b| liveness.record(sent, &BTreeMap::from([(A, a), (B, b)]));
        let since = |member| liveness.contact(member).map(|contact| contact.since);
        round(at(0), answer(1), Ping::Failed);
        round(at(1), answer(1), answer(2));
        assert_eq!((since(A), since(B)), (Some(at(0)), Some(at(1))));
        assert_eq!(liveness.contact(B).map(|contact| contact.level), Some(2));
        round(at(2), Ping::Failed, answer(2));
        assert_eq!(since(A), None);
        round(at(3), answer(1), answer(2));
        assert_eq!((since(A), since(B)), (Some(at(3)), Some(at(1))));
        assert!(!*liveness.removed().borrow());
    }

    #[test]
    fn who_comes_and_goes_and_knocks_is_told() {
        let liveness = Liveness::default();
        let mut changed = liveness.watch_contacts();
        let start = Instant::now();
        let mut round = |a, told| {
            liveness.record(start, &BTreeMap::from([(A, a)]));
            assert_eq!(changed.has_changed().expect("it is there"), told);
            changed.mark_unchanged();
        };
        round(Ping::Failed, false);
        round(answer(1), true);
        round(answer(1), false);
        round(answer(2), true);
        let knocked = || liveness.knocked.notified().now_or_never().is_some();
        liveness.heard_from(A);
        assert!(!knocked());
        liveness.heard_from(B);
        assert!(knocked());
        round(Ping::Failed, true);
        liveness.heard_from(A);
        assert!(knocked());
    }

    #[test]
    fn a_late_answer_does_not_and_a_long_silence_does() {
        let liveness = Liveness::default();
        let start = Instant::now();
        let round = |sent, ping| liveness.record(sent, &BTreeMap::from([(A, ping)]));
        let since = || liveness.contact(A).map(|contact| contact.since);
        round(start, Ping::Late);
        assert_eq!(since(), None);
        round(start, answer(1));
        let almost = limits::PEER_SILENCE - Duration::from_millis(1);
        round(start + almost, Ping::Late);
        assert_eq!(since(), Some(start));
        round(start + almost, answer(1));
        round(start + almost + limits::PEER_SILENCE, Ping::Late);
        assert_eq!(since(), None);
    }
}
