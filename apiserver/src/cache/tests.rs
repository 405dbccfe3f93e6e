use serde_json::{Value, json};

use super::*;
use crate::{
    select::{Fields, Labels},
    store::{Batch, Change},
};

fn pods() -> Arc<Resource> {
    crate::kinds::built_in().own("", "v1", "pods").clone()
}

fn stored(labels: &Value, phase: &str) -> Bytes {
    let value = json!({"metadata": {"name": "a", "namespace": "n", "labels": labels}, "status": {"phase": phase}});
    let Value::Object(mut value) = value else {
        panic!("an object")
    };
    object::to_store(&pods(), &mut value)
}

fn change(key: &str, value: Option<Bytes>, revision: i64) -> Change {
    Change {
        key: format!("/registry/pods/{key}").into_bytes().into(),
        value,
        revision,
    }
}

fn apply(cache: &Cache, changes: Vec<Change>) {
    let revision = changes.last().map_or(0, |change| change.revision);
    cache.apply(&Batch { changes, revision }).expect("objects");
}

fn parsed(frame: &Bytes) -> Value {
    assert!(frame.ends_with(b"\n"));
    serde_json::from_slice(frame).expect("an event")
}

/// The changes at a cursor, as [`Cache::read`] gives them.
fn read(cache: &Cache, cursor: Cursor) -> Option<(VecDeque<Arc<Event>>, Cursor, i64)> {
    let mut events = VecDeque::new();
    let (next, revision) = cache.read(cursor, &mut events)?;
    Some((events, next, revision))
}

#[test]
fn an_event_and_its_object_share_their_bytes() {
    let cache = Cache::empty(pods());
    apply(
        &cache,
        vec![change("n/a", Some(stored(&json!({}), "Pending")), 5)],
    );
    let entry = cache.get("n/a").expect("it is cached");
    let (events, _, revision) = read(&cache, Cursor(0)).expect("the history is whole");
    assert_eq!(revision, 5);
    let event = parsed(&events[0].frame(Kind::Added));
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], "5");
    let object: Value = serde_json::from_slice(&entry.json()).expect("an object");
    assert_eq!(event["object"], object);
    assert!(
        events[0]
            .frame(Kind::Added)
            .as_ptr_range()
            .contains(&entry.json().as_ptr())
    );
}

#[test]
fn a_deletion_shows_the_last_state_at_its_own_revision() {
    let cache = Cache::empty(pods());
    apply(
        &cache,
        vec![change("n/a", Some(stored(&json!({}), "Running")), 999)],
    );
    apply(&cache, vec![change("n/a", None, 1_000)]);
    let (events, cursor, _) = read(&cache, Cursor(1)).expect("the history is whole");
    let event = parsed(&events[0].frame(Kind::Deleted));
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], "1000");
    assert_eq!(event["object"]["status"]["phase"], "Running");
    assert!(cache.get("n/a").is_none());
    assert!(read(&cache, cursor).expect("the end").0.is_empty());
}

#[test]
fn objects_move_in_and_out_of_a_selection() {
    let cache = Cache::empty(pods());
    let selector = Selector {
        labels: Labels::parse("app=web").expect("a selector"),
        fields: Fields::parse("status.phase=Running", &pods()).expect("a selector"),
    };
    for (revision, (labels, phase)) in (1..).zip([
        (json!({"app": "web"}), "Pending"),
        (json!({"app": "web"}), "Running"),
        (json!({"app": "web", "x": "y"}), "Running"),
        (json!({"app": "db"}), "Running"),
        (json!({"app": "db"}), "Failed"),
    ]) {
        apply(
            &cache,
            vec![change("n/a", Some(stored(&labels, phase)), revision)],
        );
    }
    let (events, ..) = read(&cache, Cursor(0)).expect("the history is whole");
    let seen: Vec<_> = events
        .iter()
        .map(|event| event.seen(&pods(), &selector))
        .collect();
    assert_eq!(
        seen,
        [
            None,
            Some(Kind::Added),
            Some(Kind::Modified),
            Some(Kind::Deleted),
            None
        ]
    );
    let added = parsed(&events[1].frame(Kind::Added));
    assert_eq!(
        (&added["type"], &added["object"]["status"]["phase"]),
        (&json!("ADDED"), &json!("Running"))
    );
    // It left the selection: what the watcher last saw, at the change's revision.
    let left = parsed(&events[3].frame(Kind::Deleted));
    assert_eq!(left["object"]["metadata"]["resourceVersion"], "4");
    assert_eq!(
        left["object"]["metadata"]["labels"],
        json!({"app": "web", "x": "y"})
    );
}

#[test]
fn history_is_bounded_and_says_where_it_begins() {
    let cache = Cache::empty(pods());
    let value = stored(&json!({}), "Running");
    let last = limits::HISTORY_EVENTS_MAX as i64 + 10;
    for revision in 1..=last {
        apply(&cache, vec![change("n/a", Some(value.clone()), revision)]);
    }
    assert!(read(&cache, Cursor(0)).is_none());
    assert!(cache.after(9).is_none());
    let cursor = cache.after(10).expect("the oldest that is left");
    let (events, ..) = read(&cache, cursor).expect("events");
    assert_eq!(events[0].revision, 11);
    assert_eq!(events.len(), limits::WATCH_TURN);
}

#[test]
fn a_repeated_change_is_no_event() {
    let cache = Cache::empty(pods());
    let value = stored(&json!({}), "Running");
    apply(&cache, vec![change("n/a", Some(value.clone()), 3)]);
    apply(&cache, vec![change("n/a", Some(value), 3)]);
    assert_eq!(read(&cache, Cursor(0)).expect("events").0.len(), 1);
}

#[test]
fn scopes_are_whole_namespaces() {
    let cache = Cache::empty(pods());
    let value = stored(&json!({}), "Running");
    apply(
        &cache,
        ["n/a", "n/b", "n2/a", "m/a"]
            .map(|key| change(key, Some(value.clone()), 3))
            .into(),
    );
    let keys = |scope: &str| {
        cache
            .snapshot(scope)
            .entries
            .iter()
            .map(|entry| entry.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("n/"), ["n/a", "n/b"]);
    assert_eq!(keys("").len(), 4);
}

#[test]
fn a_value_that_cannot_be_decoded_is_no_deletion() {
    let cache = Cache::empty(pods());
    apply(
        &cache,
        vec![change("n/a", Some(stored(&json!({}), "Pending")), 5)],
    );
    let cursor = cache.snapshot("").cursor;
    let garbage = Bytes::from_static(b"k8s\0garbage");
    let batch = Batch {
        changes: vec![change("n/a", Some(garbage), 6)],
        revision: 6,
    };
    let error = cache.apply(&batch).expect_err("it is no pod");
    assert!(error.to_string().contains("/registry/pods/n/a"), "{error}");
    // Nothing was told, and the object is as it was.
    let (events, ..) = read(&cache, cursor).expect("the history is whole");
    assert!(events.is_empty());
    assert_eq!(cache.get("n/a").expect("still there").revision, 5);
    // The feed fails the cache: readers begin anew, nothing is shown.
    cache.fail();
    assert!(read(&cache, cursor).is_none());
    assert!(cache.after(5).is_none());
    assert_eq!(cache.revision(), 0);
}

/// Pods of nodes, as the store has them.
fn bound(name: &str, node: &str) -> Bytes {
    let value = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": node}});
    let Value::Object(mut value) = value else {
        panic!("an object")
    };
    object::to_store(&pods(), &mut value)
}

fn of_node(node: &str) -> Selector {
    Selector {
        fields: Fields::parse(&format!("spec.nodeName={node}"), &pods()).expect("a selector"),
        labels: Labels::default(),
    }
}

#[test]
fn who_follows_one_value_reads_its_changes_alone() {
    let cache = Cache::empty(pods());
    apply(&cache, vec![change("n/a", Some(bound("a", "x")), 2)]);
    let place = cache.follow(&of_node("x"));
    let mut events = VecDeque::new();
    let mut revisions = |cursor| {
        let (next, revision, more) = cache.read_for(&place, cursor, &mut events)?;
        let all: Vec<i64> = events.iter().map(|event| event.revision).collect();
        Some((all, next, revision, more))
    };
    let (all, next, ..) = revisions(Cursor(0)).expect("the history is whole");
    assert_eq!(all, [2], "those before it came, too");
    apply(
        &cache,
        vec![
            change("n/b", Some(bound("b", "y")), 3),
            change("n/c", Some(bound("c", "x")), 4),
            // Out of its selection, and into it.
            change("n/a", Some(bound("a", "y")), 5),
            change("n/b", Some(bound("b", "x")), 6),
            change("n/a", None, 7),
        ],
    );
    let (all, next, revision, more) = revisions(next).expect("the history is whole");
    assert_eq!((all, revision, more), (vec![4, 5, 6], 7, false));
    let many = (0..limits::HISTORY_EVENTS_MAX as i64)
        .map(|turn| change("n/d", Some(bound("d", "y")), 8 + turn))
        .collect();
    apply(&cache, many);
    let (all, next, ..) = revisions(next).expect("nothing of its own is gone");
    assert_eq!(all, Vec::<i64>::new());
    assert!(revisions(Cursor(0)).is_none(), "some are gone");
    cache.fail();
    assert!(revisions(next).is_none(), "all are gone");
}
