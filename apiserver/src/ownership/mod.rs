//! Who owns which fields of an object: the record in `metadata.managedFields`,
//! which every write keeps by upstream's rules, and server-side apply, which
//! goes by it.
//!
//! Knows objects, their types and the names of writers. Must not know requests
//! or the store.

mod apply;
mod compare;
mod fields;
mod merge;
mod set;
mod shape;
mod typed;

pub use self::apply::{Applied, Configuration, Unapplied, apply, told};

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value, json};

use self::{compare::Changes, set::Set, shape::NoKey};
use crate::{
    catalog::Resource,
    codec::json::zero_of,
    kind::Sub,
    object::{self, Json},
    schema::Type,
    versions::View,
};

/// What the server owns.
const SERVERS: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];
/// An object remembers so many writers that did not apply, as upstream does;
/// the oldest become one.
const WRITERS_MAX: usize = 10;
const OLDEST: &str = "ancient-changes";

/// Who writes, and in which version.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Its name.
    pub manager: String,
    pub view: View,
}

impl Writer {
    /// A writer by the name it gives itself, or else by the program that it says
    /// it is.
    pub fn new(name: &str, agent: &str, view: &View) -> Self {
        let program = || {
            let program = agent.split('/').next().unwrap_or("");
            let mut name: String = program.chars().filter(|one| !one.is_control()).collect();
            while name.len() > crate::limits::MANAGER_BYTES_MAX {
                name.pop();
            }
            name
        };
        let mut manager = if name.is_empty() {
            program()
        } else {
            name.to_owned()
        };
        if manager.is_empty() {
            manager.push_str("unknown");
        }
        Self {
            manager,
            view: view.clone(),
        }
    }
}

/// One writer's part of the record.
#[derive(Clone, Debug)]
struct Entry {
    manager: String,
    applied: bool,
    version: String,
    sub: String,
    /// As metadata gives times.
    time: Option<String>,
    fields: Set,
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
        let applied = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let fields = match value.get("fieldsV1") {
            None | Some(Value::Null) => Set::default(),
            Some(fields) => Set::read(fields)?,
        };
        Some(Self {
            manager: text("manager").to_owned(),
            applied,
            version: text("apiVersion").to_owned(),
            sub: text("subresource").to_owned(),
            time: Some(text("time"))
                .filter(|time| !time.is_empty())
                .map(str::to_owned),
            fields,
        })
    }

    fn written(&self) -> Value {
        let mut entry = Map::new();
        let mut put = |field: &str, value: Value| entry.insert(field.to_owned(), value);
        if !self.manager.is_empty() {
            put("manager", self.manager.as_str().into());
        }
        put(
            "operation",
            if self.applied { "Apply" } else { "Update" }.into(),
        );
        put("apiVersion", self.version.as_str().into());
        if let Some(time) = &self.time {
            put("time", time.as_str().into());
        }
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", self.fields.written());
        if !self.sub.is_empty() {
            put("subresource", self.sub.as_str().into());
        }
        Value::Object(entry)
    }

    /// Whether both are of one writer.
    fn is_of(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.sub == other.sub
            && (self.applied || self.version == other.version)
    }
}

/// The record of an object, `None` when it is none.
fn read(value: Option<&Value>) -> Option<Vec<Entry>> {
    let list = match value {
        None | Some(Value::Null) => return Some(Vec::new()),
        Some(value) => value.as_array()?,
    };
    list.iter().map(Entry::read).collect()
}

fn written(mut entries: Vec<Entry>) -> Option<Value> {
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| {
            (
                !entry.applied,
                entry.time.clone().unwrap_or_default(),
                entry.manager.clone(),
                entry.version.clone(),
                entry.sub.clone(),
            )
        };
        key(one).cmp(&key(other))
    });
    let entries: Vec<Value> = entries.iter().map(Entry::written).collect();
    (!entries.is_empty()).then(|| entries.into())
}

/// One empty entry in the place of all: the record is to begin anew.
fn is_reset(value: Option<&Value>) -> bool {
    let list = value.and_then(Value::as_array).map(Vec::as_slice);
    matches!(list, Some([Value::Object(only)]) if only.values().all(|field| {
        field.is_null() || field.as_str() == Some("")
    }))
}

/// What a write is, besides what it writes.
#[derive(Clone, Copy)]
pub struct Written<'a> {
    pub writer: &'a Writer,
    pub sub: Option<Sub>,
    /// The other resources in which the stored one is served, by version.
    pub served: &'a dyn Served,
}

/// Finds the resource in which objects are served in a version.
pub trait Served: Sync {
    fn in_version(&self, stored: &Arc<Resource>, version: &str) -> Option<Arc<Resource>>;
}

/// The record of an object after a write that makes `wanted` of `live`, both in
/// the stored version; before the server changes anything itself.
pub fn record(write: Written<'_>, live: Option<&Json>, wanted: &Json) -> Option<Value> {
    let present = live.and_then(object::managed);
    let before = || read(present).unwrap_or_default();
    let entries = match write.sub {
        Some(_) => before(),
        None if is_reset(object::managed(wanted)) => Vec::new(),
        None => read(object::managed(wanted))
            .filter(|entries| !entries.is_empty())
            .unwrap_or_else(before),
    };
    if entries.is_empty() && live.is_some() {
        // Nobody began to keep a record of it.
        return None;
    }
    match updated(write, live, wanted, entries) {
        Ok(entries) => written(entries),
        Err(NoKey) => present.cloned(),
    }
}

fn updated(
    write: Written<'_>,
    live: Option<&Json>,
    wanted: &Json,
    mut entries: Vec<Entry>,
) -> Result<Vec<Entry>, NoKey> {
    let view = &write.writer.view;
    let version = view.served.api_version();
    let resets = |set: &mut Set| filter(&view.stored, write.sub, set);
    let compared = |view: &View| -> Result<Option<Changes>, NoKey> {
        let empty = || match zero_of(&Type::Message(view.served.message)) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let served = |value: &Json| view.to_served(value.clone());
        let live = live.map_or_else(|| Ok(empty()), served);
        let (Ok(live), Ok(new)) = (live, served(wanted)) else {
            return Ok(None);
        };
        Ok(Some(
            compare::compare(view.served.message, &live, &new)?.filtered(resets),
        ))
    };
    let mine = compared(view)?.ok_or(NoKey)?;
    let mut others: HashMap<String, Option<Changes>> = HashMap::new();
    for entry in &mut entries {
        let changes = if entry.version == version {
            Some(&mine)
        } else {
            if !others.contains_key(&entry.version) {
                let other = write.served.in_version(&view.stored, &entry.version);
                let changes = match other {
                    Some(other) => compared(&View::of(&other))?,
                    None => None,
                };
                others.insert(entry.version.clone(), changes);
            }
            others.get(&entry.version).and_then(Option::as_ref)
        };
        match changes {
            Some(changes) => {
                for set in [&changes.added, &changes.modified, &changes.removed] {
                    entry.fields.subtract(set);
                }
            }
            // A version that is not served any more.
            None => entry.fields = Set::default(),
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
    let mut fields = mine.modified;
    fields.add(&mine.added);
    for name in SERVERS {
        fields.subtract(&Set::of(&["metadata", name]));
    }
    fields.subtract(&Set::of(&["metadata"]));
    if !fields.is_empty() {
        let entry = Entry {
            manager: write.writer.manager.clone(),
            applied: false,
            version,
            sub: write.sub.map_or("", Sub::name).to_owned(),
            time: object::now().as_str().map(str::to_owned),
            fields,
        };
        match entries.iter_mut().find(|one| one.is_of(&entry)) {
            Some(same) => {
                same.fields.add(&entry.fields);
                same.time = entry.time;
            }
            None => entries.push(entry),
        }
    }
    cap(&mut entries);
    Ok(entries)
}

/// Leaves out what a write of this part of an object does not own, whatever it
/// says.
fn filter(stored: &Resource, sub: Option<Sub>, set: &mut Set) {
    let resets = stored.rules.resets;
    let cut: &[&[&str]] = match sub {
        None | Some(Sub::Scale | Sub::Binding | Sub::Eviction | Sub::Token) => resets.object,
        Some(Sub::Status) => resets.status,
        Some(Sub::Finalize) => &[&["status"]],
        Some(Sub::Approval) => &[&["spec"], &["status", "certificate"]],
        Some(Sub::EphemeralContainers) => return set.keep(&[&["spec", "ephemeralContainers"]]),
        Some(Sub::Resize) => {
            return set.keep(&[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
                &["spec", "initContainers", "*", "resources"],
                &["spec", "initContainers", "*", "resizePolicy"],
            ]);
        }
    };
    for path in cut {
        set.cut(path);
    }
}

/// Makes one of the oldest writers that did not apply, as long as there are too
/// many of a version.
fn cap(entries: &mut Vec<Entry>) {
    let updates = |entries: &[Entry]| entries.iter().filter(|entry| !entry.applied).count();
    if updates(entries) <= WRITERS_MAX {
        return;
    }
    entries.sort_by(|one, other| {
        (&one.time, &one.manager, &one.sub).cmp(&(&other.time, &other.manager, &other.sub))
    });
    let mut at = 0;
    let mut first: HashMap<String, usize> = HashMap::new();
    while updates(entries) > WRITERS_MAX && at < entries.len() {
        if entries[at].applied {
            at += 1;
            continue;
        }
        if let Some(&bucket) = first.get(&entries[at].version) {
            let entry = entries.remove(at);
            let oldest = &mut entries[bucket];
            OLDEST.clone_into(&mut oldest.manager);
            oldest.sub.clear();
            oldest.fields.add(&entry.fields);
            oldest.time = entry.time;
        } else {
            first.insert(entries[at].version.clone(), at);
            at += 1;
        }
    }
}

/// The record of an object whose replicas a writer sets by its scale.
pub fn record_scale(writer: &Writer, live: &Json) -> Option<Value> {
    const REPLICAS: &[&str] = &["spec", "replicas"];
    let mut entries = read(object::managed(live)).unwrap_or_default();
    if entries.is_empty() {
        return None;
    }
    let replicas = Set::of(REPLICAS);
    let entry = Entry {
        manager: writer.manager.clone(),
        applied: false,
        version: writer.view.served.api_version(),
        sub: Sub::Scale.name().to_owned(),
        // Upstream gives a new one no time.
        time: None,
        fields: replicas.clone(),
    };
    for one in &mut entries {
        one.fields.subtract(&replicas);
    }
    let time = entries.iter().find(|one| one.is_of(&entry));
    let time = time.and_then(|one| one.time.clone());
    entries.retain(|one| !one.fields.is_empty() && !one.is_of(&entry));
    entries.push(Entry { time, ..entry });
    written(entries)
}

/// Whether two records differ in nothing but times.
pub fn same_but_times(one: Option<&Value>, other: Option<&Value>) -> bool {
    let timeless = |value: Option<&Value>| {
        let mut value = value.cloned();
        for entry in value.iter_mut().filter_map(Value::as_array_mut).flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.insert("time".to_owned(), json!(null));
            }
        }
        value
    };
    one != other && timeless(one) == timeless(other)
}

#[cfg(test)]
mod tests;
