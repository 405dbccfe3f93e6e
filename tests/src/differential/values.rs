//! The keys, values and lease ids that operations draw from: few, so that
//! operations meet each other's keys.

use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom as _;

/// Leases that a sequence has from its start, unless it revokes them.
pub const LEASES: [i64; 3] = [0x6d69_7a31, 0x6d69_7a32, 0x6d69_7a33];
/// Lease ids that may be granted by the sequence itself.
const OTHER_LEASES: [i64; 2] = [7, i64::MAX];
/// Lease ids that nobody grants.
const NO_LEASES: [i64; 3] = [1, -1, i64::MIN];

/// How many keys a sequence uses, and of which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Six keys, edges of the key order among them.
    Narrow,
    /// A tree of prefixes.
    Medium,
    /// Enough keys for a stream of many chunks.
    Wide,
    /// Few keys with values that make a stream's chunks shrink.
    Bulky,
}

/// The vocabulary of one sequence.
#[derive(Clone, Debug)]
pub struct Values {
    shape: Shape,
    keys: Vec<Bytes>,
}

impl Values {
    /// Draws a shape.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let shape = match rng.random_range(0..100u32) {
            0..42 => Shape::Narrow,
            42..80 => Shape::Medium,
            80..97 => Shape::Wide,
            _ => Shape::Bulky,
        };
        Self::of_shape(shape)
    }

    fn of_shape(shape: Shape) -> Self {
        let keys = match shape {
            Shape::Narrow => ["a", "a\0", "aa", "b", "ba", "c"]
                .into_iter()
                .map(Bytes::from)
                .collect(),
            Shape::Medium => ["", "a", "b", "c"]
                .into_iter()
                .flat_map(|first| ["a", "b", "c", "\0"].map(|second| format!("{first}{second}")))
                .map(Bytes::from)
                .collect(),
            Shape::Wide => (0..80)
                .map(|number| Bytes::from(format!("k{number:02}")))
                .collect(),
            Shape::Bulky => (0..14)
                .map(|number| Bytes::from(format!("k{number:02}")))
                .collect(),
        };
        Self { shape, keys }
    }

    /// How many keys there are and what they look like.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The usual keys.
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }

    /// One of the usual keys.
    pub fn usual_key(&self, rng: &mut impl Rng) -> Bytes {
        self.keys.choose(rng).cloned().unwrap_or_default()
    }

    /// A usual key, now and then an edge of the key order, an unknown key or
    /// the forbidden empty one.
    pub fn key(&self, rng: &mut impl Rng) -> Bytes {
        match rng.random_range(0..200u32) {
            0 => Bytes::new(),
            1..4 => Bytes::from_static(b"\0"),
            4 => Bytes::from_static(b"\0\0"),
            5..8 => Bytes::from_static(b"\xff"),
            8 => Bytes::from_static(b"\xff\xff"),
            9 => Bytes::from_static(b"unknown"),
            10 => Bytes::from(vec![b'l'; 300]),
            _ => self.usual_key(rng),
        }
    }

    /// An end for a range from `key`: none, open, the key's successors, another
    /// key on either side, the key itself.
    pub fn range_end(&self, rng: &mut impl Rng, key: &Bytes) -> Bytes {
        match rng.random_range(0..100u32) {
            0..30 => Bytes::new(),
            30..48 => Bytes::from_static(b"\0"),
            48..62 => prefix_end(key),
            62..66 => [key.as_ref(), b"\0"].concat().into(),
            66..69 => key.clone(),
            69..72 => Bytes::from_static(b"\xff"),
            72..74 => Bytes::from_static(b"\0\0"),
            _ => self.key(rng),
        }
    }

    /// A value; empty and equal ones are common.
    pub fn value(&self, rng: &mut impl Rng) -> Bytes {
        const SMALL: [&str; 6] = ["", "0", "1", "10", "x", "\u{ff}\0"];
        match (self.shape, rng.random_range(0..1000u32)) {
            // Clearly over the limit of a request, by etcd's check or by gRPC's.
            (_, 0) => Bytes::from(vec![b'v'; (3 << 20) / 2 + (100 << 10)]),
            (_, 1) => Bytes::from(vec![b'v'; 5 << 19]),
            (Shape::Bulky, 2..200) => Bytes::from(vec![b'v'; 400 << 10]),
            (Shape::Bulky, _) => Bytes::from(vec![b'v'; rng.random_range(0..50 << 10)]),
            (_, 2..30) => Bytes::from(vec![b'v'; rng.random_range(0..3000)]),
            (_, 30..150) => {
                let mut value = vec![0; rng.random_range(0..24)];
                rng.fill(value.as_mut_slice());
                value.into()
            }
            _ => Bytes::from(SMALL.choose(rng).copied().unwrap_or_default()),
        }
    }

    /// The lease of a put or a comparison.
    pub fn lease(&self, rng: &mut impl Rng) -> i64 {
        match rng.random_range(0..100u32) {
            0..70 => 0,
            70..93 => any(rng, &LEASES),
            93..97 => any(rng, &OTHER_LEASES),
            _ => any(rng, &NO_LEASES),
        }
    }

    /// The lease of a lease operation.
    pub fn named_lease(&self, rng: &mut impl Rng) -> i64 {
        match rng.random_range(0..10u32) {
            0..5 => any(rng, &LEASES),
            5..8 => any(rng, &OTHER_LEASES),
            _ => any(rng, &NO_LEASES),
        }
    }
}

/// All lease ids that a sequence may leave granted. Granting one of
/// [`NO_LEASES`] is not drawn.
pub fn grantable_leases() -> impl Iterator<Item = i64> {
    LEASES.into_iter().chain(OTHER_LEASES)
}

/// Whether a sequence may grant this id.
pub fn is_grantable(lease: i64) -> bool {
    grantable_leases().any(|grantable| grantable == lease)
}

/// One of a list that is not empty.
pub fn any<T: Copy + Default>(rng: &mut impl Rng, list: &[T]) -> T {
    list.choose(rng).copied().unwrap_or_default()
}

/// The least key that is greater than every key with this prefix, or the open
/// end if there is none.
fn prefix_end(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}
