//! What happened from a revision on, read from the log: for watches that ask
//! for the past.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    error::{Error, Stop, answered},
    event::{Event, EventKind},
    kv,
    rows::{
        Revision,
        log::{self, Change, LogRow},
        required,
    },
    state::State,
    view::{Family, View, ViewError},
};

/// Whether a reader of history takes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    No,
    Event,
    /// With the key-value before it.
    WithPrevious,
}

/// Who reads history, and how much of it at once.
pub trait Interest {
    /// Is asked for every change, in order. Its row takes `bytes`.
    fn wants(&mut self, key: &[u8], revision: i64, bytes: usize) -> Wanted;

    /// Is told of each key-value from before a wanted change, after all changes
    /// were asked for, in order again.
    fn previous(&mut self, revision: i64, bytes: usize);

    /// Whether the revision that was named last has not outgrown what one may
    /// take.
    fn fits(&self) -> bool;

    /// Whether to stop before the next revision. Is asked before each revision
    /// but the first.
    fn full(&self) -> bool;
}

/// A piece of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The wanted changes of each revision that has any; never a part of a
    /// revision.
    pub revisions: Vec<(i64, Vec<Event>)>,
    /// The first revision that was not looked at.
    pub next: i64,
    /// There was no room for revision `next`.
    pub too_large: bool,
}

/// Reads the log from revision `from` on until `interest` is full or there is
/// no more. Refuses revisions below the compaction floor; at the floor
/// everything is told, but nothing of what was before it.
pub fn history<V: View + ?Sized>(
    state: &State,
    view: &V,
    from: i64,
    interest: &mut dyn Interest,
) -> Result<Result<History, Error>, ViewError> {
    answered(run(state, view, from, interest))
}

/// A change, and where to look for what was before it.
struct Found {
    own: Revision,
    event: Event,
    previous: Option<Revision>,
}

fn run<V: View + ?Sized>(
    state: &State,
    view: &V,
    from: i64,
    interest: &mut dyn Interest,
) -> Result<History, Stop> {
    if from < state.compact_revision {
        return Err(Error::Compacted.into());
    }
    let mut found = Vec::new();
    let mut next = state.revision.saturating_add(1).max(from);
    let mut too_large = false;
    let mut failure = None;
    let mut current = from;
    let first = log::encode_key(Revision::new(from.max(0), 0));
    view.scan(Family::Log, &first, None, &mut |key, row| {
        let own = match required(log::decode_key(key), "log") {
            Ok(own) => own,
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        };
        if own.main > current {
            if interest.full() {
                next = own.main;
                return ControlFlow::Break(());
            }
            current = own.main;
        }
        match look(state, own, row, interest) {
            Ok(change) => {
                found.extend(change);
                if interest.fits() {
                    return ControlFlow::Continue(());
                }
                next = own.main;
                too_large = true;
                ControlFlow::Break(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    if too_large {
        found.retain(|change: &Found| change.own.main < next);
    }
    if let Some(end) = read_previous(view, &mut found, interest)? {
        next = end.next;
        too_large = end.too_large;
        found.retain(|change| change.own.main < next);
    }
    let mut revisions: Vec<(i64, Vec<Event>)> = Vec::new();
    for Found { own, event, .. } in found {
        match revisions.last_mut() {
            Some((main, events)) if *main == own.main => events.push(event),
            _ => revisions.push((own.main, vec![event])),
        }
    }
    Ok(History {
        revisions,
        next,
        too_large,
    })
}

/// Where reading what was before the changes has ended early.
struct End {
    next: i64,
    too_large: bool,
}

/// Changes whose key-values before them are read together: a key-value may be
/// as large as a request.
const PREVIOUS_PAGE: usize = 16;

/// Finds what was before the changes, in order, until `interest` has enough.
fn read_previous<V: View + ?Sized>(
    view: &V,
    found: &mut [Found],
    interest: &mut dyn Interest,
) -> Result<Option<End>, ViewError> {
    if found.iter().all(|change| change.previous.is_none()) {
        return Ok(None);
    }
    let mut current = found.first().map_or(0, |change| change.own.main);
    for page in found.chunks_mut(PREVIOUS_PAGE) {
        fill_previous(view, page)?;
        for change in page {
            let main = change.own.main;
            if main > current && interest.full() {
                return Ok(Some(End {
                    next: main,
                    too_large: false,
                }));
            }
            current = main;
            let Some(prev) = &change.event.prev else {
                continue;
            };
            interest.previous(main, prev.len());
            if !interest.fits() {
                return Ok(Some(End {
                    next: main,
                    too_large: true,
                }));
            }
        }
    }
    Ok(None)
}

fn look(
    state: &State,
    own: Revision,
    row: &[u8],
    interest: &mut dyn Interest,
) -> Result<Option<Found>, ViewError> {
    let version = required(LogRow::decode(own, row), "log")?;
    let wanted = interest.wants(version.key, own.main, row.len());
    if wanted == Wanted::No {
        return Ok(None);
    }
    let creation = required(version.is_creation(), "log")?;
    let previous = version
        .links
        .previous
        .filter(|_| wanted == Wanted::WithPrevious && !creation)
        // What was before the floor cannot be read.
        .filter(|_| own.main > state.compact_revision);
    let row = Bytes::copy_from_slice(row);
    let version = required(LogRow::decode(own, &row), "log")?;
    let (kind, kv) = match version.change {
        Change::Put { rest } => (EventKind::Put, row.slice_ref(rest)),
        Change::Delete => (EventKind::Delete, kv::deletion(own.main)),
    };
    let event = Event {
        kind,
        key: row.slice_ref(version.key),
        kv,
        prev: None,
        mod_revision: own.main,
    };
    Ok(Some(Found {
        own,
        event,
        previous,
    }))
}

/// Finds for each change the version that lived before its revision.
fn fill_previous<V: View + ?Sized>(view: &V, found: &mut [Found]) -> Result<(), ViewError> {
    // A key may have changed twice in one revision: then it takes more steps.
    loop {
        let mut waiting: Vec<&mut Found> = found
            .iter_mut()
            .filter(|change| change.previous.is_some())
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let keys: Vec<[u8; log::KEY_LEN]> = waiting
            .iter()
            .filter_map(|change| change.previous.map(log::encode_key))
            .collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let rows = view.multi_get(Family::Log, &keys)?;
        for (change, row) in waiting.iter_mut().zip(rows) {
            let Some(at) = change.previous.take() else {
                continue;
            };
            let row = required(row, "log")?;
            let version = required(LogRow::decode(at, &row), "log")?;
            if at.main == change.own.main {
                change.previous = version.links.previous;
            } else if let Change::Put { rest } = version.change {
                change.event.prev = Some(row.slice_ref(rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Limits, Unbounded,
        apply::apply,
        command::{Command, Compaction, DeleteRange, Operation, Put, Txn},
        overlay::Overlay,
    };

    struct Nothing;

    impl View for Nothing {
        fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, ViewError> {
            Ok(None)
        }

        fn scan(
            &self,
            _: Family,
            _: &[u8],
            _: Option<&[u8]>,
            _: crate::view::Visit<'_>,
        ) -> Result<(), ViewError> {
            Ok(())
        }
    }

    struct All {
        revisions: usize,
        seen: Vec<i64>,
    }

    impl Interest for All {
        fn wants(&mut self, _: &[u8], revision: i64, _: usize) -> Wanted {
            if self.seen.last() != Some(&revision) {
                self.seen.push(revision);
            }
            Wanted::WithPrevious
        }

        fn previous(&mut self, _: i64, _: usize) {}

        fn fits(&self) -> bool {
            true
        }

        fn full(&self) -> bool {
            self.seen.len() >= self.revisions
        }
    }

    fn put(key: &'static str, value: &'static str) -> Put {
        Put {
            key: key.into(),
            value: value.into(),
            ..Put::default()
        }
    }

    /// Revisions and the events of each.
    type Told = Vec<(i64, Vec<Event>)>;

    /// Commands applied to empty rows, with the events they made.
    fn play(commands: &[Command]) -> (State, Overlay<'static, Nothing>, Told) {
        let mut overlay = Overlay::new(&Nothing);
        let mut state = State::load(&Nothing).expect("an empty view can be read");
        let mut told = Vec::new();
        for command in commands {
            command.check(&Limits::APPLY).expect("a valid command");
            let outcome = apply(&mut state, &mut overlay, command, Some(&Unbounded))
                .expect("rows can be read");
            if !outcome.events.is_empty() {
                told.push((state.revision, outcome.events));
            }
        }
        (state, overlay, told)
    }

    fn story() -> Vec<Command> {
        let delete = |key: &'static str, end: &'static str| DeleteRange {
            key: key.into(),
            range_end: end.into(),
            ..DeleteRange::default()
        };
        vec![
            Command::Put(put("a", "1")),
            Command::Put(put("b", "1")),
            Command::Put(put("a", "2")),
            Command::Txn(Txn {
                success: vec![
                    Operation::Put(put("a", "3")),
                    Operation::Put(put("c", "1")),
                    Operation::Put(put("d", "1")),
                ],
                ..Txn::default()
            }),
            Command::DeleteRange(delete("a", "c")),
            Command::Put(put("a", "4")),
            Command::Put(put("a", "5")),
        ]
    }

    #[test]
    fn the_log_tells_what_applying_told() {
        let (state, overlay, told) = play(&story());
        for from in 0..=state.revision + 1 {
            for revisions in 1..5 {
                let mut next = from;
                let mut seen = Vec::new();
                while next <= state.revision {
                    let mut interest = All {
                        revisions,
                        seen: Vec::new(),
                    };
                    let page = history(&state, &overlay, next, &mut interest)
                        .expect("rows can be read")
                        .expect("nothing was compacted");
                    assert!(page.next > next, "each page goes on");
                    assert!(page.revisions.len() <= revisions);
                    next = page.next;
                    seen.extend(page.revisions);
                }
                let expected: Vec<_> = told
                    .iter()
                    .filter(|(revision, _)| *revision >= from)
                    .cloned()
                    .collect();
                assert_eq!(seen, expected, "from {from}, {revisions} revisions a page");
            }
        }
    }

    #[test]
    fn nothing_is_told_of_what_was_compacted() {
        let mut commands = story();
        commands.push(Command::Compact(Compaction { revision: 5 }));
        let (state, overlay, told) = play(&commands);
        let mut interest = All {
            revisions: 100,
            seen: Vec::new(),
        };
        let refused = history(&state, &overlay, 4, &mut interest).expect("rows can be read");
        assert_eq!(refused, Err(Error::Compacted));
        let page = history(&state, &overlay, 5, &mut interest)
            .expect("rows can be read")
            .expect("the floor itself can be read");
        let mut expected: Vec<_> = told
            .into_iter()
            .filter(|(revision, _)| *revision >= 5)
            .collect();
        for event in &mut expected[0].1 {
            event.prev = None;
        }
        assert_eq!(page.revisions, expected);
    }

    /// Takes everything; of one revision so many bytes fit.
    struct Fitting {
        limit: usize,
        revision: i64,
        bytes: usize,
    }

    impl Fitting {
        fn count(&mut self, revision: i64, bytes: usize) {
            if self.revision != revision {
                (self.revision, self.bytes) = (revision, 0);
            }
            self.bytes += bytes;
        }
    }

    impl Interest for Fitting {
        fn wants(&mut self, _: &[u8], revision: i64, bytes: usize) -> Wanted {
            self.count(revision, bytes);
            Wanted::WithPrevious
        }

        fn previous(&mut self, revision: i64, bytes: usize) {
            self.count(revision, bytes);
        }

        fn fits(&self) -> bool {
            self.bytes <= self.limit
        }

        fn full(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_page_ends_before_the_revision_that_does_not_fit() {
        let large = || vec![7; 2_000].into();
        let value = |key: &'static str, value| {
            Command::Put(Put {
                key: key.into(),
                value,
                ..Put::default()
            })
        };
        let (state, overlay, told) = play(&[
            Command::Put(put("a", "1")),
            Command::Put(put("a", "2")),
            Command::Put(put("b", "1")),
            value("b", large()),
            // Small, but what was before it is not.
            Command::Put(put("b", "2")),
        ]);
        let page = |from| {
            let mut interest = Fitting {
                limit: 1_000,
                revision: 0,
                bytes: 0,
            };
            history(&state, &overlay, from, &mut interest)
                .expect("rows can be read")
                .expect("nothing was compacted")
        };
        for (from, large) in [(2, 5), (4, 5), (5, 5), (6, 6)] {
            let page = page(from);
            assert_eq!((page.next, page.too_large), (large, true), "from {from}");
            let before = told
                .iter()
                .filter(|(revision, _)| (from..large).contains(revision));
            assert_eq!(page.revisions, before.cloned().collect::<Vec<_>>());
        }
    }
}
