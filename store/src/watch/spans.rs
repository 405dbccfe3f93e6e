//! Which watchers a key concerns, without a look at all of them.
//!
//! Single keys stand in a hash map; ranges in a treap ordered by their begin,
//! in which every node knows how far the ranges below it reach.

use std::{cmp::Ordering, collections::HashMap};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// The keys a watch looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Span {
    Key(Bytes),
    /// `to` is not included; `None` is the end of all keys.
    Keys {
        from: Bytes,
        to: Option<Bytes>,
    },
}

impl Span {
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(own) => own == key,
            Span::Keys { from, to } => from <= key && to.as_deref().is_none_or(|to| key < to),
        }
    }
}

/// A value for each of many spans.
#[derive(Debug)]
pub struct Spans<T> {
    keys: HashMap<Bytes, T>,
    ranges: Treap<T>,
}

impl<T> Spans<T> {
    pub fn new() -> Self {
        Self {
            keys: HashMap::new(),
            ranges: Treap {
                nodes: Vec::new(),
                free: Vec::new(),
                root: None,
                dice: StdRng::from_os_rng(),
            },
        }
    }

    pub fn get_mut(&mut self, span: &Span) -> Option<&mut T> {
        match span {
            Span::Key(key) => self.keys.get_mut(key),
            Span::Keys { from, to } => self.ranges.get_mut(from, to.as_ref()),
        }
    }

    /// Puts in a value for a span that has none.
    pub fn insert(&mut self, span: Span, value: T) {
        match span {
            Span::Key(key) => drop(self.keys.insert(key, value)),
            Span::Keys { from, to } => self.ranges.insert(from, to, value),
        }
    }

    pub fn remove(&mut self, span: &Span) -> Option<T> {
        match span {
            Span::Key(key) => self.keys.remove(key),
            Span::Keys { from, to } => self.ranges.remove(from, to.as_ref()),
        }
    }

    /// Calls `visit` with the values of all spans that contain `key`.
    pub fn of(&self, key: &[u8], mut visit: impl FnMut(&T)) {
        if let Some(value) = self.keys.get(key) {
            visit(value);
        }
        self.ranges.stab(self.ranges.root, key, &mut visit);
    }
}

#[derive(Debug)]
struct Treap<T> {
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    root: Option<usize>,
    dice: StdRng,
}

#[derive(Debug)]
struct Node<T> {
    from: Bytes,
    to: Option<Bytes>,
    /// The furthest end of the node's own range and of those below it.
    reach: Option<Bytes>,
    priority: u64,
    left: Option<usize>,
    right: Option<usize>,
    /// `None` in nodes that are free.
    value: Option<T>,
}

/// `None` is further than any key.
fn further<'a>(a: &'a Option<Bytes>, b: &'a Option<Bytes>) -> &'a Option<Bytes> {
    match (a, b) {
        (Some(x), Some(y)) if x < y => b,
        (Some(_), None) => b,
        _ => a,
    }
}

/// Depth of the recursions below: logarithmic in expectation, since priorities
/// are drawn by dice that clients do not see.
impl<T> Treap<T> {
    /// How a range stands to the one of `node`.
    fn compare(&self, node: usize, from: &Bytes, to: Option<&Bytes>) -> Ordering {
        let node = &self.nodes[node];
        from.cmp(&node.from).then_with(|| to.cmp(&node.to.as_ref()))
    }

    fn get_mut(&mut self, from: &Bytes, to: Option<&Bytes>) -> Option<&mut T> {
        let mut here = self.root;
        while let Some(node) = here {
            here = match self.compare(node, from, to) {
                Ordering::Less => self.nodes[node].left,
                Ordering::Greater => self.nodes[node].right,
                Ordering::Equal => return self.nodes[node].value.as_mut(),
            };
        }
        None
    }

    fn insert(&mut self, from: Bytes, to: Option<Bytes>, value: T) {
        let (less, more) = self.split(self.root, &from, to.as_ref());
        let node = Node {
            reach: to.clone(),
            from,
            to,
            priority: self.dice.random(),
            left: None,
            right: None,
            value: Some(value),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        let left = self.merge(less, Some(place));
        self.root = self.merge(left, more);
    }

    fn remove(&mut self, from: &Bytes, to: Option<&Bytes>) -> Option<T> {
        let (root, removed) = self.cut(self.root, from, to);
        self.root = root;
        let place = removed?;
        self.free.push(place);
        let node = &mut self.nodes[place];
        node.from = Bytes::new();
        node.to = None;
        node.reach = None;
        node.value.take()
    }

    /// Takes a range out of the tree below `node`: the tree that remains, and
    /// the place of what was taken out.
    fn cut(
        &mut self,
        node: Option<usize>,
        from: &Bytes,
        to: Option<&Bytes>,
    ) -> (Option<usize>, Option<usize>) {
        let Some(here) = node else {
            return (None, None);
        };
        match self.compare(here, from, to) {
            Ordering::Less => {
                let (left, removed) = self.cut(self.nodes[here].left, from, to);
                self.nodes[here].left = left;
                self.update(here);
                (Some(here), removed)
            }
            Ordering::Greater => {
                let (right, removed) = self.cut(self.nodes[here].right, from, to);
                self.nodes[here].right = right;
                self.update(here);
                (Some(here), removed)
            }
            Ordering::Equal => {
                let (left, right) = (self.nodes[here].left, self.nodes[here].right);
                (self.merge(left, right), Some(here))
            }
        }
    }

    /// The ranges below `node` that come before the given one, and the others.
    fn split(
        &mut self,
        node: Option<usize>,
        from: &Bytes,
        to: Option<&Bytes>,
    ) -> (Option<usize>, Option<usize>) {
        let Some(here) = node else {
            return (None, None);
        };
        if self.compare(here, from, to) == Ordering::Greater {
            let (less, more) = self.split(self.nodes[here].right, from, to);
            self.nodes[here].right = less;
            self.update(here);
            (Some(here), more)
        } else {
            let (less, more) = self.split(self.nodes[here].left, from, to);
            self.nodes[here].left = more;
            self.update(here);
            (less, Some(here))
        }
    }

    /// One tree of two, all of whose ranges come before those of the other.
    fn merge(&mut self, less: Option<usize>, more: Option<usize>) -> Option<usize> {
        let (Some(a), Some(b)) = (less, more) else {
            return less.or(more);
        };
        if self.nodes[a].priority >= self.nodes[b].priority {
            let right = self.merge(self.nodes[a].right, Some(b));
            self.nodes[a].right = right;
            self.update(a);
            Some(a)
        } else {
            let left = self.merge(Some(a), self.nodes[b].left);
            self.nodes[b].left = left;
            self.update(b);
            Some(b)
        }
    }

    fn update(&mut self, node: usize) {
        let here = &self.nodes[node];
        let mut reach = &here.to;
        for child in [here.left, here.right].into_iter().flatten() {
            reach = further(reach, &self.nodes[child].reach);
        }
        self.nodes[node].reach = reach.clone();
    }

    fn stab(&self, node: Option<usize>, key: &[u8], visit: &mut impl FnMut(&T)) {
        let Some(here) = node.map(|node| &self.nodes[node]) else {
            return;
        };
        let before = |end: &Option<Bytes>| end.as_deref().is_none_or(|end| key < end);
        if !before(&here.reach) {
            return;
        }
        self.stab(here.left, key, visit);
        if *here.from <= *key {
            if before(&here.to)
                && let Some(value) = &here.value
            {
                visit(value);
            }
            self.stab(here.right, key, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(0..4_u8, 0..4).prop_map(Bytes::from)
    }

    fn span() -> impl Strategy<Value = Span> {
        prop_oneof![
            key().prop_map(Span::Key),
            (key(), prop::option::of(key())).prop_map(|(from, to)| Span::Keys { from, to }),
        ]
    }

    proptest! {
        #[test]
        fn finds_what_a_look_at_all_finds(
            steps in prop::collection::vec((any::<bool>(), span()), 1..200),
            probes in prop::collection::vec(key(), 20),
        ) {
            let mut spans = Spans::new();
            let mut naive = BTreeMap::new();
            for (number, (add, span)) in steps.into_iter().enumerate() {
                prop_assert_eq!(spans.get_mut(&span).copied(), naive.get(&span).copied());
                if add && !naive.contains_key(&span) {
                    spans.insert(span.clone(), number);
                    naive.insert(span, number);
                } else {
                    prop_assert_eq!(spans.remove(&span), naive.remove(&span));
                }
            }
            for probe in probes {
                let mut found = Vec::new();
                spans.of(&probe, |number| found.push(*number));
                found.sort_unstable();
                let mut expected: Vec<usize> = naive
                    .iter()
                    .filter(|(span, _)| span.contains(&probe))
                    .map(|(_, number)| *number)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected, "watchers of {:?}", probe);
            }
        }
    }

    #[test]
    fn ten_thousand_ranges_in_order_stay_shallow() {
        let mut spans = Spans::new();
        for number in 0..10_000_u32 {
            let from = Bytes::copy_from_slice(&number.to_be_bytes());
            let to = Some(Bytes::copy_from_slice(&(number + 1).to_be_bytes()));
            spans.insert(Span::Keys { from, to }, number);
        }
        let depth = {
            fn depth<T>(treap: &Treap<T>, node: Option<usize>) -> usize {
                node.map_or(0, |node| {
                    let node = &treap.nodes[node];
                    1 + depth(treap, node.left).max(depth(treap, node.right))
                })
            }
            depth(&spans.ranges, spans.ranges.root)
        };
        assert!(depth < 100, "{depth} levels for 10,000 ranges");
    }
}
