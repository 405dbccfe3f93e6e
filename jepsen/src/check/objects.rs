//! Objects of the resource API against the store: what each answer and each
//! event of a watch says must be what the store's revisions did, by the
//! revision that it names, and not older than what had been seen before.

use super::Finding;
use super::numbers::Windows as Faults;
use crate::clock::{Nanos, seconds};
use crate::history::History;
use crate::history::object::{Object, ObjectOp, ObjectOut, ObjectReq, ObjectWatch, Told};
use crate::history::record::Event;
use std::collections::BTreeMap;

const KEYS: &str = "/registry/configmaps/";

/// What a key became at a revision.
struct Change<'a> {
    rev: i64,
    created: bool,
    /// None: it was deleted.
    value: Option<&'a str>,
    /// The revision that it had before, zero if it was not there.
    before: i64,
}

/// What the store did.
struct Truth<'a> {
    keys: BTreeMap<&'a str, Vec<Change<'a>>>,
    head: i64,
    /// By moment: the highest revision seen by then.
    known: Vec<(Nanos, i64)>,
}

impl<'a> Truth<'a> {
    fn new(history: &History, done: &'a BTreeMap<i64, Vec<Event>>) -> Truth<'a> {
        let mut keys: BTreeMap<&str, Vec<Change<'_>>> = BTreeMap::new();
        for (rev, events) in done {
            for event in events.iter().filter(|e| e.kv.key.starts_with(KEYS)) {
                let list = keys.entry(&event.kv.key).or_default();
                let last = list.last().filter(|change| change.value.is_some());
                list.push(Change {
                    rev: *rev,
                    created: event.kv.create == *rev,
                    value: (!event.delete).then_some(event.kv.value.as_str()),
                    before: last.map_or(0, |change| change.rev),
                });
            }
        }
        let shown = history.watches.iter().filter_map(|w| {
            let last = w.events.iter().map(|e| e.kv.modified).max()?;
            Some((w.at, last))
        });
        let answered = history.objects.iter().filter_map(|op| match &op.out {
            ObjectOut::Object(object) => Some((op.end, object.rev)),
            ObjectOut::List { rev, .. } => Some((op.end, *rev)),
            _ => None,
        });
        let mut known: Vec<(Nanos, i64)> = shown.chain(answered).collect();
        known.sort_unstable();
        let mut highest = 0;
        for (_, rev) in &mut known {
            highest = highest.max(*rev);
            *rev = highest;
        }
        Truth {
            keys,
            head: done.last_key_value().map_or(0, |(rev, _)| *rev),
            known,
        }
    }

    /// The highest revision that somebody had seen before this moment.
    fn known(&self, at: Nanos) -> i64 {
        let before = self.known.partition_point(|(seen, _)| *seen < at);
        before.checked_sub(1).map_or(0, |last| self.known[last].1)
    }

    fn changes(&self, namespace: &str, name: &str) -> &[Change<'a>] {
        let key = format!("{KEYS}{namespace}/{name}");
        self.keys.get(key.as_str()).map_or(&[], Vec::as_slice)
    }

    fn change(&self, object: &Object) -> Option<&Change<'a>> {
        let changes = self.changes(&object.namespace, &object.name);
        changes.iter().find(|change| change.rev == object.rev)
    }

    /// The keys of a namespace, by name.
    fn namespace<'t>(
        &'t self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'t str, &'t [Change<'a>])> + use<'t, 'a> {
        let prefix = format!("{KEYS}{namespace}/");
        self.keys.iter().filter_map(move |(key, list)| {
            let name = key.strip_prefix(prefix.as_str())?;
            Some((name, list.as_slice()))
        })
    }

    /// What lives in a namespace at a revision: name, revision, value.
    fn live(&self, namespace: &str, rev: i64) -> Vec<(&str, i64, &'a str)> {
        self.namespace(namespace)
            .filter_map(|(name, changes)| {
                let last = at(changes, rev)?;
                Some((name, last.rev, last.value?))
            })
            .collect()
    }

    /// The first change of a namespace after `after` and up to `to`.
    fn first_change(&self, namespace: &str, after: i64, to: i64) -> Option<(&str, i64)> {
        self.namespace(namespace)
            .filter_map(|(name, changes)| {
                let next = changes.partition_point(|change| change.rev <= after);
                let next = changes.get(next).filter(|change| change.rev <= to)?;
                Some((name, next.rev))
            })
            .min_by_key(|(_, rev)| *rev)
    }
}

/// A key's last change up to a revision.
fn at<'t, 'a>(changes: &'t [Change<'a>], rev: i64) -> Option<&'t Change<'a>> {
    let after = changes.partition_point(|change| change.rev <= rev);
    changes.get(after.checked_sub(1)?)
}

/// Whether a stored object has this value; bytes that are no text are kept as
/// hexadecimal digits.
fn has_value(stored: &str, value: &str) -> bool {
    let digits: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    stored.contains(value) || stored.contains(&digits)
}

pub fn check(history: &History, done: &BTreeMap<i64, Vec<Event>>) -> Finding {
    let mut finding = Finding::new("objects");
    let truth = Truth::new(history, done);
    let faults = Faults::of(&history.faults);
    let (mut written, mut listed) = (0, 0);
    for op in &history.objects {
        let write = matches!(op.req, ObjectReq::Create { .. } | ObjectReq::Update { .. });
        written += usize::from(write && matches!(op.out, ObjectOut::Object(_)));
        listed += usize::from(matches!(op.out, ObjectOut::List { .. }));
        if let Some(why) = judge(op, &truth) {
            finding.violation(
                format!(
                    "a{} at {} s, {:?}: {why}",
                    op.server,
                    seconds(op.start),
                    op.req
                ),
                &[],
            );
        }
    }
    deletions(history, &truth, &mut finding);
    let (mut answered, mut told, mut bookmarks) = (0, 0, 0);
    for watch in &history.object_watches {
        answered += usize::from(watch.answered);
        told += watch.told.len();
        bookmarks += watch
            .told
            .iter()
            .filter(|(kind, _)| *kind == Told::Bookmark)
            .count();
        let why = followed(watch, &truth).or_else(|| stalled(watch, &faults));
        if let Some(why) = why {
            finding.violation(
                format!(
                    "the watch of {} on a{} from revision {} on, begun at {} s: {why}",
                    watch.namespace,
                    watch.server,
                    watch.from,
                    seconds(watch.start)
                ),
                &[],
            );
        }
    }
    finding.summary = format!(
        "operations={} written={written} lists={listed} watches={} answered={answered} told={told} bookmarks={bookmarks}",
        history.objects.len(),
        history.object_watches.len()
    );
    finding.rests_on("objects written", written);
    finding.rests_on("lists", listed);
    finding.rests_on("watches that told the last object", answered);
    finding.rests_on("events told", told);
    finding
}

fn judge(op: &ObjectOp, truth: &Truth<'_>) -> Option<String> {
    let known = truth.known(op.start);
    match (&op.req, &op.out) {
        (ObjectReq::Create { value, .. }, ObjectOut::Object(object)) => {
            written(object, value, known, truth, |change| match change.created {
                true => None,
                false => Some("the object was there already".into()),
            })
        }
        (ObjectReq::Update { value, rev, .. }, ObjectOut::Object(object)) => {
            written(object, value, known, truth, |change| {
                let other = *rev != 0 && change.before != *rev;
                other.then(|| {
                    format!(
                        "it was given revision {rev} and took the place of {}",
                        change.before
                    )
                })
            })
        }
        (ObjectReq::Get { .. }, ObjectOut::Object(object)) => {
            if let Some(why) = differs(object, truth) {
                return Some(why);
            }
            let changes = truth.changes(&object.namespace, &object.name);
            let next = changes.iter().find(|change| change.rev > object.rev);
            let next = next.filter(|change| change.rev <= known)?;
            Some(format!(
                "it gave revision {}, though the change at {} had been seen before",
                object.rev, next.rev
            ))
        }
        (ObjectReq::Get { namespace, name }, ObjectOut::Refused { code: 404, .. }) => {
            let changes = truth.changes(namespace, name);
            let lives = at(changes, known).is_some_and(|change| change.value.is_some());
            let later = changes
                .iter()
                .any(|change| change.rev > known && change.value.is_none());
            (lives && !later).then(|| "it is not found, though it was there all the time".into())
        }
        (ObjectReq::List { namespace, .. }, ObjectOut::List { rev, items }) => {
            listed(namespace, *rev, items, known, truth)
        }
        _ => None,
    }
}

/// A write that was acknowledged.
fn written(
    object: &Object,
    value: &str,
    known: i64,
    truth: &Truth<'_>,
    more: impl Fn(&Change<'_>) -> Option<String>,
) -> Option<String> {
    if object.value != value {
        return Some(format!("it answered with the value {:?}", object.value));
    }
    if let Some(why) = differs(object, truth) {
        return Some(why);
    }
    if object.rev <= known {
        return Some(format!(
            "it made revision {}, and {known} had been seen before",
            object.rev
        ));
    }
    more(truth.change(object)?)
}

/// What is wrong with an object as it is shown, by the revision that it names.
fn differs(object: &Object, truth: &Truth<'_>) -> Option<String> {
    match truth.change(object).and_then(|change| change.value) {
        None => Some(format!(
            "revision {} did not write {:?}",
            object.rev, object.name
        )),
        Some(stored) if !has_value(stored, &object.value) => Some(format!(
            "revision {} wrote another value than {:?}",
            object.rev, object.value
        )),
        Some(_) => None,
    }
}

fn listed(
    namespace: &str,
    rev: i64,
    items: &[Object],
    known: i64,
    truth: &Truth<'_>,
) -> Option<String> {
    if rev < 0 {
        return Some(format!(
            "its pages are of several revisions, one of them {}",
            -rev
        ));
    }
    if rev < known {
        return Some(format!(
            "it is of revision {rev}, and {known} had been seen before"
        ));
    }
    if rev > truth.head {
        return Some(format!(
            "it is of revision {rev}; the last one is {}",
            truth.head
        ));
    }
    same(items, &truth.live(namespace, rev)).map(|why| format!("at revision {rev} {why}"))
}

/// How objects that are shown differ from those that there are.
fn same(shown: &[Object], live: &[(&str, i64, &str)]) -> Option<String> {
    let mut shown: Vec<&Object> = shown.iter().collect();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    let names = shown.iter().map(|object| object.name.as_str());
    if !names.clone().eq(live.iter().map(|(name, ..)| *name)) {
        let live: Vec<&str> = live.iter().map(|(name, ..)| *name).collect();
        return Some(format!(
            "there were {live:?}, not {:?}",
            names.collect::<Vec<_>>()
        ));
    }
    let pairs = shown.iter().zip(live);
    let other = pairs
        .into_iter()
        .find(|(object, (_, rev, value))| object.rev != *rev || !has_value(value, &object.value));
    other.map(|(object, (_, rev, _))| {
        format!(
            "{:?} is shown as of revision {}, and is of {rev}",
            object.name, object.rev
        )
    })
}

/// Each deletion that was acknowledged was one.
fn deletions(history: &History, truth: &Truth<'_>, finding: &mut Finding) {
    let mut acknowledged: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for op in &history.objects {
        if let (ObjectReq::Delete { namespace, name }, ObjectOut::Deleted) = (&op.req, &op.out) {
            *acknowledged.entry((namespace, name)).or_default() += 1;
        }
    }
    for ((namespace, name), count) in acknowledged {
        let changes = truth.changes(namespace, name);
        let real = changes
            .iter()
            .filter(|change| change.value.is_none())
            .count();
        if count > real {
            finding.violation(
                format!("{namespace}/{name} was deleted {real} times; {count} were acknowledged"),
                &[],
            );
        }
    }
}

/// The first thing that is wrong with what a watch told.
fn followed(watch: &ObjectWatch, truth: &Truth<'_>) -> Option<String> {
    let mut told = watch.told.iter();
    let mut last = watch.from;
    if watch.from == 0 {
        let end = watch
            .told
            .iter()
            .position(|(kind, _)| *kind == Told::InitialEnd)?;
        let first: Vec<Object> = told
            .by_ref()
            .take(end)
            .map(|(_, object)| object.clone())
            .collect();
        last = watch.told[end].1.rev;
        let known = truth.known(watch.start);
        if let Some(why) = listed(&watch.namespace, last, &first, known, truth) {
            return Some(format!("of what was there first {why}"));
        }
    }
    for (kind, object) in told {
        match kind {
            Told::Error => return None,
            Told::Bookmark | Told::InitialEnd => {
                // One for what was there first may be of an older moment.
                let missed = truth.first_change(&watch.namespace, last, object.rev);
                if let Some((name, rev)) = missed {
                    return Some(format!(
                        "a bookmark at {} came before {name:?} at {rev}",
                        object.rev
                    ));
                }
                last = last.max(object.rev);
            }
            Told::Added | Told::Modified | Told::Deleted => {
                if let Some(why) = event(*kind, object, last, watch, truth) {
                    return Some(why);
                }
                last = object.rev;
            }
        }
    }
    None
}

fn event(
    kind: Told,
    object: &Object,
    last: i64,
    watch: &ObjectWatch,
    truth: &Truth<'_>,
) -> Option<String> {
    let rev = object.rev;
    if rev <= last {
        return Some(format!(
            "revision {rev} is told after everything up to {last} was"
        ));
    }
    let missed = truth.first_change(&watch.namespace, last, rev - 1);
    if let Some((name, missed)) = missed {
        return Some(format!("{name:?} at {missed} was left out before {rev}"));
    }
    let Some(change) = truth.change(object) else {
        return Some(format!("revision {rev} did nothing to {:?}", object.name));
    };
    let right = match change.value {
        None => Told::Deleted,
        Some(_) if change.created => Told::Added,
        Some(_) => Told::Modified,
    };
    if kind != right {
        return Some(format!(
            "{:?} at {rev} is told as {kind:?}; it was {right:?}",
            object.name
        ));
    }
    match kind {
        Told::Deleted => None,
        _ => differs(object, truth),
    }
}

/// Whether a watch broke off or fell silent with no fault about.
fn stalled(watch: &ObjectWatch, faults: &Faults) -> Option<String> {
    if let Some(error) = &watch.broken {
        let about = faults.overlap(watch.start, watch.end);
        return (!about).then(|| format!("it broke off without a fault: {error}"));
    }
    let silent = watch.asked > 0 && !watch.answered;
    let ended = watch
        .told
        .last()
        .is_some_and(|(kind, _)| *kind == Told::Error);
    let about = faults.overlap(watch.asked, watch.end);
    (silent && !ended && !about).then(|| {
        format!(
            "it did not tell of an object that was written at {} s",
            seconds(watch.asked)
        )
    })
}
