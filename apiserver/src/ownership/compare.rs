//! What a write changed of an object: fields that came, changed and went, by
//! the rules of its type. Knows types and JSON; knows no writer.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    set::Set,
    shape::{NoKey, Place, Shape, step_of, step_of_value},
};
use crate::schema::{MessageId, Type, schema};

/// The fields of a place that came, changed and went.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

/// What became of an object of message `id`.
///
/// # Errors
/// An item of a list has no name.
pub fn compare(
    id: MessageId,
    live: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<Changes, NoKey> {
    let mut changes = Changes::default();
    fields(id, Some(live), Some(new), &mut changes)?;
    Ok(changes)
}

/// Compares what stands at one place before and after; one of both is there.
fn walk(place: Place<'_>, live: Option<&Value>, new: Option<&Value>) -> Result<Changes, NoKey> {
    let mut changes = Changes::default();
    let object = |value: Option<&Value>| {
        value
            .and_then(Value::as_object)
            .is_some_and(|map| !map.is_empty())
    };
    let list = |value: Option<&Value>| {
        value
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    let maps = object(live) || object(new);
    let lists = list(live) || list(new);
    let entries = |value| Option::and_then(value, Value::as_object);
    match place.shape() {
        Shape::Object(id) if maps => fields(id, entries(live), entries(new), &mut changes)?,
        Shape::Map(inner) if maps => {
            each(entries(live), entries(new), &mut changes, |_| {
                Some(Place::Item(inner))
            })?;
        }
        Shape::Keyed(keys, inner) if lists => {
            let name = |item: &Value| step_of(item, keys, inner);
            items(live, new, inner, &mut changes, name)?;
        }
        Shape::Set(inner) if lists => {
            let name = |item: &Value| Ok(step_of_value(item));
            items(live, new, inner, &mut changes, name)?;
        }
        _ => {
            changes.modified.own = live.is_some() && new.is_some() && live != new;
        }
    }
    changes.added.own = live.is_none();
    changes.removed.own = new.is_none();
    Ok(changes)
}

type Entries<'a> = Option<&'a Map<String, Value>>;

fn fields(
    id: MessageId,
    live: Entries<'_>,
    new: Entries<'_>,
    changes: &mut Changes,
) -> Result<(), NoKey> {
    each(live, new, changes, |name| {
        schema().field(id, name).map(Place::Field)
    })
}

/// Compares what stands under each name.
fn each<'a>(
    live: Entries<'_>,
    new: Entries<'_>,
    changes: &mut Changes,
    place: impl Fn(&str) -> Option<Place<'a>>,
) -> Result<(), NoKey> {
    let at = |map: Entries<'_>, name: &str| map.is_some_and(|map| map.contains_key(name));
    let gone = live
        .into_iter()
        .flat_map(Map::keys)
        .filter(|name| !at(new, name));
    for name in new.into_iter().flat_map(Map::keys).chain(gone) {
        let (before, after) = (
            live.and_then(|map| map.get(name)),
            new.and_then(|map| map.get(name)),
        );
        if let Some(place) = place(name).filter(|_| before != after) {
            changes.put(&format!("f:{name}"), walk(place, before, after)?);
        }
    }
    Ok(())
}

/// Compares the items of two lists by their names. Those that stand twice are
/// one thing.
fn items(
    live: Option<&Value>,
    new: Option<&Value>,
    inner: &Type,
    changes: &mut Changes,
    name: impl Fn(&Value) -> Result<String, NoKey>,
) -> Result<(), NoKey> {
    let mut named: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in live.and_then(Value::as_array).into_iter().flatten() {
        named.entry(name(item)?).or_default().0.push(item);
    }
    for item in new.and_then(Value::as_array).into_iter().flatten() {
        named.entry(name(item)?).or_default().1.push(item);
    }
    for (step, (before, after)) in named {
        let (first, last) = (before.first().copied(), after.first().copied());
        let mut here = Changes::default();
        match (before.len(), after.len()) {
            (0 | 1, 0 | 1) if first == last => {}
            (0 | 1, 0 | 1) => here = walk(Place::Item(inner), first, last)?,
            (2.., 2..) => here.modified.own = before != after,
            (2.., _) => {
                if last.is_some() {
                    here = walk(Place::Item(inner), None, last)?;
                }
                here.removed.own = true;
            }
            (_, 2..) => {
                if first.is_some() {
                    here = walk(Place::Item(inner), first, None)?;
                }
                here.added.own = true;
            }
        }
        changes.put(&step, here);
    }
    Ok(())
}

impl Changes {
    fn put(&mut self, step: &str, below: Self) {
        self.added.put(step, below.added);
        self.modified.put(step, below.modified);
        self.removed.put(step, below.removed);
    }

    /// Leaves out what does not count.
    pub fn filtered(mut self, filter: impl Fn(&mut Set)) -> Self {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            filter(set);
        }
        self
    }
}
