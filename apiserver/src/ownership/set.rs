//! A set of fields of an object, in the form of `FieldsV1`. Knows paths; knows
//! no object and no kind.
//!
//! A path is a row of steps as `FieldsV1` writes them: `f:NAME` of a field,
//! `k:{...}` of an item of a list by its keys, `v:VALUE` of an item of a set.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Fields below one place, and whether the place itself is one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub own: bool,
    inner: BTreeMap<String, Set>,
}

/// The place itself, among what is below it.
const OWN: &str = ".";

impl Set {
    /// The place alone.
    pub fn own() -> Self {
        Self {
            own: true,
            inner: BTreeMap::new(),
        }
    }

    /// One path of fields.
    pub fn of(path: &[&str]) -> Self {
        match path.split_first() {
            None => Self::own(),
            Some((first, rest)) => Self {
                own: false,
                inner: BTreeMap::from([(format!("f:{first}"), Self::of(rest))]),
            },
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.own && self.inner.is_empty()
    }

    /// Puts what is below a step there.
    pub fn put(&mut self, step: &str, below: Self) {
        if !below.is_empty() {
            self.inner.insert(step.to_owned(), below);
        }
    }

    /// Adds what another set has.
    pub fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (step, below) in &other.inner {
            self.inner.entry(step.clone()).or_default().add(below);
        }
    }

    /// Takes away what another set has, path by path.
    pub fn subtract(&mut self, other: &Self) {
        self.own &= !other.own;
        for (step, below) in &other.inner {
            if let Some(mine) = self.inner.get_mut(step) {
                mine.subtract(below);
                if mine.is_empty() {
                    self.inner.remove(step);
                }
            }
        }
    }

    /// Takes away a path of fields and all below it.
    pub fn cut(&mut self, path: &[&str]) {
        match path.split_first() {
            None => *self = Self::default(),
            Some((first, rest)) => {
                let step = format!("f:{first}");
                if let Some(mine) = self.inner.get_mut(&step) {
                    mine.cut(rest);
                    if mine.is_empty() {
                        self.inner.remove(&step);
                    }
                }
            }
        }
    }

    /// Keeps the paths that begin with one of these alone; `*` is any step.
    pub fn keep(&mut self, paths: &[&[&str]]) {
        if paths.iter().any(|path| path.is_empty()) {
            return;
        }
        self.own = false;
        for (step, below) in &mut self.inner {
            let fits = |first: &str| first == "*" || step.strip_prefix("f:") == Some(first);
            let rests: Vec<&[&str]> = paths
                .iter()
                .filter_map(|path| path.split_first())
                .filter(|(first, _)| fits(first))
                .map(|(_, rest)| rest)
                .collect();
            if rests.is_empty() {
                *below = Self::default();
            } else {
                below.keep(&rests);
            }
        }
        self.inner.retain(|_, below| !below.is_empty());
    }

    /// What `FieldsV1` says, `None` when it is none.
    pub fn read(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (step, below) in value.as_object()? {
            if step == OWN {
                set.own = true;
                continue;
            }
            let step = canonical(step)?;
            let below_it = below.as_object()?;
            let below = if below_it.is_empty() {
                Self::own()
            } else {
                Self::read(below)?
            };
            set.inner.insert(step, below);
        }
        Some(set)
    }

    /// As `FieldsV1` says it.
    pub fn written(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.inner.is_empty() {
            map.insert(OWN.to_owned(), Value::Object(Map::new()));
        }
        for (step, below) in &self.inner {
            map.insert(step.clone(), below.written());
        }
        Value::Object(map)
    }
}

/// The step as this server writes it: keys in the order of their names.
fn canonical(step: &str) -> Option<String> {
    match step.split_once(':')? {
        ("f" | "i", _) => Some(step.to_owned()),
        ("k", keys) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).ok()?;
            Some(by_keys(&keys))
        }
        ("v", value) => {
            let value: Value = serde_json::from_str(value).ok()?;
            Some(format!("v:{value}"))
        }
        _ => None,
    }
}

/// The step to an item of a list by its keys.
pub fn by_keys<K: AsRef<str>>(keys: &BTreeMap<K, Value>) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|(key, value)| format!("{}:{value}", Value::from(key.as_ref())))
        .collect();
    format!("k:{{{}}}", keys.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: &Value) -> Set {
        Set::read(value).expect("a set")
    }

    #[test]
    fn what_is_read_is_written() {
        for given in [
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}}),
            json!({"f:l": {"k:{\"a\":1,\"b\":\"x\"}": {".": {}, "f:c": {}}, "v:\"s\"": {}}}),
        ] {
            assert_eq!(set(&given).written(), given);
        }
        let other_order = json!({"k:{\"b\":1,\"a\":2}": {}});
        assert_eq!(
            set(&other_order).written(),
            json!({"k:{\"a\":2,\"b\":1}": {}})
        );
        for wrong in [
            json!(1),
            json!({"a": {}}),
            json!({"k:x": {}}),
            json!({"f:a": 1}),
        ] {
            assert_eq!(Set::read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sets_are_added_and_subtracted() {
        let mut one = set(&json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}}));
        one.subtract(&set(&json!({"f:a": {}, "f:b": {}, "f:x": {}})));
        assert_eq!(one.written(), json!({"f:b": {"f:c": {}}}));
        one.add(&set(&json!({"f:b": {"f:d": {}}, "f:e": {}})));
        assert_eq!(
            one.written(),
            json!({"f:b": {"f:c": {}, "f:d": {}}, "f:e": {}})
        );
        one.subtract(&one.clone());
        assert!(one.is_empty());
    }

    #[test]
    fn parts_are_cut_and_kept() {
        let all = set(
            &json!({"f:s": {"f:a": {}, "f:l": {"k:{\"n\":1}": {".": {}, "f:r": {}}}}, "f:t": {}}),
        );
        let mut cut = all.clone();
        cut.cut(&["s"]);
        assert_eq!(cut.written(), json!({"f:t": {}}));
        let mut kept = all;
        kept.keep(&[&["s", "l", "*", "r"]]);
        assert_eq!(
            kept.written(),
            json!({"f:s": {"f:l": {"k:{\"n\":1}": {"f:r": {}}}}})
        );
    }
}
