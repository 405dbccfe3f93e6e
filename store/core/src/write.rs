//! Changes of one revision: the rows they write and the events they make.

use std::ops::ControlFlow;

use bytes::Bytes;
use mizzen_planted::bug;

use crate::{
    command::{DeleteRange, Put},
    error::{Error, Stop},
    event::{Event, EventKind},
    kv, limits,
    overlay::Overlay,
    read::{self, Newest, Reader, Span},
    reply::Reply,
    room::ReplyRoom,
    rows::{
        Revision,
        chain::Chain,
        head::{self, HeadRow},
        log, meta, required,
    },
    state::State,
    view::{Family, View, ViewError},
};

/// Collects the changes that one command makes.
pub(crate) struct Writer<'w, 'a, V: ?Sized> {
    pub(crate) overlay: &'w mut Overlay<'a, V>,
    /// The state before the command.
    pub(crate) before: State,
    pub(crate) reply: ReplyRoom<'w>,
    changes: u32,
    events: Held,
}

/// Events of one revision; nothing once they are too many to be kept.
struct Held {
    events: Option<Vec<Event>>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, event: Event) {
        let prev = event.prev.as_ref().map_or(0, Bytes::len);
        self.bytes += limits::EVENT_BYTES + event.key.len() + event.kv.len() + prev;
        if self.bytes > limits::EVENTS_BYTES {
            self.events = None;
        }
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

impl<'w, 'a, V: View + ?Sized> Writer<'w, 'a, V> {
    pub(crate) fn new(
        overlay: &'w mut Overlay<'a, V>,
        before: State,
        reply: ReplyRoom<'w>,
    ) -> Self {
        Self {
            overlay,
            before,
            reply,
            changes: 0,
            events: Held {
                events: Some(Vec::new()),
                bytes: 0,
            },
        }
    }

    /// The state as the next operation of the command sees it: with the new
    /// revision as soon as there is a change.
    pub(crate) fn seen(&self) -> State {
        let revision = if self.changes == 0 {
            self.before.revision
        } else {
            self.before.revision + 1
        };
        State {
            revision,
            ..self.before
        }
    }

    /// Makes the changes the state's, if there are any. `None`: the events are
    /// too many to be kept.
    pub(crate) fn finish(self, state: &mut State) -> Option<Vec<Event>> {
        let before = *state;
        let (events, overlay) = self.close(state);
        if *state != before {
            state.save(overlay);
        }
        events
    }

    /// As [`Writer::finish`], for who saves the state once after several
    /// revisions.
    pub(crate) fn close(self, state: &mut State) -> (Option<Vec<Event>>, &'w mut Overlay<'a, V>) {
        let mut seen = self.seen();
        let odd = i64::from(self.changes > 0 && seen.revision % 97 == 0);
        bug!("skipped-revision" => seen.revision += odd);
        bug!("repeated-revision" => seen.revision -= odd);
        if seen.revision != state.revision {
            seen.sizes.note(seen.revision, self.overlay);
        }
        *state = seen;
        (self.events.events, self.overlay)
    }

    fn next(&self) -> Revision {
        Revision::new(self.before.revision + 1, self.changes)
    }

    pub(crate) fn put(&mut self, put: &Put) -> Result<Reply, Stop> {
        let newest = read::newest(self.overlay, &self.before, &put.key)?;
        let alive = newest.as_ref().and_then(|newest| newest.rest.clone());
        if alive.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Error::KeyNotFound.into());
        }
        let own = self.next();
        let old = match &alive {
            Some(rest) => required(kv::Fields::decode(rest), "head")?,
            None => kv::Fields {
                create_revision: own.main,
                ..kv::Fields::default()
            },
        };
        let fields = kv::Fields {
            create_revision: old.create_revision,
            mod_revision: own.main,
            version: old.version.saturating_add(1),
            value: if put.ignore_value {
                old.value
            } else {
                &put.value
            },
            lease: if put.ignore_lease {
                old.lease
            } else {
                put.lease
            },
        };
        if let Some(rest) = &alive {
            self.before.sizes.supersede(&put.key, rest);
        }
        self.attach(&put.key, old.lease, fields.lease);
        self.write_put(own, &put.key, &fields, newest)?;
        let prev_kv = alive
            .filter(|rest| put.prev_kv && self.reply.take(put.key.len() + rest.len()))
            .map(|rest| kv::key_value(&put.key, &rest));
        Ok(Reply::Put {
            revision: own.main,
            prev_kv,
        })
    }

    fn write_put(
        &mut self,
        own: Revision,
        key: &Bytes,
        fields: &kv::Fields<'_>,
        newest: Option<Newest>,
    ) -> Result<(), ViewError> {
        let prev = self.before_command(key, newest.as_ref())?;
        let (chain, links) =
            Chain::extend(newest.map(|newest| (newest.revision, newest.chain)), own);
        let (row, rest_at) = log::encode_put(own, &links, key, fields);
        self.overlay.put(
            Family::Head,
            key.clone(),
            head::encode_put(own.sub, &chain, fields),
        );
        let event = Event {
            kind: EventKind::Put,
            key: row.slice(rest_at - key.len()..rest_at),
            kv: row.slice(rest_at..),
            prev,
            mod_revision: own.main,
        };
        self.write_log(own, row, event);
        Ok(())
    }

    /// Deletes the living keys of a range in ascending order, some at a time: a
    /// range may hold everything.
    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> Result<Reply, ViewError> {
        let mut prev_kvs = Vec::new();
        let mut deleted = 0;
        let mut from = delete.key.clone();
        loop {
            let page = self.living(Span::new(&from, &delete.range_end))?;
            let more = page.len() == limits::DELETE_PAGE_ROWS;
            if let Some((last, _)) = page.last() {
                from = [last, &[0][..]].concat().into();
            }
            for (key, row) in page {
                let Some(rest) = self.delete_living(&key, &row)? else {
                    continue;
                };
                if delete.prev_kv && self.reply.take(key.len() + rest.len()) {
                    prev_kvs.push(kv::key_value(&key, &rest));
                }
                deleted += 1;
            }
            if !more {
                break;
            }
        }
        Ok(Reply::DeleteRange {
            revision: self.seen().revision,
            deleted,
            prev_kvs,
        })
    }

    /// Deletes the key with this head row if it lives, and gives what lived.
    pub(crate) fn delete_living(
        &mut self,
        key: &Bytes,
        row: &Bytes,
    ) -> Result<Option<Bytes>, ViewError> {
        let Some(newest) = read::newest_of_row(self.overlay, &self.before, row)? else {
            return Ok(None);
        };
        let Some(rest) = newest.rest.clone() else {
            return Ok(None);
        };
        self.delete(key.clone(), &rest, newest)?;
        Ok(Some(rest))
    }

    /// Keys and head rows of what lives in `span`: the first of them.
    fn living(&self, span: Span<'_>) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        let mut rows = Vec::new();
        match span {
            Span::Key(key) => {
                let row = self.overlay.get(Family::Head, key)?;
                rows.extend(row.map(|row| (Bytes::copy_from_slice(key), row)));
            }
            Span::Keys { from, to } => {
                self.overlay.scan(Family::Head, from, to, &mut |key, row| {
                    if !HeadRow::is_tombstone(row) {
                        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
                    }
                    if rows.len() == limits::DELETE_PAGE_ROWS {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                })?
            }
        }
        Ok(rows)
    }

    fn delete(&mut self, key: Bytes, rest: &[u8], newest: Newest) -> Result<(), ViewError> {
        let own = self.next();
        let prev = self.before_command(&key, Some(&newest))?;
        let old = required(kv::Fields::decode(rest), "head")?;
        self.before.sizes.supersede(&key, rest);
        self.before.sizes.supersede(&key, &[]);
        self.attach(&key, old.lease, 0);
        let (chain, links) = Chain::extend(Some((newest.revision, newest.chain)), own);
        let row = log::encode_delete(own, &links, &key);
        let event = Event {
            kind: EventKind::Delete,
            key: row.slice(row.len() - key.len()..),
            kv: kv::deletion(own.main),
            prev,
            mod_revision: own.main,
        };
        self.overlay
            .put(Family::Head, key, head::encode_tombstone(own, &chain));
        self.write_log(own, row, event);
        Ok(())
    }

    fn write_log(&mut self, own: Revision, row: Bytes, event: Event) {
        self.overlay.put(
            Family::Log,
            Bytes::copy_from_slice(&log::encode_key(own)),
            row,
        );
        self.before.sizes.write(
            &event.key,
            match event.kind {
                EventKind::Put => &event.kv,
                EventKind::Delete => &[],
            },
        );
        self.events.push(event);
        self.changes += 1;
    }

    /// What lived of a key before the command, given its newest version now.
    fn before_command(
        &self,
        key: &[u8],
        newest: Option<&Newest>,
    ) -> Result<Option<Bytes>, ViewError> {
        match newest {
            Some(newest) if newest.revision.main > self.before.revision => {
                self.whole_at(key, self.before.revision)
            }
            Some(newest) => {
                bug!("older-prev-kv", Ok(newest.rest.clone()) => self.whole_at(key, self.before.revision - 1))
            }
            None => Ok(None),
        }
    }

    /// The key-value that `key` had at a revision before this one.
    fn whole_at(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, ViewError> {
        let overlay = &*self.overlay;
        let reader = Reader::new(overlay, &self.seen(), revision);
        reader.get(key, |live| live.whole(overlay, Bytes::copy_from_slice))
    }

    /// Moves a key from one lease to another; 0 is none.
    fn attach(&mut self, key: &[u8], old: i64, new: i64) {
        if old == new {
            return;
        }
        if old != 0 && bug!("lease-not-detached", true => new != 0) {
            self.overlay
                .delete(Family::Meta, meta::attachment_key(old, key));
        }
        if new != 0 && bug!("lease-not-moved", true => old == 0) {
            self.overlay.put(
                Family::Meta,
                meta::attachment_key(new, key),
                meta::attachment(),
            );
        }
    }
}
