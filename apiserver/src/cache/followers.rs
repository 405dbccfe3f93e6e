//! Who is woken when a cache shows something new. Knows wakers; must not know
//! what there is to see.
//!
//! A follower keeps its place, and its waker stays there: to be woken costs it
//! no new registration. Places are woken in their order. Those of one
//! connection are mostly taken one after the other, so its task then finds what
//! all of them have to send.
//!
//! A follower may be for one value of the field by which objects are indexed, as
//! a kubelet is for the pods of its node: then it is woken by changes of that
//! value alone, and finds their numbers here, however many others there are.

use std::{
    collections::{HashMap, VecDeque},
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
    places: Mutex<Places>,
}

/// As many as there are followers.
#[derive(Default)]
struct Places {
    /// Of all changes.
    all: Slab<Option<Waker>>,
    /// Of those of a value.
    of: HashMap<Arc<str>, Values>,
    /// Values with changes that their followers were not told of.
    touched: Vec<Arc<str>>,
}

/// The changes of a value that somebody follows.
struct Values {
    places: Slab<Option<Waker>>,
    /// The numbers of its changes, oldest first.
    numbers: VecDeque<u64>,
    /// All of its changes from this number on are known.
    floor: u64,
    touched: bool,
}

impl Followers {
    /// Takes a place, to which everything is news at first.
    pub fn join(self: &Arc<Self>) -> Place {
        let index = self.places.lock().all.insert(None);
        self.place(None, index)
    }

    /// The same for one value; `changes` gives the numbers of all its changes
    /// from a first one on, if nobody has followed it.
    pub fn join_value(
        self: &Arc<Self>,
        value: &str,
        changes: impl FnOnce() -> (u64, VecDeque<u64>),
    ) -> Place {
        let mut places = self.places.lock();
        let known = places
            .of
            .get_key_value(value)
            .map(|(value, _)| value.clone());
        let value = known.unwrap_or_else(|| value.into());
        let values = places.of.entry(value.clone()).or_insert_with(|| {
            let (floor, numbers) = changes();
            Values {
                places: Slab::new(),
                numbers,
                floor,
                touched: false,
            }
        });
        let index = values.places.insert(None);
        drop(places);
        self.place(Some(value), index)
    }

    fn place(self: &Arc<Self>, value: Option<Arc<str>>, index: usize) -> Place {
        Place {
            followers: self.clone(),
            value,
            index,
            waker: None,
            seen: None,
        }
    }

    /// Notes a change of some values.
    pub fn changed<'a>(&self, number: u64, values: impl Iterator<Item = &'a str>) {
        let mut places = self.places.lock();
        let Places { of, touched, .. } = &mut *places;
        if of.is_empty() {
            return;
        }
        for value in values {
            let Some((name, _)) = of.get_key_value(value) else {
                continue;
            };
            let name = name.clone();
            let Some(values) = of.get_mut(&name) else {
                continue;
            };
            if values.numbers.back() != Some(&number) {
                values.numbers.push_back(number);
            }
            if !std::mem::replace(&mut values.touched, true) {
                touched.push(name);
            }
        }
    }

    /// Forgets a change of some values, the oldest one.
    pub fn forgotten<'a>(&self, number: u64, values: impl Iterator<Item = &'a str>) {
        let mut places = self.places.lock();
        for value in values {
            if let Some(values) = places.of.get_mut(value)
                && values.numbers.front() == Some(&number)
            {
                values.numbers.pop_front();
                values.floor = number + 1;
            }
        }
    }

    /// Forgets all changes: what is known begins with this number.
    pub fn begin_anew(&self, number: u64) {
        let mut places = self.places.lock();
        let Places { of, touched, .. } = &mut *places;
        touched.clear();
        for (value, values) in of {
            values.numbers.clear();
            values.floor = number;
            values.touched = true;
            touched.push(value.clone());
        }
    }

    /// The numbers of the changes of a value from `from` on, at most `most`, and
    /// whether there are more; `None` when they are not all known.
    pub fn numbers(&self, value: &str, from: u64, most: usize) -> Option<(Vec<u64>, bool)> {
        let places = self.places.lock();
        let values = places.of.get(value)?;
        if from < values.floor {
            return None;
        }
        let skipped = values.numbers.partition_point(|number| *number < from);
        let rest = values.numbers.range(skipped..);
        let more = rest.len() > most;
        Some((rest.take(most).copied().collect(), more))
    }

    /// Tells followers that there is something new: those of single values, if
    /// it is of theirs.
    pub fn wake(&self) {
        // Before they are woken: who is not woken yet sees the count.
        self.news.fetch_add(1, Ordering::Release);
        let mut places = self.places.lock();
        let Places { all, of, touched } = &mut *places;
        for (_, waker) in all.iter() {
            if let Some(waker) = waker {
                waker.wake_by_ref();
            }
        }
        for value in touched.drain(..) {
            let Some(values) = of.get_mut(&value) else {
                continue;
            };
            values.touched = false;
            for (_, waker) in values.places.iter() {
                if let Some(waker) = waker {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

/// A follower's place.
pub struct Place {
    followers: Arc<Followers>,
    /// What it follows; `None`: everything.
    value: Option<Arc<str>>,
    index: usize,
    /// What is registered.
    waker: Option<Waker>,
    /// The news that were seen.
    seen: Option<u64>,
}

impl Place {
    /// The value that it follows, if it is only one.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

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
        let own = match &self.value {
            None => Some(&mut places.all),
            Some(value) => places.of.get_mut(value).map(|values| &mut values.places),
        };
        let old = own
            .and_then(|own| own.get_mut(self.index))
            .and_then(|place| std::mem::replace(place, waker));
        // The last waker of a task ends it, and with it other places.
        drop(places);
        drop(old);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.followers.places.lock();
        let mut last = None;
        let old = match &self.value {
            None => places.all.try_remove(self.index),
            Some(value) => {
                let values = places.of.get_mut(value);
                let old = values.and_then(|values| values.places.try_remove(self.index));
                if places
                    .of
                    .get(value)
                    .is_some_and(|values| values.places.is_empty())
                {
                    last = places.of.remove(value);
                }
                old
            }
        };
        drop(places);
        drop((old, last));
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
        assert!(followers.places.lock().all.is_empty());
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

    #[test]
    fn a_follower_of_a_value_is_woken_by_its_changes_alone() {
        let followers = Arc::new(Followers::default());
        let count = Arc::new(Count::default());
        let woken = || count.0.load(Ordering::Relaxed);
        let mut place = followers.join_value("a", || (5, VecDeque::from([6])));
        assert!(place.register(&Waker::from(count.clone())));
        followers.changed(7, ["b"].into_iter());
        followers.wake();
        assert_eq!(woken(), 0);
        followers.changed(8, ["b", "a"].into_iter());
        followers.wake();
        assert_eq!(woken(), 1);
        assert_eq!(followers.numbers("a", 4, 9), None, "not all are known");
        assert_eq!(followers.numbers("a", 5, 9), Some((vec![6, 8], false)));
        assert_eq!(followers.numbers("a", 5, 1), Some((vec![6], true)));
        followers.forgotten(6, ["a"].into_iter());
        assert_eq!(followers.numbers("a", 6, 9), None);
        assert_eq!(followers.numbers("a", 7, 9), Some((vec![8], false)));
        followers.begin_anew(20);
        followers.wake();
        assert_eq!(woken(), 2, "it is told that nothing is left");
        assert_eq!(followers.numbers("a", 9, 9), None);
        let other = followers.join_value("a", || unreachable!("it is followed"));
        drop(place);
        assert_eq!(followers.numbers("a", 20, 9), Some((vec![], false)));
        drop(other);
        assert!(followers.places.lock().of.is_empty());
    }
}
