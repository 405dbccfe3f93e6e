//! The changes of one revision, shared by everyone who is told of them, each
//! encoded once for each form that is asked for.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use mizzen_core::{Event, EventKind, kv};
use mizzen_planted::bug;

/// Field 11, `events`, of `WatchResponse`.
const EVENTS: u8 = 0x5a;
const TYPE: u8 = 0x08;
const KV: u8 = 0x12;
const PREV_KV: u8 = 0x1a;

/// What applying a command tells watches.
#[derive(Debug)]
pub enum News {
    Revision(Revision),
    /// This revision changed more than is kept in memory: it is to be read from
    /// the rows, as any other of the past.
    InLog(i64),
}

/// What changed at one revision.
#[derive(Debug)]
pub struct Revision {
    pub number: i64,
    pub changes: Vec<Change>,
    bytes: usize,
}

#[derive(Debug)]
pub struct Change {
    event: Event,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

impl Revision {
    pub fn new(number: i64, events: Vec<Event>) -> Self {
        let changes: Vec<Change> = events.into_iter().map(Change::new).collect();
        let bytes = changes.iter().map(Change::bytes).sum();
        Self {
            number,
            changes,
            bytes,
        }
    }

    /// The same changes, with nothing known of what was before.
    pub fn without_previous(&self) -> Self {
        let changes = self.changes.iter();
        let events = changes.map(|change| Event {
            prev: None,
            ..change.event.clone()
        });
        Self::new(self.number, events.collect())
    }

    /// About the memory this takes, bytes: the rows it refers to and both
    /// encodings at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Change {
    fn new(event: Event) -> Self {
        Self {
            event,
            plain: OnceLock::new(),
            with_previous: OnceLock::new(),
        }
    }

    pub fn key(&self) -> &Bytes {
        &self.event.key
    }

    pub fn kind(&self) -> EventKind {
        self.event.kind
    }

    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 128;
        let Event { key, kv, prev, .. } = &self.event;
        OVERHEAD + 2 * (key.len() + kv.len() + prev.as_ref().map_or(0, Bytes::len))
    }

    /// The change as an element of a `WatchResponse`, tag and length included.
    pub fn encoded(&self, with_previous: bool) -> &Bytes {
        let previous = self
            .event
            .prev
            .as_ref()
            .filter(|_| with_previous && !self.event.is_creation())
            .filter(|_| bug!("no-prev-kv", true => self.event.kind == EventKind::Put || self.event.key.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 7 != 0));
        match previous {
            // Without a previous key-value the two forms are the same.
            None => self.plain.get_or_init(|| encode(&self.event, None)),
            Some(previous) => self
                .with_previous
                .get_or_init(|| encode(&self.event, Some(previous))),
        }
    }
}

fn encode(event: &Event, previous: Option<&Bytes>) -> Bytes {
    let kind = match event.kind {
        EventKind::Put => 0,
        EventKind::Delete => 2,
    };
    let field = |rest: &[u8]| {
        let len = kv::key_value_len(&event.key, rest);
        (len, 1 + varint_len(len) + len)
    };
    let (kv_len, kv_field) = field(&event.kv);
    let previous_field = previous.map_or(0, |rest| field(rest).1);
    let len = kind + kv_field + previous_field;
    let mut out = BytesMut::with_capacity(1 + varint_len(len) + len);
    out.put_u8(EVENTS);
    put_varint(&mut out, len);
    if event.kind == EventKind::Delete {
        out.put_slice(&[TYPE, 1]);
    }
    out.put_u8(KV);
    put_varint(&mut out, kv_len);
    kv::append_key_value(&mut out, &event.key, &event.kv);
    if let Some(rest) = previous {
        out.put_u8(PREV_KV);
        put_varint(&mut out, field(rest).0);
        kv::append_key_value(&mut out, &event.key, rest);
    }
    out.freeze()
}

fn varint_len(number: usize) -> usize {
    prost::encoding::encoded_len_varint(number as u64)
}

fn put_varint(out: &mut BytesMut, number: usize) {
    prost::encoding::encode_varint(number as u64, out);
}

#[cfg(test)]
mod tests {
    use mizzen_proto::{etcdserverpb::WatchResponse, mvccpb};
    use prost::Message;

    use super::*;

    fn rest(create: i64, modified: i64, value: &'static [u8]) -> Bytes {
        let fields = kv::Fields {
            create_revision: create,
            mod_revision: modified,
            version: 1 + modified - create,
            value,
            lease: 7,
        };
        let mut out = BytesMut::new();
        fields.encode(&mut out);
        out.freeze()
    }

    fn decoded(event: Event, with_previous: bool) -> mvccpb::Event {
        let change = Change::new(event);
        let bytes = change.encoded(with_previous).clone();
        let mut response = WatchResponse::decode(bytes).expect("protobuf");
        assert_eq!(response.events.len(), 1);
        response.events.remove(0)
    }

    #[test]
    fn forms_decode_as_etcds_events() {
        let put = Event {
            kind: EventKind::Put,
            key: "k".into(),
            kv: rest(2, 5, b"new"),
            prev: Some(rest(2, 4, b"old")),
            mod_revision: 5,
        };
        let plain = decoded(put.clone(), false);
        let kv = plain.kv.clone().expect("a key-value");
        assert_eq!((plain.r#type, plain.prev_kv.is_none()), (0, true));
        assert_eq!((&kv.key[..], &kv.value[..]), (&b"k"[..], &b"new"[..]));
        assert_eq!((kv.create_revision, kv.mod_revision, kv.lease), (2, 5, 7));
        let full = decoded(put.clone(), true);
        assert_eq!(full.kv, plain.kv);
        let previous = full.prev_kv.expect("what was before");
        assert_eq!(
            (&previous.key[..], &previous.value[..]),
            (&b"k"[..], &b"old"[..])
        );
        assert_eq!(previous.mod_revision, 4);

        let created = Event {
            kv: rest(5, 5, b"new"),
            ..put.clone()
        };
        assert_eq!(decoded(created, true).prev_kv, None);

        let deleted = Event {
            kind: EventKind::Delete,
            kv: Bytes::from_static(&[0x18, 5]),
            ..put
        };
        let deleted = decoded(deleted, true);
        assert_eq!(deleted.r#type, 1);
        let kv = deleted.kv.expect("a key-value");
        assert_eq!(
            (&kv.key[..], kv.mod_revision, kv.version),
            (&b"k"[..], 5, 0)
        );
        assert!(deleted.prev_kv.is_some());
    }
}
