//! How the versions of one key are linked.
//!
//! Each version's log row points to the version before it. A walk of that
//! chain alone would cost as many reads as there are newer versions, so some
//! rows point further: the version at depth `d` (the chain's first has depth
//! 0) has, for each rung of [`RUNGS`] that divides `d`, a pointer to the
//! version one rung below. The head row knows the newest version on each rung.
//! Any version is then within 64 reads for each rung and 64 more.

use bytes::BytesMut;

use super::Revision;
use crate::wire::{Reader, put_varint};

pub const LEVELS: usize = 3;
/// Distances between the versions of a rung, each 64 times the one before.
pub const RUNGS: [u64; LEVELS] = [64, 4096, 262_144];

/// Where the newest version of a key stands in its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub depth: u64,
    /// The newest version, this one included, whose depth is a multiple of the
    /// rung; `None` as long as the depth is below it. Depth 0 is no rung.
    pub rungs: [Option<Revision>; LEVELS],
}

/// The pointers of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    pub depth: u64,
    /// `None` at depth 0 only.
    pub previous: Option<Revision>,
    /// Present if the rung divides the depth and the depth is above the rung.
    pub skips: [Option<Revision>; LEVELS],
}

impl Chain {
    /// The chain, and the pointers of its newest version, once `revision` is
    /// added. `previous` is the newest version until now, `None` to start.
    pub fn extend(previous: Option<(Revision, Chain)>, revision: Revision) -> (Chain, Links) {
        let Some((before, chain)) = previous else {
            return (Chain::default(), Links::default());
        };
        let depth = chain.depth.saturating_add(1);
        let mut extended = Chain {
            depth,
            rungs: chain.rungs,
        };
        let mut links = Links {
            depth,
            previous: Some(before),
            skips: [None; LEVELS],
        };
        for (level, rung) in RUNGS.into_iter().enumerate() {
            if depth.is_multiple_of(rung) {
                links.skips[level] = chain.rungs[level];
                extended.rungs[level] = Some(revision);
            }
        }
        (extended, links)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.depth);
        for rung in self.rungs.into_iter().flatten() {
            put_varint(out, rung.main as u64);
            put_varint(out, rung.sub.into());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut chain = Self {
            depth: reader.varint()?,
            rungs: [None; LEVELS],
        };
        for (level, rung) in RUNGS.into_iter().enumerate() {
            if chain.depth >= rung {
                let main = i64::try_from(reader.varint()?).ok()?;
                chain.rungs[level] = Some(Revision::new(main, reader.varint()?.try_into().ok()?));
            }
        }
        Some(chain)
    }

    /// The oldest version known to the head that is newer than `at`, as far as
    /// its rungs tell.
    pub(crate) fn newer_than(&self, at: i64) -> Option<Revision> {
        newer_than(self.rungs, at)
    }
}

impl Links {
    pub(super) fn encode(&self, own: Revision, out: &mut BytesMut) {
        put_varint(out, self.depth);
        for pointer in self
            .previous
            .into_iter()
            .chain(self.skips.into_iter().flatten())
        {
            put_varint(out, (own.main - pointer.main) as u64);
            put_varint(out, pointer.sub.into());
        }
    }

    pub(super) fn decode(own: Revision, reader: &mut Reader<'_>) -> Option<Self> {
        let mut links = Self {
            depth: reader.varint()?,
            ..Self::default()
        };
        if links.depth > 0 {
            links.previous = Some(pointer(own, reader)?);
        }
        for (level, rung) in RUNGS.into_iter().enumerate() {
            if links.depth > rung && links.depth.is_multiple_of(rung) {
                links.skips[level] = Some(pointer(own, reader)?);
            }
        }
        Some(links)
    }

    /// The oldest version that is newer than `at` among those this one points
    /// to with its skips.
    pub(crate) fn newer_than(&self, at: i64) -> Option<Revision> {
        newer_than(self.skips, at)
    }
}

/// Pointers of higher levels reach further back.
fn newer_than(pointers: [Option<Revision>; LEVELS], at: i64) -> Option<Revision> {
    pointers
        .into_iter()
        .rev()
        .flatten()
        .find(|pointer| pointer.main > at)
}

/// A pointer always goes to an older version, so a walk ends.
fn pointer(own: Revision, reader: &mut Reader<'_>) -> Option<Revision> {
    let distance = i64::try_from(reader.varint()?).ok()?;
    let main = own.main.checked_sub(distance).filter(|main| *main >= 0)?;
    let pointer = Revision::new(main, reader.varint()?.try_into().ok()?);
    (pointer < own).then_some(pointer)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A chain of `steps` versions, each so many revisions after the one before.
    fn grow(steps: &[(i64, u32)]) -> Vec<(Revision, Chain, Links)> {
        let mut versions: Vec<(Revision, Chain, Links)> = Vec::new();
        for (distance, sub) in steps {
            let last = versions
                .last()
                .map(|(revision, chain, _)| (*revision, *chain));
            let before = last.map_or(Revision::new(1, 0), |(revision, _)| revision);
            let sub = if *distance == 0 {
                before.sub + 1 + sub
            } else {
                *sub
            };
            let revision = Revision::new(before.main + distance, sub);
            let (chain, links) = Chain::extend(last, revision);
            versions.push((revision, chain, links));
        }
        versions
    }

    /// Any chain and pointers that can come up, with their revision.
    pub(in crate::rows) fn version() -> impl Strategy<Value = (Revision, Chain, Links)> {
        prop::collection::vec((0..300_i64, 0..3_u32), 1..400)
            .prop_map(|steps| *grow(&steps).last().expect("one step at least"))
    }

    #[test]
    fn pointers_go_one_rung_down() {
        let versions = grow(&vec![(1, 0); 2 * 262_144 + 5]);
        for (depth, (_, chain, links)) in versions.iter().enumerate() {
            let at = |depth: usize| versions[depth].0;
            assert_eq!((chain.depth, links.depth), (depth as u64, depth as u64));
            assert_eq!(links.previous, depth.checked_sub(1).map(at));
            for (level, rung) in [64, 4096, 262_144].into_iter().enumerate() {
                let newest = (depth >= rung).then(|| at(depth / rung * rung));
                assert_eq!(chain.rungs[level], newest, "rung {rung} at depth {depth}");
                let skip = (depth > rung && depth % rung == 0).then(|| at(depth - rung));
                assert_eq!(links.skips[level], skip, "skip {rung} at depth {depth}");
            }
        }
    }

    proptest! {
        #[test]
        fn chains_and_pointers_round_trip((revision, chain, links) in version()) {
            let mut out = BytesMut::new();
            chain.encode(&mut out);
            links.encode(revision, &mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(Chain::decode(&mut reader), Some(chain));
            prop_assert_eq!(Links::decode(revision, &mut reader), Some(links));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn decoded_pointers_go_back(bytes: Vec<u8>, main in 0..1_000_000_i64, sub in 0..3_u32) {
            let own = Revision::new(main, sub);
            if let Some(links) = Links::decode(own, &mut Reader::new(&bytes)) {
                for pointer in links.previous.into_iter().chain(links.skips.into_iter().flatten()) {
                    prop_assert!(pointer < own);
                }
            }
        }
    }
}
