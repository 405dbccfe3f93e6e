//! Finding the versions of keys that live at a revision.
//!
//! A row of the head answers by itself if it is old enough; otherwise the
//! chain of the key's versions is followed down the log. A revision below the
//! compaction floor must not be asked for: its rows may be gone.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    kv,
    rows::{
        Revision,
        chain::Chain,
        head::{Body, HeadRow},
        log::{self, Change, LogRow},
        required,
    },
    state::State,
    view::{Family, View, ViewError},
};

/// The keys a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span<'a> {
    Key(&'a [u8]),
    /// `to` is not included; `None` is the end of all keys.
    Keys {
        from: &'a [u8],
        to: Option<&'a [u8]>,
    },
}

impl<'a> Span<'a> {
    /// The wire's way: an empty `range_end` means the key alone, a single zero
    /// byte means every key from `key` on.
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Span::Key(key),
            [0] => Span::Keys {
                from: key,
                to: None,
            },
            _ => Span::Keys {
                from: key,
                to: Some(range_end),
            },
        }
    }
}

/// A version that lives at the revision asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) key: &'a [u8],
    /// Lacks the value if `spilled`.
    rest: &'a [u8],
    spilled: Option<Spilled>,
}

/// Where a value stands that is too long for the head row.
#[derive(Clone, Copy, Debug)]
struct Spilled {
    at: Revision,
    value_len: usize,
}

impl<'a> Live<'a> {
    /// Everything but the value, which may or may not be there.
    pub(crate) fn fields(&self) -> Result<kv::Fields<'a>, ViewError> {
        required(kv::Fields::decode(self.rest), "head")
    }

    /// Bytes of key and version, the value included.
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.rest.len() + self.spilled.map_or(0, |spilled| spilled.value_len)
    }

    /// Enough for any form of a reply without the value.
    pub(crate) fn without_value(&self) -> &'a [u8] {
        self.rest
    }

    /// Calls `use_rest` with the whole of the version.
    pub(crate) fn whole<T, V: View + ?Sized>(
        &self,
        view: &V,
        use_rest: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ViewError> {
        match self.spilled {
            None => Ok(use_rest(self.rest)),
            Some(spilled) => Ok(use_rest(&spilled_rest(view, spilled)?)),
        }
    }
}

fn spilled_rest<V: View + ?Sized>(view: &V, spilled: Spilled) -> Result<Bytes, ViewError> {
    let row = log_row(view, spilled.at)?;
    let rest = put_rest(&row, spilled.at)?;
    let len = kv::Fields::decode(&rest).map(|fields| fields.value.len());
    required(len.filter(|len| *len == spilled.value_len), "log")?;
    Ok(rest)
}

/// The log row of a revision that is known to have one.
fn log_row<V: View + ?Sized>(view: &V, at: Revision) -> Result<Bytes, ViewError> {
    required(view.get(Family::Log, &log::encode_key(at))?, "log")
}

/// What the log row of a put says of its key.
fn put_rest(row: &Bytes, at: Revision) -> Result<Bytes, ViewError> {
    match required(LogRow::decode(at, row), "log")?.change {
        Change::Put { rest } => Ok(row.slice_ref(rest)),
        Change::Delete => required(None, "log"),
    }
}

/// The newest version of one key, alive or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) revision: Revision,
    pub(crate) chain: Chain,
    /// The whole of the version if it is alive.
    pub(crate) rest: Option<Bytes>,
}

/// The newest version of `key`. A deletion that compaction has passed counts as
/// absent: whether its row is still there differs between replicas.
pub(crate) fn newest<V: View + ?Sized>(
    view: &V,
    state: &State,
    key: &[u8],
) -> Result<Option<Newest>, ViewError> {
    match view.get(Family::Head, key)? {
        Some(row) => newest_of_row(view, state, &row),
        None => Ok(None),
    }
}

/// The same, from the key's head row.
pub(crate) fn newest_of_row<V: View + ?Sized>(
    view: &V,
    state: &State,
    row: &Bytes,
) -> Result<Option<Newest>, ViewError> {
    let head = required(HeadRow::decode(row), "head")?;
    let revision = required(head.revision(), "head")?;
    let rest = match head.body {
        Body::Tombstone(main) if main <= state.compact_revision => return Ok(None),
        Body::Tombstone(_) => None,
        Body::Inline { rest } => Some(row.slice_ref(rest)),
        Body::Spilled { value_len, .. } => Some(spilled_rest(
            view,
            Spilled {
                at: revision,
                value_len,
            },
        )?),
    };
    Ok(Some(Newest {
        revision,
        chain: head.chain,
        rest,
    }))
}

/// Reads at one revision.
pub(crate) struct Reader<'v, V: ?Sized> {
    pub(crate) view: &'v V,
    at: i64,
    /// No row can be newer than `at`.
    at_head: bool,
}

impl<'v, V: View + ?Sized> Reader<'v, V> {
    /// `at` is what [`State::readable`] gave.
    pub(crate) fn new(view: &'v V, state: &State, at: i64) -> Self {
        Self {
            view,
            at,
            at_head: at >= state.revision,
        }
    }

    /// Calls `visit` with the version of `key`, if it lives.
    pub(crate) fn get<T>(
        &self,
        key: &[u8],
        visit: impl FnOnce(Live<'_>) -> Result<T, ViewError>,
    ) -> Result<Option<T>, ViewError> {
        match self.view.get(Family::Head, key)? {
            Some(row) => self.live(key, &row, visit),
            None => Ok(None),
        }
    }

    /// Visits the living keys of `span` in ascending order, until the visitor
    /// breaks.
    pub(crate) fn scan(
        &self,
        span: Span<'_>,
        mut visit: impl FnMut(Live<'_>) -> Result<ControlFlow<()>, ViewError>,
    ) -> Result<(), ViewError> {
        let (from, to) = match span {
            Span::Key(key) => return self.get(key, visit).map(drop),
            Span::Keys { from, to } => (from, to),
        };
        let mut failure = None;
        self.view
            .scan(
                Family::Head,
                from,
                to,
                &mut |key, row| match self.live(key, row, &mut visit) {
                    Ok(visited) => visited.unwrap_or(ControlFlow::Continue(())),
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                },
            )?;
        failure.map_or(Ok(()), Err)
    }

    /// Number of living keys of `span`.
    pub(crate) fn count(&self, span: Span<'_>) -> Result<i64, ViewError> {
        let mut count = 0;
        self.scan(span, |_| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    fn live<T>(
        &self,
        key: &[u8],
        row: &[u8],
        visit: impl FnOnce(Live<'_>) -> Result<T, ViewError>,
    ) -> Result<Option<T>, ViewError> {
        if self.at_head && HeadRow::is_tombstone(row) {
            return Ok(None);
        }
        let head = required(HeadRow::decode(row), "head")?;
        if !self.at_head && required(head.revision(), "head")?.main > self.at {
            return match self.older(&head)? {
                Some(rest) => visit(Live {
                    key,
                    rest: &rest,
                    spilled: None,
                })
                .map(Some),
                None => Ok(None),
            };
        }
        match head.body {
            Body::Tombstone(_) => Ok(None),
            Body::Inline { rest } => visit(Live {
                key,
                rest,
                spilled: None,
            })
            .map(Some),
            Body::Spilled { value_len, rest } => {
                let at = required(head.revision(), "head")?;
                visit(Live {
                    key,
                    rest,
                    spilled: Some(Spilled { at, value_len }),
                })
                .map(Some)
            }
        }
    }

    /// What lived of a key whose newest version is newer than `at`.
    fn older(&self, head: &HeadRow<'_>) -> Result<Option<Bytes>, ViewError> {
        if head.chain.depth == 0 {
            return Ok(None);
        }
        let mut here = match head.chain.newer_than(self.at) {
            Some(rung) => rung,
            None => required(head.revision(), "head")?,
        };
        // Each row on the way is newer than `at`, so compaction has not passed
        // it and it is there.
        loop {
            let row = log_row(self.view, here)?;
            let version = required(LogRow::decode(here, &row), "log")?;
            let Some(previous) = version.links.previous else {
                return Ok(None);
            };
            if previous.main <= self.at {
                // Before a creation there is a deletion, whose row may be gone.
                if required(version.is_creation(), "log")? {
                    return Ok(None);
                }
                return put_rest(&log_row(self.view, previous)?, previous).map(Some);
            }
            here = version.links.newer_than(self.at).unwrap_or(previous);
        }
    }
}
