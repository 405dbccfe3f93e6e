//! The seats of a server, shared out among priority levels: how many requests are
//! served at once, and who waits where.
//!
//! Knows levels by their names, seats and queues. Must not know requests.
//!
//! A level has some seats that nobody else ever takes, and may take any other that
//! is free, up to its limit. What is in use and what is kept free for those who have
//! a right to it is never more than there is.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::limits;

/// How a level treats who finds no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Excess {
    Reject,
    Queue {
        queues: usize,
        hand: usize,
        length: usize,
    },
}

/// What a level may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Share {
    /// Seats that are its own.
    pub own: usize,
    /// Seats that it has at most.
    pub most: usize,
    pub excess: Excess,
}

struct Level {
    share: Share,
    used: usize,
    queues: Vec<VecDeque<oneshot::Sender<Seat>>>,
    /// The queue whose turn it is.
    turn: usize,
    waiting: usize,
}

struct State {
    total: usize,
    levels: BTreeMap<Arc<str>, Level>,
    /// Of all levels.
    waiting: usize,
}

/// All seats.
#[derive(Clone)]
pub(super) struct Seats(Arc<Mutex<State>>);

/// A seat that is taken, until it is dropped.
pub struct Seat {
    seats: Option<Seats>,
    level: Arc<str>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = self.seats.take() {
            seats.leave(&self.level);
        }
    }
}

impl Seats {
    pub fn new(total: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            total,
            levels: BTreeMap::new(),
            waiting: 0,
        })))
    }

    /// Other levels from now on. Who sits stays; who waits at a level that is gone is
    /// turned away.
    pub fn share(&self, shares: BTreeMap<Arc<str>, Share>) {
        let mut state = self.0.lock();
        let gone: Vec<Arc<str>> = state
            .levels
            .keys()
            .filter(|name| !shares.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(level) = state.levels.get_mut(&name) {
                level.share = Share {
                    own: 0,
                    most: 0,
                    excess: Excess::Reject,
                };
                let waiting = std::mem::take(&mut level.waiting);
                level.queues.clear();
                let empty = level.used == 0;
                state.waiting -= waiting;
                if empty {
                    state.levels.remove(&name);
                }
            }
        }
        for (name, share) in shares {
            state.put(name, share);
        }
        state.call(self);
    }

    /// A seat of a level for a request of a flow, after `patience` at the latest.
    /// `None`: there is none.
    pub async fn take(&self, level: &Arc<str>, flow: u64, patience: Duration) -> Option<Seat> {
        let waited = {
            let mut state = self.0.lock();
            if state.may_enter(level) {
                state.enter(level);
                return Some(self.seat(level));
            }
            state.wait(level, flow)?
        };
        tokio::time::timeout(patience, waited).await.ok()?.ok()
    }

    /// Whether a request would not have to wait.
    #[cfg(test)]
    pub fn has(&self, level: &str) -> bool {
        self.0.lock().may_enter(&level.into())
    }

    fn seat(&self, level: &Arc<str>) -> Seat {
        Seat {
            seats: Some(self.clone()),
            level: level.clone(),
        }
    }

    fn leave(&self, name: &Arc<str>) {
        let mut state = self.0.lock();
        if let Some(level) = state.levels.get_mut(name) {
            level.used -= 1;
            if level.used == 0 && level.share.most == 0 {
                state.levels.remove(name);
            }
        }
        state.call(self);
    }
}

impl State {
    fn put(&mut self, name: Arc<str>, share: Share) {
        let count = match share.excess {
            Excess::Reject => 0,
            Excess::Queue { queues, .. } => queues,
        };
        let level = self.levels.entry(name).or_insert_with(|| Level {
            share: share.clone(),
            used: 0,
            queues: Vec::new(),
            turn: 0,
            waiting: 0,
        });
        level.share = share;
        if level.queues.len() != count {
            let old = std::mem::take(&mut level.queues);
            level.queues.resize_with(count, VecDeque::new);
            let before = level.waiting;
            level.waiting = 0;
            level.turn = 0;
            for (index, waiter) in old.into_iter().flatten().enumerate() {
                // Without queues nobody waits.
                if let Some(queue) = index.checked_rem(count) {
                    level.queues[queue].push_back(waiter);
                    level.waiting += 1;
                }
            }
            self.waiting = self.waiting - before + level.waiting;
        }
    }

    /// Whether there is a seat for one more of a level.
    fn has_seat(&self, level: &Level) -> bool {
        if level.used < level.share.own {
            return true;
        }
        let kept = |level: &Level| level.used.max(level.share.own);
        level.used < level.share.most && self.levels.values().map(kept).sum::<usize>() < self.total
    }

    /// Nobody goes before those who wait.
    fn may_enter(&self, name: &Arc<str>) -> bool {
        let level = self.levels.get(name);
        level.is_some_and(|level| level.waiting == 0 && self.has_seat(level))
    }

    fn enter(&mut self, name: &Arc<str>) {
        if let Some(level) = self.levels.get_mut(name) {
            level.used += 1;
        }
    }

    /// Waits in the shortest of the flow's queues.
    fn wait(&mut self, name: &Arc<str>, flow: u64) -> Option<oneshot::Receiver<Seat>> {
        let level = self.levels.get_mut(name)?;
        let Excess::Queue {
            queues,
            hand,
            length,
        } = level.share.excess
        else {
            return None;
        };
        let hand = deal(flow, queues, hand);
        // Who went away takes no room.
        for index in &hand {
            let queue = &mut level.queues[*index];
            let before = queue.len();
            queue.retain(|waiter| !waiter.is_closed());
            level.waiting -= before - queue.len();
            self.waiting -= before - queue.len();
        }
        let shortest = hand
            .into_iter()
            .min_by_key(|index| level.queues[*index].len())?;
        let queue = &mut level.queues[shortest];
        if queue.len() >= length || self.waiting >= limits::QUEUED_MAX {
            return None;
        }
        let (caller, called) = oneshot::channel();
        queue.push_back(caller);
        level.waiting += 1;
        self.waiting += 1;
        Some(called)
    }

    /// Calls those who wait to the seats that are free, a level at a time and its
    /// queues in turn.
    fn call(&mut self, seats: &Seats) {
        if self.waiting == 0 {
            return;
        }
        loop {
            let free = self.levels.iter().filter(|(_, level)| level.waiting > 0);
            // Those who have the least of what is their own first.
            let next = free
                .filter(|(_, level)| self.has_seat(level))
                .min_by_key(|(_, level)| (level.used >= level.share.own, level.used))
                .map(|(name, _)| name.clone());
            let Some(name) = next else {
                return;
            };
            let Some(level) = self.levels.get_mut(&name) else {
                return;
            };
            let Some(waiter) = level.next() else {
                return;
            };
            level.waiting -= 1;
            self.waiting -= 1;
            level.used += 1;
            if let Err(mut seat) = waiter.send(seats.seat(&name)) {
                // Nobody came; it is not given back through the lock that is held.
                seat.seats = None;
                level.used -= 1;
            }
        }
    }
}

impl Level {
    /// Who waits longest in the queue whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Seat>> {
        for _ in 0..self.queues.len() {
            let queue = self.turn % self.queues.len();
            self.turn = queue + 1;
            if let Some(waiter) = self.queues[queue].pop_front() {
                return Some(waiter);
            }
        }
        None
    }
}

/// As many different queues as a hand holds, the same for a flow each time: two
/// flows seldom have all of them in common.
fn deal(mut flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    for number in 0..hand.min(queues) {
        let left = (queues - number) as u64;
        let mut card = usize::try_from(flow % left).unwrap_or(0);
        flow /= left;
        // The card among those that are left.
        let mut before: Vec<usize> = dealt.clone();
        before.sort_unstable();
        for one in before {
            card += usize::from(one <= card);
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn seats(total: usize, levels: &[(&str, usize, usize, Excess)]) -> Seats {
        let seats = Seats::new(total);
        seats.share(
            levels
                .iter()
                .map(|(name, own, most, excess)| {
                    let share = Share {
                        own: *own,
                        most: *most,
                        excess: *excess,
                    };
                    (Arc::from(*name), share)
                })
                .collect(),
        );
        seats
    }

    fn queue(queues: usize, length: usize) -> Excess {
        Excess::Queue {
            queues,
            hand: 1,
            length,
        }
    }

    #[tokio::test]
    async fn what_is_a_levels_own_is_free_for_it_whatever_others_do() {
        let seats = seats(
            10,
            &[
                ("nodes", 3, 10, Excess::Reject),
                ("rest", 2, 10, Excess::Reject),
            ],
        );
        let (nodes, rest): (Arc<str>, Arc<str>) = ("nodes".into(), "rest".into());
        let mut taken = Vec::new();
        while let Some(seat) = seats.take(&rest, 0, LONG).await {
            taken.push(seat);
        }
        assert_eq!(taken.len(), 7);
        let own = [
            seats.take(&nodes, 0, LONG).await,
            seats.take(&nodes, 0, LONG).await,
            seats.take(&nodes, 0, LONG).await,
        ];
        assert!(own.iter().all(Option::is_some));
        assert!(seats.take(&nodes, 0, LONG).await.is_none());
        drop(taken);
        assert!(seats.take(&nodes, 0, LONG).await.is_some());
    }

    #[tokio::test]
    async fn flows_take_turns_and_long_queues_are_refused() {
        let seats = seats(1, &[("all", 1, 1, queue(8, 3))]);
        let all: Arc<str> = "all".into();
        let first = seats.take(&all, 0, LONG).await.expect("a seat");
        let wait = |flow| {
            let mut state = seats.0.lock();
            state.wait(&all, flow)
        };
        let mut noisy = [wait(1), wait(1), wait(1)].map(|one| one.expect("room"));
        assert!(wait(1).is_none(), "its queue is full");
        let mut quiet = wait(2).expect("room in another queue");
        drop(first);
        let seat = noisy[0].try_recv().expect("its turn");
        assert!(noisy[1].try_recv().is_err() && quiet.try_recv().is_err());
        drop(seat);
        let seat = quiet.try_recv().expect("not after all of the noisy one");
        drop(seat);
        assert!(noisy[1].try_recv().is_ok());
    }

    #[tokio::test]
    async fn who_went_away_takes_neither_room_nor_seat() {
        let seats = seats(1, &[("all", 1, 1, queue(1, 2))]);
        let all: Arc<str> = "all".into();
        let first = seats.take(&all, 0, LONG).await.expect("a seat");
        assert!(seats.take(&all, 0, Duration::ZERO).await.is_none());
        assert!(seats.take(&all, 0, Duration::ZERO).await.is_none());
        let third = seats
            .0
            .lock()
            .wait(&all, 0)
            .expect("those before went away");
        let fourth = seats.0.lock().wait(&all, 0).expect("room for two");
        drop(third);
        drop(first);
        let seat = fourth.await.expect("the seat");
        {
            let state = seats.0.lock();
            let level = &state.levels[&all];
            assert_eq!((level.used, level.waiting, state.waiting), (1, 0, 0));
        }
        // Called, and gone before it came.
        let fifth = seats.0.lock().wait(&all, 0).expect("room");
        drop(seat);
        drop(fifth);
        assert_eq!(seats.0.lock().levels[&all].used, 0);
    }

    #[tokio::test]
    async fn levels_change_while_requests_are_served() {
        let seats = seats(
            4,
            &[("old", 2, 4, queue(2, 9)), ("other", 1, 4, Excess::Reject)],
        );
        let (old, new): (Arc<str>, Arc<str>) = ("old".into(), "new".into());
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(seats.take(&old, 0, LONG).await.expect("a seat"));
        }
        let waiting = seats.0.lock().wait(&old, 0).expect("room");
        let share = Share {
            own: 4,
            most: 4,
            excess: queue(2, 9),
        };
        seats.share(BTreeMap::from([(new.clone(), share)]));
        assert!(waiting.await.is_err(), "its level is gone");
        assert!(seats.take(&old, 0, LONG).await.is_none());
        taken.push(seats.take(&new, 0, LONG).await.expect("a seat"));
        drop(taken);
        let state = seats.0.lock();
        assert_eq!(state.levels.len(), 1);
        assert_eq!((state.levels[&new].used, state.waiting), (0, 0));
    }

    #[test]
    fn a_hand_holds_different_queues() {
        for flow in [0, 1, 77, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mut hand = deal(flow, 64, 6);
            assert_eq!(hand, deal(flow, 64, 6));
            hand.sort_unstable();
            hand.dedup();
            assert!(
                hand.len() == 6 && hand.iter().all(|card| *card < 64),
                "{hand:?}"
            );
        }
        assert_eq!(deal(7, 2, 6).len(), 2);
    }
}
