//! Every watch of a member, found by key, with the stream it belongs to.

use std::{collections::HashMap, sync::Arc, task::Waker};

use mizzen_planted::{bug, sometimes};
use slab::Slab;

use super::{
    event::Revision,
    spans::{Span, Spans},
    stream::{ALL_WATCHES, Changes, Lagging, Message, Picked, State, Stream, Watch},
};

/// A watch that is not live: nothing it is told of has this revision.
const NOT_LIVE: i64 = i64::MAX;

#[derive(Debug)]
struct Watcher {
    stream: Arc<Stream>,
    watch: Arc<Watch>,
    /// The first revision it is to be told of from here.
    next: i64,
    group: usize,
    /// Place among the group's members.
    slot: usize,
}

/// The watches of one span.
#[derive(Debug)]
struct Group {
    span: Span,
    members: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Index {
    watchers: Slab<Watcher>,
    groups: Slab<Group>,
    spans: Spans<usize>,
    /// Live watches were told of everything up to this revision.
    pub dispatched: i64,
    /// Streams whose progress report waits for `dispatched`.
    pub progress: Vec<Arc<Stream>>,
}

/// Streams to be woken, and streams that fell behind, when the locks are free.
#[derive(Debug, Default)]
pub(super) struct DeferredWakes {
    wakers: Vec<Waker>,
    pub behind: Vec<Arc<Stream>>,
}

impl DeferredWakes {
    pub fn wake(&mut self, state: &mut State) {
        self.wakers.extend(state.waker());
    }

    /// Wakes whoever has something to read; gives the streams for which the
    /// past must be read.
    pub fn settle(self) -> Vec<Arc<Stream>> {
        for waker in self.wakers {
            waker.wake();
        }
        self.behind
    }
}

impl Index {
    pub fn new(dispatched: i64) -> Self {
        Self {
            watchers: Slab::new(),
            groups: Slab::new(),
            spans: Spans::new(),
            dispatched,
            progress: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Adds a watch that is live from `next` on, or not at all yet.
    pub fn add(
        &mut self,
        stream: &Arc<Stream>,
        watch: Arc<Watch>,
        span: &Span,
        next: Option<i64>,
    ) -> usize {
        let group = match self.spans.get_mut(span) {
            Some(group) => *group,
            None => {
                let group = self.groups.insert(Group {
                    span: span.clone(),
                    members: Vec::new(),
                });
                self.spans.insert(span.clone(), group);
                group
            }
        };
        let members = &mut self.groups[group].members;
        let place = self.watchers.insert(Watcher {
            stream: stream.clone(),
            watch,
            next: next.unwrap_or(NOT_LIVE),
            group,
            slot: members.len(),
        });
        members.push(place);
        place
    }

    pub fn remove(&mut self, place: usize) {
        let Some(watcher) = self.watchers.try_remove(place) else {
            return;
        };
        let group = &mut self.groups[watcher.group];
        group.members.swap_remove(watcher.slot);
        if let Some(moved) = group.members.get(watcher.slot) {
            self.watchers[*moved].slot = watcher.slot;
        }
        if group.members.is_empty() {
            self.spans.remove(&group.span);
            self.groups.remove(watcher.group);
        }
    }

    /// What a watch is told of.
    pub fn span(&self, place: usize) -> Option<&Span> {
        let watcher = self.watchers.get(place)?;
        Some(&self.groups.get(watcher.group)?.span)
    }

    /// From now on the watch is told of `next` and what comes after it.
    pub fn go_live(&mut self, place: usize, next: i64) {
        if let Some(watcher) = self.watchers.get_mut(place) {
            watcher.next = next;
        }
    }

    /// Tells live watches of the revision after `dispatched`.
    pub fn dispatch(
        &mut self,
        revision: &Arc<Revision>,
        stream_bytes: usize,
        after: &mut DeferredWakes,
    ) {
        self.dispatched = revision.number;
        match &revision.changes[..] {
            [change] => {
                let mut groups = Vec::new();
                self.spans.of(change.key(), |group| groups.push(*group));
                for group in groups {
                    self.tell_group(group, revision, &Picked::All, stream_bytes, after);
                }
            }
            changes => {
                let mut hits: HashMap<usize, Vec<usize>> = HashMap::new();
                for (place, change) in changes.iter().enumerate() {
                    self.spans.of(change.key(), |group| {
                        hits.entry(*group).or_default().push(place)
                    });
                }
                for (group, places) in hits {
                    let picked = if places.len() == changes.len() {
                        Picked::All
                    } else {
                        Picked::Some(places.into())
                    };
                    self.tell_group(group, revision, &picked, stream_bytes, after);
                }
            }
        }
    }

    fn tell_group(
        &mut self,
        group: usize,
        revision: &Arc<Revision>,
        picked: &Picked,
        stream_bytes: usize,
        after: &mut DeferredWakes,
    ) {
        let Group { span, members } = &self.groups[group];
        for place in members {
            let watcher = &mut self.watchers[*place];
            if bug!("future-watch-told-early", revision.number < watcher.next => watcher.next == NOT_LIVE)
            {
                continue;
            }
            let Some(changes) = Changes::new(&watcher.watch, revision, picked) else {
                continue;
            };
            let mut state = watcher.stream.state.lock();
            if state.bytes() < stream_bytes {
                state.tell_changes(changes);
                after.wake(&mut state);
            } else {
                // The client reads too slowly: it reads the past from now on.
                watcher.next = NOT_LIVE;
                let lagging = Lagging {
                    watch: watcher.watch.clone(),
                    span: span.clone(),
                    next: revision.number,
                };
                state.lagging.insert(*place, lagging);
            }
        }
    }

    /// What comes after `dispatched` cannot be told any more, up to `newest`:
    /// all live watches have to read it.
    pub fn skip_to(&mut self, newest: i64, after: &mut DeferredWakes) {
        let next = self.dispatched + 1;
        self.dispatched = newest;
        for (place, watcher) in &mut self.watchers {
            if watcher.next > newest {
                continue;
            }
            let lagging = Lagging {
                watch: watcher.watch.clone(),
                span: self.groups[watcher.group].span.clone(),
                next: watcher.next.max(next),
            };
            watcher.next = NOT_LIVE;
            let mut state = watcher.stream.state.lock();
            state.lagging.insert(place, lagging);
            after.behind.push(watcher.stream.clone());
        }
    }

    /// Answers the requests for progress that can be answered now.
    pub fn report_progress(&mut self, after: &mut DeferredWakes) {
        let dispatched = self.dispatched;
        self.progress.retain(|stream| {
            sometimes!(
                "progress-waits-for-the-past",
                !stream.state.lock().lagging.is_empty()
            );
            bug!("progress-unanswered" => if Arc::as_ptr(stream).addr() / 64 % 2 == 0 { return true });
            let mut state = stream.state.lock();
            match state.progress_due {
                Some(due) if state.lagging.is_empty() && due <= dispatched => {
                    state.progress_due = None;
                    state.tell(Message::Progress {
                        id: ALL_WATCHES,
                        revision: bug!("early-progress", dispatched => dispatched + 1),
                    });
                    after.wake(&mut state);
                    false
                }
                due => due.is_some() && !state.closed,
            }
        });
    }

    /// The watch at `place`, and whether it is live at `revision`.
    pub fn live(&self, place: usize, revision: i64) -> Option<&Arc<Watch>> {
        self.watchers
            .get(place)
            .filter(|watcher| watcher.next <= revision.saturating_add(1))
            .map(|watcher| &watcher.watch)
    }

    pub fn watch(&self, place: usize) -> Option<&Arc<Watch>> {
        self.watchers.get(place).map(|watcher| &watcher.watch)
    }
}
