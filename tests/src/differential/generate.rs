//! Random operations, a pure function of seed, position and revisions reached.

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng as _};

use super::operation::Operation;
use super::txn::recent;
use super::values::{Shape, Values, any, is_grantable};
use super::watches::WatchStep;

/// The longest TTL that etcd grants, in seconds.
const LONGEST_TTL: i64 = 9_000_000_000;
/// Streams that watches meet on.
const SHARED_STREAMS: usize = 3;

/// Revisions at the moment an operation is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Store revision when the sequence started.
    pub start: i64,
    /// Store revision now.
    pub current: i64,
    /// Last compacted revision.
    pub compacted: i64,
}

/// What to do at one position of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send to both sides and compare.
    Compare(Operation),
    /// Send to a candidate that is no etcd, only, and expect a refusal.
    Refused(TxnRequest),
    /// Watches, on both sides.
    Watch(WatchStep),
}

/// The operations of one sequence.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    values: Values,
    length: usize,
}

impl Generator {
    /// The sequence of this seed, at least `shortest` operations long.
    pub fn new(seed: u64, shortest: usize) -> Self {
        let mut rng = stream(seed, u64::MAX);
        Self {
            seed,
            values: Values::draw(&mut rng),
            length: shortest + rng.random_range(0..=shortest / 2),
        }
    }

    /// Number of operations.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The operation at `index` and the draw that chooses its member. Each
    /// index has its own random stream, so it does not depend on the others.
    pub fn step(&self, index: usize, view: &View) -> (Step, usize) {
        let mut rng = stream(self.seed, index as u64);
        let member = rng.random_range(0..usize::from(u16::MAX));
        let mut draw = Draw {
            rng: &mut rng,
            values: &self.values,
            view,
        };
        (draw.step(index), member)
    }
}

/// An independent stream of the seed; the multiplier is odd, so that different
/// numbers give different seeds.
fn stream(seed: u64, number: u64) -> StdRng {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.rotate_left(32);
    StdRng::seed_from_u64(mixed.wrapping_add(seed))
}

/// What one operation is drawn from.
pub(super) struct Draw<'a> {
    pub rng: &'a mut StdRng,
    pub values: &'a Values,
    pub view: &'a View,
}

impl Draw<'_> {
    fn step(&mut self, index: usize) -> Step {
        let many_keys = matches!(self.values.shape(), Shape::Wide | Shape::Bulky);
        if many_keys && index < self.values.keys().len() / 2 {
            let key = self.values.usual_key(self.rng);
            return Step::Compare(Operation::Put(self.put_of(key)));
        }
        if self.rng.random_bool(0.12) {
            return Step::Watch(self.watch(index));
        }
        Step::Compare(match self.rng.random_range(0..1000u32) {
            0..300 => {
                let key = self.values.key(self.rng);
                Operation::Put(self.put_of(key))
            }
            300..540 => Operation::Txn(self.txn()),
            540..770 => Operation::Range(self.range()),
            770..840 => Operation::RangeStream(self.streamed_range()),
            840..920 => Operation::DeleteRange(self.delete()),
            920..950 => Operation::Compact(self.compact()),
            950..955 => return Step::Refused(self.stopping_txn()),
            955..966 => Operation::LeaseGrant(self.lease_grant()),
            966..978 => Operation::LeaseRevoke(LeaseRevokeRequest {
                id: self.values.named_lease(self.rng),
            }),
            978..994 => Operation::LeaseTimeToLive(LeaseTimeToLiveRequest {
                id: self.values.named_lease(self.rng),
                keys: self.rng.random(),
            }),
            _ => Operation::LeaseLeases,
        })
    }

    /// A range with any fields.
    pub(super) fn range(&mut self) -> RangeRequest {
        let (min_mod_revision, max_mod_revision) = self.revision_filter();
        let (min_create_revision, max_create_revision) = self.revision_filter();
        RangeRequest {
            revision: self.revision(),
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
            ..self.current_range()
        }
    }

    /// A range of the newest revision without revision filters.
    pub(super) fn current_range(&mut self) -> RangeRequest {
        let key = self.values.key(self.rng);
        RangeRequest {
            range_end: self.values.range_end(self.rng, &key),
            key,
            limit: self.limit(),
            sort_order: match self.rng.random_range(0..100u32) {
                0..50 => 0,
                50..72 => 1,
                72..98 => 2,
                _ => any(self.rng, &[3, -1, i32::MAX]),
            },
            sort_target: match self.rng.random_range(0..100u32) {
                0..50 => 0,
                50..98 => self.rng.random_range(1..5),
                _ => any(self.rng, &[5, -1, i32::MIN]),
            },
            serializable: self.rng.random_bool(0.3),
            keys_only: self.rng.random_bool(0.25),
            count_only: self.rng.random_bool(0.12),
            ..RangeRequest::default()
        }
    }

    /// Mostly without what a stream does not support.
    fn streamed_range(&mut self) -> RangeRequest {
        let mut range = self.range();
        if self.rng.random_bool(0.85) {
            range.sort_order = 0;
        }
        // Up to 3.7.3 an etcd sorts each chunk by a target given without an
        // order and goes on after the chunk's last key, so that keys are left
        // out or come twice: nothing to compare with.
        if range.sort_order == 0 {
            range.sort_target = 0;
        }
        if self.rng.random_bool(0.9) {
            range.min_mod_revision = 0;
            range.max_mod_revision = 0;
            range.min_create_revision = 0;
            range.max_create_revision = 0;
        }
        if self.rng.random_bool(0.4) {
            range.key = Bytes::from_static(b"\0");
            range.range_end = Bytes::from_static(b"\0");
        }
        range
    }

    fn watch(&mut self, index: usize) -> WatchStep {
        let stream = self.rng.random_range(0..SHARED_STREAMS);
        match self.rng.random_range(0..100u32) {
            0..60 => self.watch_create(stream, index),
            60..75 => WatchStep::Cancel {
                stream,
                id: self.watch_id(),
            },
            _ => WatchStep::Progress { stream },
        }
    }

    fn watch_create(&mut self, stream: usize, index: usize) -> WatchStep {
        let key = self.values.key(self.rng);
        let request = WatchCreateRequest {
            range_end: self.values.range_end(self.rng, &key),
            key,
            start_revision: self.watch_start(),
            progress_notify: self.rng.random_bool(0.2),
            filters: (0..3)
                .filter(|_| self.rng.random_bool(0.15))
                .map(|filter| if filter < 2 { filter } else { 7 })
                .collect(),
            prev_kv: self.rng.random_bool(0.5),
            watch_id: self.watch_id(),
            fragment: self.rng.random_bool(0.3),
        };
        // A stream with a watch of the future reports no progress: it has that
        // watch alone, so that the others can be compared on the way.
        let alone = request.start_revision > self.view.current;
        WatchStep::Create {
            stream: if alone {
                SHARED_STREAMS + index
            } else {
                stream
            },
            request,
        }
    }

    /// Mostly of the server's choice. Few, so that they meet.
    fn watch_id(&mut self) -> i64 {
        match self.rng.random_range(0..100u32) {
            0..60 => 0,
            60..96 => self.rng.random_range(1..8),
            _ => any(self.rng, &[-2, i64::MIN, i64::MAX]),
        }
    }

    fn watch_start(&mut self) -> i64 {
        let View {
            start,
            current,
            compacted,
        } = *self.view;
        match self.rng.random_range(0..100u32) {
            0..35 => 0,
            35..65 => self.rng.random_range(compacted.min(current)..=current),
            65..72 => compacted,
            72..78 => compacted - 1,
            78..81 => self.rng.random_range(start..=current),
            81..84 => current + 1,
            84..92 => current + self.rng.random_range(2..20),
            _ => any(self.rng, &[1, -1, i64::MIN, i64::MAX, current + 1000]),
        }
    }

    fn limit(&mut self) -> i64 {
        match self.rng.random_range(0..100u32) {
            0..55 => 0,
            55..85 => self.rng.random_range(1..6),
            85..95 => self.rng.random_range(6..70),
            _ => any(
                self.rng,
                &[-1, -5, i64::MIN, i64::MAX, i64::MAX - 1, 1 << 32],
            ),
        }
    }

    /// Of a read: mostly the newest or a readable one, sometimes refused.
    fn revision(&mut self) -> i64 {
        let View {
            current, compacted, ..
        } = *self.view;
        match self.rng.random_range(0..100u32) {
            0..55 => 0,
            55..85 => self.rng.random_range(compacted.min(current)..=current),
            85..88 => current,
            88..91 => compacted,
            91..94 => compacted - 1,
            94..96 => current + 1,
            _ => any(self.rng, &[1, -1, i64::MIN, i64::MAX, current + 1000]),
        }
    }

    fn revision_filter(&mut self) -> (i64, i64) {
        let bound = |rng: &mut StdRng, view: &View| match rng.random_range(0..100u32) {
            0..3 => any(rng, &[-1, 1, i64::MIN, i64::MAX]),
            _ => recent(rng, view),
        };
        let least = match self.rng.random_range(0..100u32) {
            0..12 => bound(self.rng, self.view),
            _ => 0,
        };
        let greatest = match self.rng.random_range(0..100u32) {
            0..12 => bound(self.rng, self.view),
            _ => 0,
        };
        (least, greatest)
    }

    pub(super) fn put_of(&mut self, key: Bytes) -> PutRequest {
        let ignore_value = self.rng.random_bool(0.1);
        let ignore_lease = self.rng.random_bool(0.1);
        PutRequest {
            key,
            value: if ignore_value && self.rng.random_bool(0.8) {
                Bytes::new()
            } else {
                self.values.value(self.rng)
            },
            lease: if ignore_lease && self.rng.random_bool(0.8) {
                0
            } else {
                self.values.lease(self.rng)
            },
            prev_kv: self.rng.random_bool(0.4),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.values.key(self.rng);
        // Wide deletes now and then only: they leave little to meet.
        let range_end = if self.rng.random_bool(0.6) {
            Bytes::new()
        } else {
            self.values.range_end(self.rng, &key)
        };
        self.delete_of(key, range_end)
    }

    pub(super) fn delete_of(&mut self, key: Bytes, range_end: Bytes) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.rng.random_bool(0.5),
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        let View {
            current, compacted, ..
        } = *self.view;
        let middle = compacted + (current - compacted) / 2;
        CompactionRequest {
            revision: match self.rng.random_range(0..100u32) {
                0..55 => self.rng.random_range(compacted.min(middle)..=middle),
                55..65 => self.rng.random_range(middle..=current),
                65..72 => current,
                72..80 => compacted,
                80..85 => compacted - 1,
                85..92 => current + 1,
                _ => any(self.rng, &[0, -1, i64::MIN, i64::MAX]),
            },
            physical: self.rng.random(),
        }
    }

    /// Never a lease that could expire within the run.
    fn lease_grant(&mut self) -> LeaseGrantRequest {
        let id = self.values.named_lease(self.rng);
        let ttl = if is_grantable(id) {
            any(
                self.rng,
                &[
                    7200,
                    100_000,
                    LONGEST_TTL,
                    LONGEST_TTL,
                    LONGEST_TTL + 1,
                    i64::MAX,
                ],
            )
        } else {
            LONGEST_TTL + 1
        };
        LeaseGrantRequest { ttl, id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View {
        start: 10,
        current: 60,
        compacted: 20,
    };

    #[test]
    fn a_seed_gives_one_sequence() {
        let steps = |seed| {
            let generator = Generator::new(seed, 100);
            (0..generator.length())
                .map(|index| generator.step(index, &VIEW))
                .collect::<Vec<_>>()
        };
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }

    #[test]
    fn compared_transactions_do_not_stop_an_etcd() {
        let mut diverted = 0;
        for seed in 0..300 {
            let generator = Generator::new(seed, 100);
            for index in 0..generator.length() {
                match generator.step(index, &VIEW).0 {
                    Step::Compare(Operation::Txn(txn)) => {
                        assert!(!super::super::known_stops::stops_etcd(&txn), "{txn:?}");
                    }
                    Step::Compare(_) | Step::Watch(_) => {}
                    Step::Refused(txn) => {
                        assert!(super::super::known_stops::stops_etcd(&txn), "{txn:?}");
                        diverted += 1;
                    }
                }
            }
        }
        assert!(diverted > 0);
    }
}
