//! Family `Meta`, the part that the state machine owns: keys beginning with
//! [`OWNER`]. The second byte of a key tells the kind of row.

use bytes::{BufMut, Bytes, BytesMut};

use super::{FORMAT, Revision, flags};
use crate::{
    command::{Alarm, AlarmKind},
    wire::{Reader, put_zigzag},
};

/// First byte of the keys of the state machine's rows. Append only: 0x02 is
/// the Raft glue's.
pub const OWNER: u8 = 0x01;

const LEASE: u8 = 0x01;
const ATTACHMENT: u8 = 0x02;

/// Flag of a lease's row that tells what is left of it.
const CHECKPOINTED: u8 = 1;

/// Key of the row that holds the store's revision and compaction floor.
pub const STATE: &[u8] = &[OWNER, 0x00];
/// Key of the row that tells how far this replica has reclaimed compacted
/// rows. Local to a replica: no part of the replicated state.
pub const RECLAIM: &[u8] = &[OWNER, 0x03];

/// Key of the row that holds the sums of [`Sizes`].
pub const SIZES: &[u8] = &[OWNER, 0x04];
const SUPERSEDED: u8 = 0x05;
const ALARM: u8 = 0x06;

/// Revisions stay below, so that counting on never overflows.
pub(crate) const REVISION_END: i64 = 1 << 62;

/// How far the rows of compacted revisions are reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The compaction that was being carried out; -1 before the first.
    pub target: i64,
    /// The first revision that was not looked at for it.
    pub next: Revision,
}

impl Default for Reclaimed {
    fn default() -> Self {
        Self {
            target: -1,
            next: Revision::default(),
        }
    }
}

/// What the row [`STATE`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revisions {
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    /// The floor before that one.
    pub(crate) previous_compact_revision: i64,
}

/// Sums over the whole life of the store, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub(crate) written: i64,
    pub(crate) superseded: i64,
    /// What `superseded` was at the newest compaction.
    pub(crate) compacted: i64,
}

pub(crate) fn encode_state(state: &Revisions) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u8(FORMAT);
    put_zigzag(&mut out, state.revision);
    put_zigzag(&mut out, state.compact_revision);
    put_zigzag(&mut out, state.previous_compact_revision);
    out.freeze()
}

pub(crate) fn decode_state(row: &[u8]) -> Option<Revisions> {
    let mut reader = start(row)?;
    let state = Revisions {
        revision: reader.zigzag()?,
        compact_revision: reader.zigzag()?,
        previous_compact_revision: reader.zigzag()?,
    };
    let sound = (1..REVISION_END).contains(&state.revision)
        && (-1..=state.revision).contains(&state.compact_revision)
        && (-1..=state.compact_revision).contains(&state.previous_compact_revision);
    (sound && reader.is_empty()).then_some(state)
}

pub(crate) fn encode_sizes(sizes: &Sizes) -> Bytes {
    let mut out = BytesMut::with_capacity(31);
    out.put_u8(FORMAT);
    put_zigzag(&mut out, sizes.written);
    put_zigzag(&mut out, sizes.superseded);
    put_zigzag(&mut out, sizes.compacted);
    out.freeze()
}

pub(crate) fn decode_sizes(row: &[u8]) -> Option<Sizes> {
    let mut reader = start(row)?;
    let sizes = Sizes {
        written: reader.zigzag()?,
        superseded: reader.zigzag()?,
        compacted: reader.zigzag()?,
    };
    let sound = 0 <= sizes.compacted
        && sizes.compacted <= sizes.superseded
        && sizes.superseded <= sizes.written;
    (sound && reader.is_empty()).then_some(sizes)
}

/// Key of the row that holds what was superseded up to a revision.
pub(crate) fn superseded_key(revision: i64) -> Bytes {
    Bytes::copy_from_slice(&keyed(SUPERSEDED, revision))
}

pub(crate) fn encode_superseded(bytes: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(11);
    out.put_u8(FORMAT);
    put_zigzag(&mut out, bytes);
    out.freeze()
}

pub(crate) fn decode_superseded(row: &[u8]) -> Option<i64> {
    let mut reader = start(row)?;
    let bytes = reader.zigzag()?;
    reader.is_empty().then_some(bytes)
}

/// The first key of all alarms, and the first after them.
pub const ALARMS: (&[u8], &[u8]) = (&[OWNER, ALARM], &[OWNER, ALARM + 1]);

/// Key of the row that says that there is this alarm; its value is [`mark`].
pub fn alarm_key(alarm: &Alarm) -> Bytes {
    let mut out = BytesMut::with_capacity(11);
    out.put_slice(ALARMS.0);
    out.put_u8(alarm.kind as u8);
    out.put_u64(alarm.member);
    out.freeze()
}

pub fn decode_alarm_key(key: &[u8]) -> Option<Alarm> {
    let [kind, member @ ..] = key.strip_prefix(ALARMS.0)? else {
        return None;
    };
    Some(Alarm {
        kind: AlarmKind::from_number(*kind)?,
        member: u64::from_be_bytes(member.try_into().ok()?),
    })
}

/// Value of rows that say something by being there.
pub fn mark() -> Bytes {
    Bytes::from_static(&[FORMAT])
}

pub fn encode_reclaimed(reclaimed: &Reclaimed) -> Bytes {
    let mut out = BytesMut::with_capacity(24);
    out.put_u8(FORMAT);
    put_zigzag(&mut out, reclaimed.target);
    put_zigzag(&mut out, reclaimed.next.main);
    put_zigzag(&mut out, reclaimed.next.sub.into());
    out.freeze()
}

pub fn decode_reclaimed(row: &[u8]) -> Option<Reclaimed> {
    let mut reader = start(row)?;
    let target = reader.zigzag()?;
    let next = Revision::new(reader.zigzag()?, reader.zigzag()?.try_into().ok()?);
    (next.main >= 0 && reader.is_empty()).then_some(Reclaimed { target, next })
}

/// Key of a lease's row. Leases sort by id as unsigned numbers.
pub fn lease_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&keyed(LEASE, id))
}

/// The first key of all leases, and the first after them.
pub const LEASES: (&[u8], &[u8]) = (&[OWNER, LEASE], &[OWNER, LEASE + 1]);

pub fn decode_lease_key(key: &[u8]) -> Option<i64> {
    let (prefix, id) = key.split_at_checked(2)?;
    (prefix == LEASES.0).then_some(i64::from_be_bytes(id.try_into().ok()?))
}

/// What the row of a lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The time to live that was granted, in seconds.
    pub ttl: i64,
    /// What was left at the last checkpoint, in seconds; 0 if there was none
    /// since the lease was granted or kept alive.
    pub remaining: i64,
}

pub fn encode_lease(lease: &Lease) -> Bytes {
    let mut out = BytesMut::with_capacity(21);
    if lease.remaining == 0 {
        out.put_u8(FORMAT);
        put_zigzag(&mut out, lease.ttl);
    } else {
        out.put_u8(FORMAT | CHECKPOINTED);
        put_zigzag(&mut out, lease.ttl);
        put_zigzag(&mut out, lease.remaining);
    }
    out.freeze()
}

pub fn decode_lease(row: &[u8]) -> Option<Lease> {
    let mut reader = Reader::new(row);
    let checkpointed = flags(reader.byte()?, CHECKPOINTED)? & CHECKPOINTED != 0;
    let ttl = reader.zigzag()?;
    let remaining = if checkpointed { reader.zigzag()? } else { 0 };
    (reader.is_empty() && checkpointed == (remaining != 0)).then_some(Lease { ttl, remaining })
}

/// Key of the row that says that `key` is attached to the lease. The row's
/// value is [`attachment`].
pub fn attachment_key(lease: i64, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(10 + key.len());
    out.put_slice(&keyed(ATTACHMENT, lease));
    out.put_slice(key);
    out.freeze()
}

/// Value of every attachment row.
pub fn attachment() -> Bytes {
    Bytes::from_static(&[FORMAT])
}

/// What the keys of all attachments of a lease begin with.
pub(crate) fn attachment_prefix(lease: i64) -> [u8; 10] {
    keyed(ATTACHMENT, lease)
}

/// What the keys of all attachments of a lease are less than: a search that
/// ends there does not walk over the deleted rows of other leases. `None` for
/// the last lease, as ids are ordered.
pub(crate) fn attachments_end(lease: i64) -> Option<[u8; 10]> {
    (lease != -1).then(|| keyed(ATTACHMENT, lease.wrapping_add(1)))
}

fn keyed(kind: u8, id: i64) -> [u8; 10] {
    let mut key = [OWNER, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    key[2..].copy_from_slice(&id.to_be_bytes());
    key
}

fn start(row: &[u8]) -> Option<Reader<'_>> {
    let mut reader = Reader::new(row);
    flags(reader.byte()?, 0)?;
    Some(reader)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(revision in 1..1_i64 << 62, below: u64, ttl: i64, remaining: i64, target in -1..i64::MAX, main in 0..i64::MAX, sub: u32) {
            let compact_revision = -1 + (below % (revision as u64 + 2)) as i64;
            let state = Revisions {
                revision, compact_revision, previous_compact_revision: -1
            };
            prop_assert_eq!(decode_state(&encode_state(&state)), Some(state));
            for remaining in [0, remaining] {
                let lease = Lease { ttl, remaining };
                prop_assert_eq!(decode_lease(&encode_lease(&lease)), Some(lease));
            }
            let reclaimed = Reclaimed { target, next: Revision::new(main, sub) };
            prop_assert_eq!(decode_reclaimed(&encode_reclaimed(&reclaimed)), Some(reclaimed));
        }

        #[test]
        fn keys_tell_the_lease(id: i64, key: Vec<u8>) {
            prop_assert_eq!(decode_lease_key(&lease_key(id)), Some(id));
            prop_assert!(LEASES.0 <= &lease_key(id)[..] && &lease_key(id)[..] < LEASES.1);
            let attachment = attachment_key(id, &key);
            prop_assert_eq!(attachment.strip_prefix(&attachment_prefix(id)), Some(&key[..]));
            prop_assert!(attachments_end(id).is_none_or(|end| attachment[..] < end[..]));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let row = [&[FORMAT | (bytes.len() as u8 & 1)], &bytes[..]].concat();
            let _ = (decode_state(&row), decode_reclaimed(&row), decode_lease(&row), decode_lease_key(&bytes));
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(STATE, b"\x01\x00");
        assert_eq!(
            encode_state(&Revisions {
                revision: 300,
                compact_revision: 7,
                previous_compact_revision: -1,
            })
            .as_ref(),
            b"\x10\xd8\x04\x0e\x01"
        );
        assert_eq!(RECLAIM, b"\x01\x03");
        assert_eq!(
            encode_reclaimed(&Reclaimed {
                target: 9,
                next: Revision::new(7, 1)
            })
            .as_ref(),
            b"\x10\x12\x0e\x02"
        );
        assert_eq!(
            lease_key(-2).as_ref(),
            b"\x01\x01\xff\xff\xff\xff\xff\xff\xff\xfe"
        );
        let lease = |remaining| Lease { ttl: 60, remaining };
        assert_eq!(encode_lease(&lease(0)).as_ref(), b"\x10\x78");
        assert_eq!(encode_lease(&lease(7)).as_ref(), b"\x11\x78\x0e");
        assert_eq!(
            attachment_key(5, b"k").as_ref(),
            b"\x01\x02\0\0\0\0\0\0\0\x05k"
        );
        assert_eq!(attachment().as_ref(), b"\x10");
        let sizes = Sizes {
            written: 300,
            superseded: 9,
            compacted: 7,
        };
        assert_eq!(SIZES, b"\x01\x04");
        assert_eq!(encode_sizes(&sizes).as_ref(), b"\x10\xd8\x04\x12\x0e");
        assert_eq!(decode_sizes(b"\x10\xd8\x04\x12\x0e"), Some(sizes));
        assert_eq!(superseded_key(5).as_ref(), b"\x01\x05\0\0\0\0\0\0\0\x05");
        assert_eq!(encode_superseded(7).as_ref(), b"\x10\x0e");
        let alarm = Alarm {
            kind: AlarmKind::Corrupt,
            member: 5,
        };
        assert_eq!(
            alarm_key(&alarm).as_ref(),
            b"\x01\x06\x02\0\0\0\0\0\0\0\x05"
        );
        assert_eq!(decode_alarm_key(&alarm_key(&alarm)), Some(alarm));
    }

    #[test]
    fn an_impossible_state_is_damage() {
        for state in [(0, -1), (5, 6), (5, -2), (i64::MAX, 1)] {
            let state = Revisions {
                revision: state.0,
                compact_revision: state.1,
                previous_compact_revision: -1,
            };
            assert_eq!(decode_state(&encode_state(&state)), None, "{state:?}");
        }
    }
}
