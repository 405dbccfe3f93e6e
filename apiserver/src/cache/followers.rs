//! Who is woken when a cache shows something new. Knows wakers; must not know
//! what there is to see.
//!
//! A follower keeps its place, and its waker stays there: to be woken costs it
//! no new registration. Places are woken in their order. Those of one
//! connection are mostly taken one after the other, so its task then finds what
//! all of them have to send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;
use slab::Slab;

#[derive(Default)]
pub(super) struct Followers {
    /// Counts the news.
    news: AtomicU64,
    /// As many as there are followers.
    places: Mutex<Slab<Option<Waker>>>,
}

impl Followers {
    /// Takes a place, to which everything is news at first.
    pub fn join(self: &Arc<Self>) -> Place {
        Place {
            followers: self.clone(),
            index: self.places.lock().insert(None),
            waker: None,
            seen: None,
        }
    }

    /// Tells all followers that there is something new.
    pub fn wake(&self) {
        // Before they are woken: who is not woken yet sees the count.
        self.news.fetch_add(1, Ordering::Release);
        for (_, waker) in self.places.lock().iter() {
            if let Some(waker) = waker {
                waker.wake_by_ref();
            }
        }
    }
}

/// A follower's place.
pub struct Place {
    followers: Arc<Followers>,
    index: usize,
    /// What is registered.
    waker: Option<Waker>,
    /// The news that were seen.
    seen: Option<u64>,
}

impl Place {
    /// Has `waker` woken by all news from now on. Gives whether it is another
    /// than before.
    pub fn register(&mut self, waker: &Waker) -> bool {
        if self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return false;
        }
        self.waker = Some(waker.clone());
        self.exchange(Some(waker.clone()));
        true
    }

    /// Whether there is something new since the last call. To be asked after
    /// the waker is registered, so that no news come between.
    pub fn has_news(&mut self) -> bool {
        let news = Some(self.followers.news.load(Ordering::Acquire));
        std::mem::replace(&mut self.seen, news) != news
    }

    fn exchange(&self, waker: Option<Waker>) {
        let mut places = self.followers.places.lock();
        let old = places
            .get_mut(self.index)
            .and_then(|place| std::mem::replace(place, waker));
        // The last waker of a task ends it, and with it other places.
        drop(places);
        drop(old);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.followers.places.lock();
        let old = places.try_remove(self.index);
        drop(places);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_follower_is_woken_by_all_news_until_it_leaves() {
        let followers = Arc::new(Followers::default());
        let count = Arc::new(Count::default());
        let woken = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(count.clone());
        let mut place = followers.join();
        assert!(place.register(&waker), "nothing was registered");
        assert!(place.has_news(), "everything is news at first");
        assert!(!place.has_news());
        for turn in 1..=3 {
            followers.wake();
            assert_eq!(woken(), turn);
            assert!(!place.register(&waker), "the waker stays");
            assert!(place.has_news());
            assert!(!place.has_news());
        }
        drop(place);
        followers.wake();
        assert_eq!(woken(), 3, "who left is not woken");
        assert!(followers.places.lock().is_empty());
    }

    #[test]
    fn the_waker_given_last_is_woken() {
        let followers = Arc::new(Followers::default());
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut place = followers.join();
        assert!(place.register(&Waker::from(first.clone())));
        assert!(place.register(&Waker::from(second.clone())));
        followers.wake();
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
    }
}
