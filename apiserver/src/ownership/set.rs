//! A set of fields of an object, in the form of `FieldsV1`. Knows paths; knows
//! no object and no kind.
//!
//! A path is a row of steps as `FieldsV1` writes them: `f:NAME` of a field,
//! `k:{...}` of an item of a list by its keys, `v:VALUE` of an item of a set.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

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

    /// Puts what is below a step there, whatever was.
    pub fn replace(&mut self, step: &str, below: Self) {
        self.inner.insert(step.to_owned(), below);
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

    /// Keeps what another set has, too, path by path.
    pub fn intersect(&mut self, other: &Self) {
        self.own &= other.own;
        let mine = std::mem::take(&mut self.inner);
        for (step, mut below) in mine {
            if let Some(theirs) = other.inner.get(&step) {
                below.intersect(theirs);
                self.put(&step, below);
            }
        }
    }

    /// What is below a step, if anything.
    pub fn below(&self, step: &str) -> Option<&Self> {
        self.inner.get(step)
    }

    /// The steps from here, with what is below them.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.inner
            .iter()
            .map(|(step, below)| (step.as_str(), below))
    }

    /// Whether anything is below the place itself.
    pub fn has_below(&self) -> bool {
        !self.inner.is_empty()
    }

    /// Every path, as upstream's errors name them, in upstream's order: what is
    /// at a place stands before what is below it.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.paths_below("", &mut found);
        found
    }

    fn paths_below(&self, at: &str, found: &mut Vec<String>) {
        let mut steps: Vec<(Step, &Self)> = self
            .inner
            .iter()
            .map(|(step, below)| (Step::of(step), below))
            .collect();
        steps.sort_by(|(one, _), (other, _)| one.order(other));
        let named = steps
            .iter()
            .map(|(step, below)| (format!("{at}{step}"), below));
        let named: Vec<(String, &&Self)> = named.collect();
        let own = named.iter().filter(|(_, below)| below.own);
        found.extend(own.map(|(path, _)| path.clone()));
        for (path, below) in &named {
            below.paths_below(path, found);
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

/// A step, read.
enum Step {
    Field(String),
    Keys(BTreeMap<String, Value>),
    Value(Value),
}

impl Step {
    fn of(step: &str) -> Self {
        match step.split_once(':') {
            Some(("k", keys)) => Self::Keys(serde_json::from_str(keys).unwrap_or_default()),
            Some(("v", value)) => Self::Value(serde_json::from_str(value).unwrap_or_default()),
            Some((_, name)) => Self::Field(name.to_owned()),
            None => Self::Field(step.to_owned()),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let rank = |step: &Self| match step {
            Self::Field(_) => 0,
            Self::Keys(_) => 1,
            Self::Value(_) => 2,
        };
        match (self, other) {
            (Self::Field(one), Self::Field(other)) => one.cmp(other),
            (Self::Keys(one), Self::Keys(other)) => {
                let (mut one, mut other) = (one.iter(), other.iter());
                loop {
                    match (one.next(), other.next()) {
                        (Some((a, x)), Some((b, y))) => {
                            let order = a.cmp(b).then_with(|| by_value(x, y));
                            if order != Ordering::Equal {
                                return order;
                            }
                        }
                        (one, other) => return one.is_some().cmp(&other.is_some()),
                    }
                }
            }
            (Self::Value(one), Self::Value(other)) => by_value(one, other),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
        }
    }
}

/// Numbers by their size, texts letter by letter, numbers first.
fn by_value(one: &Value, other: &Value) -> Ordering {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => match (one.as_str(), other.as_str()) {
            (Some(one), Some(other)) => one.cmp(other),
            _ => one.to_string().cmp(&other.to_string()),
        },
    }
}

/// A step as upstream's errors name it.
pub fn shown_step(step: &str) -> String {
    Step::of(step).to_string()
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
    fn paths_are_named_in_order() {
        let all = set(&json!({
            "f:s": {".": {}, "f:p": {"k:{\"n\":443}": {}, "k:{\"n\":80}": {".": {}, "f:x": {}}}},
            "f:l": {"v:\"b\"": {}, "v:\"a\"": {}}, "f:t": {}
        }));
        let named = [
            ".s",
            ".t",
            ".l[=\"a\"]",
            ".l[=\"b\"]",
            ".s.p[n=80]",
            ".s.p[n=443]",
            ".s.p[n=80].x",
        ];
        assert_eq!(all.paths(), named);
        let mut both = all.clone();
        both.intersect(&set(
            &json!({"f:s": {"f:p": {"k:{\"n\":80}": {}}}, "f:t": {}}),
        ));
        assert_eq!(
            both.written(),
            json!({"f:s": {"f:p": {"k:{\"n\":80}": {}}}, "f:t": {}})
        );
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
