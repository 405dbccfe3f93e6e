//! Catching up: lagging watches are told of the revisions they lack, page by page,
//! until they are live.
//!
//! A step takes a page, from the newest revisions if they reach back that far
//! and from the rows otherwise, and queues it for the stream's lagging watches.
//! The last few revisions are told under the index's lock, so that the watch
//! is live from exactly the next one on.

use std::{collections::BTreeSet, sync::Arc};

use mizzen_core::{Interest, Wanted};
use mizzen_planted::{bug, sometimes};

use super::{
    event::Revision,
    hub::{Hub, PastError},
    index::DeferredWakes,
    spans::Spans,
    stream::{Changes, Lagging, MESSAGE_BYTES, Message, Picked, State, Stream},
};

/// Matches looked at under the index's lock, at most.
const JOIN_WORK: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The stream stays marked as catching up; the step is to be repeated.
    More,
    /// Its watches are live, or it must be read from first.
    Done,
}

/// A lagging watch and its place in the index.
type Behind = (usize, Lagging);

pub fn step(hub: &Hub, stream: &Arc<Stream>) -> Result<Step, String> {
    let step = read(hub, stream)?;
    if step == Step::Done {
        hub.release(stream);
    }
    Ok(step)
}

fn read(hub: &Hub, stream: &Arc<Stream>) -> Result<Step, String> {
    let (_, floor) = hub.past.now();
    let behind: Vec<Behind> = {
        let mut state = stream.state.lock();
        if state.bytes() >= hub.stream_bytes() || state.lagging.is_empty() {
            state.catching_up = false;
            return Ok(Step::Done);
        }
        let lagging = state.lagging.iter();
        lagging.map(|(place, lag)| (*place, lag.clone())).collect()
    };
    let (compacted, behind): (Vec<Behind>, Vec<Behind>) =
        behind.into_iter().partition(|(_, lag)| lag.next < floor);
    sometimes!("watch-below-the-floor", !compacted.is_empty());
    sometimes!(
        "watch-from-the-floor",
        behind.iter().any(|(_, lag)| lag.next == floor)
    );
    for (place, _) in compacted {
        hub.end_lagging(stream, place, |id| Message::Compacted { id, floor });
    }
    if behind.is_empty() {
        return Ok(finish(hub, stream));
    }
    let mut reader = Reader::new(hub, &behind, floor);
    if join(hub, stream, &reader) {
        return Ok(finish(hub, stream));
    }
    let (page, next) = match reader.page(hub) {
        Ok(Page::Read(page, next)) => (page, next),
        Ok(Page::TooLarge(revision)) => {
            end_concerned(hub, stream, &reader, revision)?;
            return Ok(Step::More);
        }
        // Compacted meanwhile: the next step finds out which watches.
        Err(PastError::Compacted) => return Ok(Step::More),
        Err(PastError::Failed(error)) => return Err(error),
    };
    let mut after = DeferredWakes::default();
    {
        let mut state = stream.state.lock();
        for revision in &page {
            reader.tell(&mut state, revision);
        }
        for (place, lag) in &behind {
            if let Some(lag) = same(&mut state, *place, lag) {
                lag.next = lag.next.max(next);
            }
        }
        after.wake(&mut state);
    }
    hub.settle(after);
    Ok(Step::More)
}

/// The watch that was lagging at `place`, if it still is.
fn same<'s>(state: &'s mut State, place: usize, lag: &Lagging) -> Option<&'s mut Lagging> {
    state
        .lagging
        .get_mut(&place)
        .filter(|now| Arc::ptr_eq(&now.watch, &lag.watch))
}

/// Ends the catching up, unless a watch began to lag meanwhile.
fn finish(hub: &Hub, stream: &Arc<Stream>) -> Step {
    let mut after = DeferredWakes::default();
    let step = {
        let mut index = hub.index.lock();
        let mut state = stream.state.lock();
        let step = if state.lagging.is_empty() {
            state.catching_up = false;
            Step::Done
        } else {
            Step::More
        };
        drop(state);
        index.report_progress(&mut after);
        step
    };
    hub.settle(after);
    step
}

/// Makes the watches live if all are near enough to the present.
fn join(hub: &Hub, stream: &Arc<Stream>, reader: &Reader<'_>) -> bool {
    let behind = reader.behind;
    let mut after = DeferredWakes::default();
    {
        let mut index = hub.index.lock();
        let live_from = index.dispatched + 1;
        let missing = usize::try_from(live_from - reader.from).unwrap_or(0);
        if missing > (JOIN_WORK / behind.len()).max(1) {
            return false;
        }
        let news = if missing == 0 {
            Vec::new()
        } else {
            match hub.ring.lock().from(reader.from, missing) {
                Some(news) => news,
                None => return false,
            }
        };
        sometimes!("watch-joins-at-once", missing == 0);
        sometimes!("watch-joins-from-the-ring", missing > 0);
        let mut state = stream.state.lock();
        let gap = bug!("watch-gap", 0 => 1);
        let again = bug!("watch-repeats", None => news.last());
        for revision in news.iter().skip(gap).chain(again) {
            reader.tell(&mut state, &reader.kept(revision.clone()));
        }
        for (place, lag) in behind {
            if same(&mut state, *place, lag).is_some() {
                state.lagging.remove(place);
                let from = lag.next.max(live_from);
                let from =
                    bug!("watch-stalls", from => if place % 3 == 2 { i64::MAX } else { from });
                index.go_live(*place, from);
            }
        }
        after.wake(&mut state);
    }
    hub.settle(after);
    true
}

/// Ends the watches that would have to be told of a revision that is too large.
fn end_concerned(
    hub: &Hub,
    stream: &Arc<Stream>,
    reader: &Reader<'_>,
    revision: i64,
) -> Result<(), String> {
    let mut concerned = Concerned {
        reader,
        revision,
        numbers: BTreeSet::new(),
    };
    match hub.past.read(revision, &mut concerned) {
        // Compacted meanwhile: the next step finds out which watches.
        Ok(_) | Err(PastError::Compacted) => {}
        Err(PastError::Failed(error)) => return Err(error),
    }
    for number in concerned.numbers {
        let (place, _) = reader.behind[number];
        hub.end_lagging(stream, place, |id| Message::TooLarge { id, revision });
    }
    Ok(())
}

/// Finds the watches that one revision concerns.
struct Concerned<'r, 'b> {
    reader: &'r Reader<'b>,
    revision: i64,
    numbers: BTreeSet<usize>,
}

impl Interest for Concerned<'_, '_> {
    fn wants(&mut self, key: &[u8], revision: i64, _: usize) -> Wanted {
        if revision == self.revision {
            self.reader.spans.of(key, |numbers| {
                let lacking = |number: &&usize| self.reader.behind[**number].1.next <= revision;
                self.numbers.extend(numbers.iter().filter(lacking));
            });
        }
        Wanted::No
    }

    fn previous(&mut self, _: i64, _: usize) {}

    fn fits(&self) -> bool {
        true
    }

    fn full(&self) -> bool {
        true
    }
}

enum Page {
    /// Revisions, and the first that is not among them.
    Read(Vec<Arc<Revision>>, i64),
    /// The next revision does not fit.
    TooLarge(i64),
}

/// Reads a page for some watches.
struct Reader<'b> {
    behind: &'b [Behind],
    /// Numbers of the watches of each span.
    spans: Spans<Vec<usize>>,
    from: i64,
    floor: i64,
    rows: usize,
    bytes: usize,
    rows_limit: usize,
    bytes_limit: usize,
    /// The revision that is looked at, its bytes, and how many it may have.
    revision: i64,
    revision_bytes: usize,
    revision_limit: usize,
}

impl<'b> Reader<'b> {
    fn new(hub: &Hub, behind: &'b [Behind], floor: i64) -> Self {
        let mut spans: Spans<Vec<usize>> = Spans::new();
        for (number, (_, lag)) in behind.iter().enumerate() {
            match spans.get_mut(&lag.span) {
                Some(numbers) => numbers.push(number),
                None => spans.insert(lag.span.clone(), vec![number]),
            }
        }
        Self {
            behind,
            spans,
            from: behind.iter().map(|(_, lag)| lag.next).min().unwrap_or(0),
            floor,
            rows: 0,
            bytes: 0,
            rows_limit: hub.bounds.page_rows,
            bytes_limit: hub.bounds.page_bytes.min(hub.stream_bytes()),
            revision: 0,
            revision_bytes: 0,
            revision_limit: hub.revision_bytes(),
        }
    }

    fn count(&mut self, revision: i64, bytes: usize) {
        if revision != self.revision {
            self.revision = revision;
            self.revision_bytes = 0;
        }
        self.revision_bytes += bytes;
        self.bytes += bytes;
    }

    /// Revisions from the first that any of the watches lacks.
    fn page(&mut self, hub: &Hub) -> Result<Page, PastError> {
        let newest = hub.ring.lock().from(self.from, self.rows_limit);
        if let Some(revisions) = newest.filter(|revisions| !revisions.is_empty()) {
            let mut page = Vec::new();
            let mut next = self.from;
            for revision in revisions {
                if !page.is_empty() && self.full() {
                    break;
                }
                for change in &revision.changes {
                    // A revision in the ring costs no more than a reference.
                    self.wants(change.key(), revision.number, 0);
                }
                next = revision.number + 1;
                page.push(self.kept(revision));
            }
            return Ok(Page::Read(page, next));
        }
        let history = hub.past.read(self.from, self)?;
        if history.too_large && history.revisions.is_empty() {
            return Ok(Page::TooLarge(history.next));
        }
        let page = history
            .revisions
            .into_iter()
            .map(|(number, events)| Arc::new(Revision::new(number, events)))
            .collect();
        Ok(Page::Read(page, history.next))
    }

    /// A revision of the ring as the rows tell it: what was before the floor is
    /// compacted, so that all members give the same previous key-values.
    fn kept(&self, revision: Arc<Revision>) -> Arc<Revision> {
        if revision.number > self.floor {
            return revision;
        }
        Arc::new(revision.without_previous())
    }

    /// Queues a revision for the watches that lack it.
    fn tell(&self, state: &mut State, revision: &Arc<Revision>) {
        // Which watch, and which change.
        let mut hits: Vec<(usize, usize)> = Vec::new();
        for (place, change) in revision.changes.iter().enumerate() {
            self.spans.of(change.key(), |numbers| {
                hits.extend(numbers.iter().map(|number| (*number, place)));
            });
        }
        hits.sort_unstable();
        for hits in hits.chunk_by(|a, b| a.0 == b.0) {
            let Some((place, lag)) = hits.first().map(|(number, _)| &self.behind[*number]) else {
                continue;
            };
            if revision.number < lag.next || same(state, *place, lag).is_none() {
                continue;
            }
            let picked = if hits.len() == revision.changes.len() {
                Picked::All
            } else {
                Picked::Some(hits.iter().map(|(_, place)| *place).collect())
            };
            if let Some(changes) = Changes::new(&lag.watch, revision, &picked) {
                state.tell_changes(changes);
            }
        }
    }
}

impl Interest for Reader<'_> {
    fn wants(&mut self, key: &[u8], revision: i64, bytes: usize) -> Wanted {
        self.rows += 1;
        let mut wanted = Wanted::No;
        let mut cost = 0;
        self.spans.of(key, |numbers| {
            for number in numbers {
                let (_, lag) = &self.behind[*number];
                if revision < lag.next {
                    continue;
                }
                cost += MESSAGE_BYTES;
                wanted = if lag.watch.prev_kv || wanted == Wanted::WithPrevious {
                    Wanted::WithPrevious
                } else {
                    Wanted::Event
                };
            }
        });
        if cost > 0 {
            self.count(revision, cost + bytes);
        }
        wanted
    }

    fn previous(&mut self, revision: i64, bytes: usize) {
        self.count(revision, bytes);
    }

    fn fits(&self) -> bool {
        self.revision_bytes <= self.revision_limit
    }

    fn full(&self) -> bool {
        self.rows >= self.rows_limit || self.bytes >= self.bytes_limit
    }
}
