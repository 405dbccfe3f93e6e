//! Ranges of keys that permissions cover, merged where they touch.

use bytes::Bytes;

use super::Permission;

/// No two touch; in ascending order. The end is excluded, `None`: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<(Bytes, Option<Bytes>)>);

/// Where a range of keys ends: before this key, or never.
pub(super) type End<'a> = Option<&'a [u8]>;

/// The end that a request or a permission means; a single key ends before the
/// next one there can be.
pub(super) fn end_of(key: &[u8], range_end: &[u8]) -> Option<Bytes> {
    match range_end {
        [] => {
            let mut next = Vec::with_capacity(key.len() + 1);
            next.extend_from_slice(key);
            next.push(0);
            Some(next.into())
        }
        [0] => None,
        end => Some(Bytes::copy_from_slice(end)),
    }
}

/// Whether a range that ends at `end` goes at least as far as one that ends at
/// `other`.
fn reaches(end: End<'_>, other: End<'_>) -> bool {
    match (end, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(end), Some(other)) => end >= other,
    }
}

impl Spans {
    pub fn new<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let mut spans: Vec<_> = permissions
            .map(|one| (one.key.clone(), end_of(&one.key, &one.range_end)))
            .collect();
        spans.sort_by(|a, b| a.0.cmp(&b.0));
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match merged.last_mut() {
                Some((_, last)) if reaches(last.as_deref(), Some(&from)) => {
                    if !reaches(last.as_deref(), to.as_deref()) {
                        *last = to;
                    }
                }
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// How far everything from `at` on is covered; `None`: `at` is not.
    fn covered_from(&self, at: &[u8]) -> Option<End<'_>> {
        let after = self.0.partition_point(|(from, _)| from.as_ref() <= at);
        let (_, to) = self.0.get(after.checked_sub(1)?)?;
        let to = to.as_deref();
        to.is_none_or(|to| at < to).then_some(to)
    }
}

/// Whether `spans` together cover what lies from `from` on and before `to`. Of
/// a range that holds no key, its beginning must be covered.
pub(super) fn cover<'a>(
    spans: impl Iterator<Item = &'a Spans> + Clone,
    from: &[u8],
    to: End<'_>,
) -> bool {
    let mut at = from;
    loop {
        let mut furthest: Option<End<'a>> = None;
        for end in spans.clone().filter_map(|spans| spans.covered_from(at)) {
            if furthest.is_none_or(|found| reaches(end, found)) {
                furthest = Some(end);
            }
        }
        match furthest {
            None => return false,
            Some(end) if reaches(end, to) => return true,
            // Has an end, or it would reach; and that lies beyond `at`.
            Some(end) => match end {
                Some(end) => at = end,
                None => return true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::PermissionKind;

    /// Keys of one or two letters, or an end.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(b'a'..b'e', 1..3)
    }

    fn range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        (key(), prop_oneof![Just(vec![]), Just(vec![0]), key()])
    }

    /// Every key there can be between the ends that [`range`] gives, and one
    /// beyond all of them.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys = vec![vec![b'z']];
        for first in b'a'..b'e' {
            for second in [
                None,
                Some(0),
                Some(b'a'),
                Some(b'b'),
                Some(b'c'),
                Some(b'd'),
            ] {
                for third in [None, Some(0), Some(1)] {
                    let key: Vec<u8> = [Some(first), second, third].into_iter().flatten().collect();
                    keys.push(key);
                }
            }
        }
        keys
    }

    fn holds(range: &(Vec<u8>, Vec<u8>), key: &[u8]) -> bool {
        let to = end_of(&range.0, &range.1);
        key >= &range.0[..] && to.is_none_or(|to| key < &to[..])
    }

    proptest! {
        #[test]
        fn covered_is_what_has_no_uncovered_key(
            granted in prop::collection::vec(prop::collection::vec(range(), 0..4), 0..3),
            asked in range(),
        ) {
            let spans: Vec<Spans> = granted
                .iter()
                .map(|role| {
                    let permissions: Vec<Permission> = role
                        .iter()
                        .map(|(key, end)| Permission {
                            kind: PermissionKind::READ,
                            key: key.clone().into(),
                            range_end: end.clone().into(),
                        })
                        // What cannot be granted.
                        .filter(|one| one.range_end.is_empty()
                            || one.range_end.as_ref() == [0]
                            || one.key < one.range_end)
                        .collect();
                    Spans::new(permissions.iter())
                })
                .collect();
            let all: Vec<_> = granted
                .iter()
                .flatten()
                .filter(|(key, end)| end.is_empty() || end == &[0] || key < end)
                .collect();
            let to = end_of(&asked.0, &asked.1);
            let empty = to.as_deref().is_some_and(|to| to <= &asked.0[..]);
            let expected = if empty {
                all.iter().any(|range| holds(range, &asked.0))
            } else {
                keys()
                    .iter()
                    .filter(|key| holds(&asked, key))
                    .all(|key| all.iter().any(|range| holds(range, key)))
                    // Beyond every key above there are others.
                    && (to.is_some() || all.iter().any(|(_, end)| end == &[0]))
            };
            prop_assert_eq!(cover(spans.iter(), &asked.0, to.as_deref()), expected);
        }
    }
}
