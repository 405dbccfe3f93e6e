//! Server-side apply: an object with what a client applies to it, and the record
//! of who owns what after that. What the client applied before and does not
//! apply now goes, unless another owns it; what another owns and has another
//! value is a conflict.
//!
//! Knows objects, their types and the record. Must not know requests or the
//! store.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    Entry, SERVERS, Writer, Written,
    compare::{self, Changes},
    fields::{fields_of, with_named, without},
    filter,
    merge::merge,
    read,
    set::Set,
    shape::NoKey,
    typed, updated, written,
};
use crate::{
    codec::json::{self, Source},
    limits,
    object::{self, Json},
    versions::View,
};

/// Who owned what before anybody applied to an object.
const BEFORE: &str = "before-first-apply";
/// What `kubectl apply` keeps on an object when the client merges.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The writer for whom that is kept up to date, and counts as applied.
const KUBECTL: &str = "kubectl";

/// What a client applies.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub object: Json,
    /// It takes what others own.
    pub force: bool,
}

/// A field that another owns and that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its owner, in upstream's words.
    pub with: String,
    pub field: String,
}

/// Why nothing is applied.
#[derive(Debug, thiserror::Error)]
pub enum Unapplied {
    /// What is applied is no such object.
    #[error("{0}")]
    Refused(String),
    /// It is not of its type, or the object is not.
    #[error("{0}")]
    Untyped(String),
    #[error("others own what is applied")]
    Conflicts(Vec<Conflict>),
}

impl From<NoKey> for Unapplied {
    fn from(error: NoKey) -> Self {
        Self::Untyped(format!("failed to merge config: {error}"))
    }
}

/// What came of an application.
pub struct Applied {
    /// The object as the version of the writer has it; its values are as the
    /// client gave them.
    pub object: Json,
    pub record: Option<Value>,
}

/// Applies a configuration to an object: to `live` as it is stored, which
/// `shown` is as the version of the writer has it.
///
/// # Errors
/// It is not of the kind, or others own what it changes.
pub fn apply(
    write: Written<'_>,
    live: Option<&Json>,
    shown: &Json,
    configuration: &Configuration,
) -> Result<Applied, Unapplied> {
    checked(&write.writer.view, &configuration.object)?;
    let mut entries = read(live.and_then(object::managed)).ok_or_else(|| {
        Unapplied::Untyped("failed to decode managed fields: they are of no known form".to_owned())
    })?;
    if let Some(live) = live.filter(|_| entries.is_empty()) {
        let before = Writer {
            manager: BEFORE.to_owned(),
            ..write.writer.clone()
        };
        let first = Written {
            writer: &before,
            ..write
        };
        entries = updated(first, None, live, Vec::new())?;
    }
    let apply = Application {
        write,
        shown,
        configuration,
    };
    let mut done = match apply.run(entries.clone(), configuration.force) {
        Err(Unapplied::Conflicts(found)) if write.writer.manager == KUBECTL => {
            let allowed = apply
                .last_applied()
                .map_or_else(Vec::new, |set| set.paths());
            let (mine, others): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|conflict| allowed.contains(&conflict.field));
            if !others.is_empty() || mine.is_empty() {
                return Err(Unapplied::Conflicts(others));
            }
            apply.run(entries, true)?
        }
        done => done?,
    };
    if write.writer.manager == KUBECTL {
        renew_last_applied(&mut done.object, &configuration.object);
    }
    Ok(done)
}

/// Refuses what is no object of the kind.
fn checked(view: &View, object: &Json) -> Result<(), Unapplied> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
    let (kind, version) = (text("kind"), text("apiVersion"));
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    let named = format!("{group}/{short}, Kind={kind}");
    let served = &view.served;
    if kind != served.kind || version != served.api_version() {
        return Err(Unapplied::Refused(format!("invalid object type: {named}")));
    }
    if object::managed(object).is_some_and(Value::is_array) {
        let why = "metadata.managedFields must be nil";
        return Err(Unapplied::Refused(why.to_owned()));
    }
    typed::wrong(served.message, object).map_or(Ok(()), |why| {
        Err(Unapplied::Untyped(format!(
            "failed to create typed patch object ({}/{}; {named}): {why}",
            object::meta_str(object, "namespace"),
            object::meta_str(object, "name"),
        )))
    })
}

struct Application<'a> {
    write: Written<'a>,
    shown: &'a Json,
    configuration: &'a Configuration,
}

impl Application<'_> {
    fn view(&self) -> &View {
        &self.write.writer.view
    }

    /// An object of the writer's version in another, unless that is not served.
    fn in_version(&self, value: &Json, version: &str) -> Result<Option<Json>, Unapplied> {
        let view = self.view();
        if version == view.served.api_version() {
            return Ok(Some(value.clone()));
        }
        let Some(other) = self.write.served.in_version(&view.stored, version) else {
            return Ok(None);
        };
        converted(view, &View::of(&other), value)
            .map(Some)
            .map_err(Unapplied::Untyped)
    }

    /// The view of a version that is served.
    fn view_in(&self, version: &str) -> Option<View> {
        let view = self.view();
        if version == view.served.api_version() {
            return Some(view.clone());
        }
        let other = self.write.served.in_version(&view.stored, version);
        other.map(|other| View::of(&other))
    }

    fn run(&self, mut entries: Vec<Entry>, force: bool) -> Result<Applied, Unapplied> {
        let view = self.view();
        let (id, config) = (view.served.message, &self.configuration.object);
        let sub = self.write.sub.map_or("", |sub| sub.name());
        let mut mine = Entry {
            manager: self.write.writer.manager.clone(),
            applied: true,
            version: view.served.api_version(),
            sub: sub.to_owned(),
            time: None,
            fields: fields_of(id, config)?,
        };
        filter(&view.stored, self.write.sub, &mut mine.fields);
        let last = entries.iter().position(|entry| entry.is_of(&mine));
        let last = last.map(|at| entries.remove(at));
        mine.time = last.as_ref().and_then(|last| last.time.clone());
        let mut new = merge(id, self.shown, config)?;
        if let Some(last) = last.filter(|last| !last.fields.is_empty()) {
            new = self.pruned(new, &last, &entries, &mine)?;
        }
        let found = self.taken(&mut entries, &new)?;
        if !force && !found.is_empty() {
            return Err(Unapplied::Conflicts(found));
        }
        entries.retain(|entry| !entry.fields.is_empty());
        if new != *self.shown {
            mine.time = object::now().as_str().map(str::to_owned);
        }
        for name in SERVERS {
            mine.fields.subtract(&Set::of(&["metadata", name]));
        }
        for name in ["metadata", "kind", "apiVersion"] {
            mine.fields.subtract(&Set::of(&[name]));
        }
        if !mine.fields.is_empty() {
            entries.push(mine);
        }
        Ok(Applied {
            object: new,
            record: written(entries),
        })
    }

    /// Takes from the others what this changes; tells what it takes that has a
    /// new value.
    fn taken(&self, entries: &mut Vec<Entry>, new: &Json) -> Result<Vec<Conflict>, Unapplied> {
        let mut seen: HashMap<String, Option<Changes>> = HashMap::new();
        let mut found = Vec::new();
        entries.sort_by(|one, other| one.key().cmp(&other.key()));
        for entry in entries {
            if !seen.contains_key(&entry.version) {
                seen.insert(entry.version.clone(), self.changes(new, &entry.version)?);
            }
            let Some(changes) = seen.get(&entry.version).and_then(Option::as_ref) else {
                // A version that is not served any more.
                entry.fields = Set::default();
                continue;
            };
            let mut taken = changes.modified.clone();
            taken.add(&changes.added);
            taken.intersect(&entry.fields);
            let with = entry.shown();
            found.extend(taken.paths().into_iter().map(|field| Conflict {
                with: with.clone(),
                field,
            }));
            entry.fields.subtract(&taken);
            entry.fields.subtract(&changes.removed);
        }
        Ok(found)
    }

    /// What this changes, as a version shows it.
    fn changes(&self, new: &Json, version: &str) -> Result<Option<Changes>, Unapplied> {
        let Some(view) = self.view_in(version) else {
            return Ok(None);
        };
        let before = self.in_version(self.shown, version)?;
        let after = self.in_version(new, version)?;
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(None);
        };
        let changes = compare::compare(view.served.message, &before, &after)?;
        Ok(Some(changes.filtered(|set| {
            filter(&view.stored, self.write.sub, set);
        })))
    }

    /// The merged object without what this writer applied last time and does not
    /// apply now, and nobody else owns.
    fn pruned(
        &self,
        merged: Json,
        last: &Entry,
        others: &[Entry],
        mine: &Entry,
    ) -> Result<Json, Unapplied> {
        let Some(view) = self.view_in(&last.version) else {
            return Ok(merged);
        };
        let Some(merged) = self.in_version(&merged, &last.version)? else {
            return Ok(merged);
        };
        let id = view.served.message;
        let last_named = with_named(&last.fields, id);
        let mut pruned = without(&merged, &last_named, id);
        let mut owned: HashMap<&str, Set> = HashMap::new();
        for entry in others.iter().chain([mine]) {
            owned.entry(&entry.version).or_default().add(&entry.fields);
        }
        // Its own version first: another may need what it owns to be converted.
        let mut versions: Vec<&str> = owned.keys().copied().collect();
        versions.sort_by_key(|version| (*version != last.version, *version));
        for version in versions {
            pruned = self.with_owned(&merged, pruned, &view, version, &owned[version])?;
        }
        let mut gone = with_named(&fields_of(id, &merged)?, id);
        gone.subtract(&with_named(&fields_of(id, &pruned)?, id));
        gone.intersect(&last_named);
        let left = without(&merged, &gone, id);
        if last.version == mine.version {
            return Ok(left);
        }
        converted(&view, self.view(), &left).map_err(Unapplied::Untyped)
    }

    /// Adds to a pruned object of `view` what is owned in a version.
    fn with_owned(
        &self,
        merged: &Json,
        pruned: Json,
        view: &View,
        version: &str,
        owned: &Set,
    ) -> Result<Json, Unapplied> {
        let Some(other) = self.view_in(version) else {
            return Ok(pruned);
        };
        let same = other.served.api_version() == view.served.api_version();
        let turned = |from: &View, to: &View, value: &Json| {
            if same {
                Ok(value.clone())
            } else {
                converted(from, to, value).map_err(Unapplied::Untyped)
            }
        };
        let id = other.served.message;
        let whole = turned(view, &other, merged)?;
        let pruned = turned(view, &other, &pruned)?;
        let mut gone = with_named(&fields_of(id, &whole)?, id);
        gone.subtract(&with_named(&fields_of(id, &pruned)?, id));
        gone.subtract(&with_named(owned, id));
        turned(&other, view, &without(&whole, &gone, id))
    }

    /// What `kubectl apply` set last when the client merged, where it is as it
    /// was set: no conflict for the same client.
    fn last_applied(&self) -> Option<Set> {
        let id = self.view().served.message;
        let text = object::str_at(self.shown, &["metadata", "annotations", LAST_APPLIED]);
        let last: Json = serde_json::from_str(text).ok()?;
        let version = last.get("apiVersion").and_then(Value::as_str);
        if version != Some(&self.view().served.api_version()) || typed::wrong(id, &last).is_some() {
            return None;
        }
        let mut fields = fields_of(id, &last).ok()?;
        let changes = compare::compare(id, &last, self.shown).ok()?;
        for set in [&changes.modified, &changes.added, &changes.removed] {
            fields.subtract(set);
        }
        Some(fields)
    }
}

/// An object of one version as one of another.
fn converted(from: &View, to: &View, value: &Json) -> Result<Json, String> {
    let whole = Value::Object(value.clone());
    let conform = json::conform(whole, from.served.message, Source::Store);
    let stored = conform.and_then(|decoded| from.to_stored(decoded.value));
    let mut value = stored
        .and_then(|stored| to.to_served(stored))
        .map_err(|error| error.to_string())?;
    value.insert("kind".to_owned(), to.served.kind.clone().into());
    value.insert("apiVersion".to_owned(), to.served.api_version().into());
    Ok(value)
}

/// Keeps up what an older `kubectl apply` would read.
fn renew_last_applied(object: &mut Json, configuration: &Json) {
    if object::str_at(object, &["metadata", "annotations", LAST_APPLIED]).is_empty() {
        return;
    }
    let mut last = configuration.clone();
    if let Some(Value::Object(annotations)) =
        object::meta_mut(&mut last).and_then(|meta| meta.get_mut("annotations"))
    {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{}\n", Value::Object(last));
    let meta = object::meta_mut(object);
    let Some(Value::Object(annotations)) = meta.and_then(|meta| meta.get_mut("annotations")) else {
        return;
    };
    annotations.insert(LAST_APPLIED.to_owned(), text.into());
    let length = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(length).sum::<usize>() > limits::ANNOTATIONS_BYTES_MAX {
        annotations.remove(LAST_APPLIED);
    }
}

impl Entry {
    /// By which upstream sorts its writers.
    fn key(&self) -> (&str, bool, &str, &str) {
        (&self.manager, !self.applied, &self.version, &self.sub)
    }

    /// The writer in upstream's words.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.sub.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.sub));
        }
        if !self.applied {
            text.push_str(&format!(" using {}", self.version));
        }
        text
    }
}

/// Upstream's words for conflicts.
pub fn told(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.with, one.field
        );
    }
    let mut lines: Vec<String> = Vec::new();
    let mut of = "";
    for conflict in conflicts {
        if conflict.with != of {
            of = &conflict.with;
            lines.push(format!("conflicts with {of}:"));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}
