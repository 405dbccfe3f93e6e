//! Objects of the resource API.

use super::{Finding, accepted, rejected};
use crate::check::objects::check;
use crate::check::replay::replay;
use crate::history::History;
use crate::history::object::{Object, ObjectOp, ObjectOut, ObjectReq, ObjectWatch, Told};
use crate::history::op::Kv;
use crate::history::record::{Event, Fault, Injected, WatchBatch};

const SPACE: &str = "jepsen-a";

fn key(name: &str) -> String {
    format!("/registry/configmaps/{SPACE}/{name}")
}

fn put(rev: i64, create: i64, name: &str, value: &str) -> Event {
    Event {
        kv: Kv {
            key: key(name),
            value: format!("k8s.{value}.end"),
            create,
            modified: rev,
            version: 1 + i64::from(create != rev),
            lease: 0,
        },
        delete: false,
        prev: None,
    }
}

fn gone(rev: i64, name: &str) -> Event {
    Event {
        kv: Kv {
            key: key(name),
            modified: rev,
            ..Kv::default()
        },
        delete: true,
        prev: None,
    }
}

fn object(name: &str, rev: i64, value: &str) -> Object {
    Object {
        namespace: SPACE.into(),
        name: name.into(),
        rev,
        value: value.into(),
    }
}

fn op(start: u64, end: u64, req: ObjectReq, out: ObjectOut) -> ObjectOp {
    ObjectOp {
        id: start,
        server: 0,
        start,
        end,
        req,
        out,
    }
}

fn list(start: u64, rev: i64, items: Vec<Object>) -> ObjectOp {
    let limit = 0;
    let namespace = SPACE.to_string();
    let out = ObjectOut::List { rev, items };
    op(start, start + 5, ObjectReq::List { namespace, limit }, out)
}

/// a is written at 2, b at 3, a again at 4, b deleted at 5; each seen at ten
/// times its revision.
fn stored() -> History {
    let events = [
        put(2, 2, "a", "v1"),
        put(3, 3, "b", "v2"),
        put(4, 2, "a", "v3"),
        gone(5, "b"),
    ];
    let watches = events.into_iter().map(|event| WatchBatch {
        member: 0,
        at: 10 * event.kv.modified as u64,
        rev: event.kv.modified,
        events: vec![event],
    });
    History {
        watches: watches.collect(),
        ..History::default()
    }
}

fn judged(mut history: History, ops: Vec<ObjectOp>, watches: Vec<ObjectWatch>) -> Finding {
    history.objects = ops;
    // Whatever else is judged, the store is read through these servers.
    let none = ObjectReq::List {
        namespace: "none".into(),
        limit: 0,
    };
    let error = String::new();
    history
        .objects
        .push(op(0, 1, none, ObjectOut::Unknown { error }));
    history.object_watches = watches;
    let replayed = replay(&history);
    check(&history, &replayed.done)
}

fn update(rev: i64) -> ObjectReq {
    ObjectReq::Update {
        namespace: SPACE.into(),
        name: "a".into(),
        value: "v3".into(),
        rev,
    }
}

#[test]
fn what_the_store_did_is_accepted() {
    let create = ObjectReq::Create {
        namespace: SPACE.into(),
        name: "a".into(),
        value: "v1".into(),
    };
    let get = |name: &str| ObjectReq::Get {
        namespace: SPACE.into(),
        name: name.into(),
    };
    let refused = |code| ObjectOut::Refused {
        code,
        reason: String::new(),
    };
    let ops = vec![
        op(1, 25, create, ObjectOut::Object(object("a", 2, "v1"))),
        op(31, 45, update(2), ObjectOut::Object(object("a", 4, "v3"))),
        op(31, 45, update(2), refused(409)),
        op(41, 42, get("a"), ObjectOut::Object(object("a", 4, "v3"))),
        op(31, 55, get("b"), refused(404)),
        list(31, 3, vec![object("a", 2, "v1"), object("b", 3, "v2")]),
        list(51, 5, vec![object("a", 4, "v3")]),
    ];
    accepted(&judged(stored(), ops, Vec::new()));
}

#[test]
fn answers_that_cannot_be_are_rejected() {
    let stale = list(51, 4, vec![object("a", 4, "v3"), object("b", 3, "v2")]);
    rejected(
        &judged(stored(), vec![stale], vec![]),
        "of revision 4, and 5 had been seen",
    );
    let short = list(31, 3, vec![object("a", 2, "v1")]);
    rejected(
        &judged(stored(), vec![short], vec![]),
        "at revision 3 there were",
    );
    let pages = list(31, -3, vec![]);
    rejected(&judged(stored(), vec![pages], vec![]), "several revisions");
    let lost = op(31, 45, update(2), ObjectOut::Object(object("a", 5, "v3")));
    rejected(
        &judged(stored(), vec![lost], vec![]),
        "revision 5 did not write \"a\"",
    );
    let blind = op(31, 45, update(3), ObjectOut::Object(object("a", 4, "v3")));
    rejected(
        &judged(stored(), vec![blind], vec![]),
        "it was given revision 3 and took the place of 2",
    );
    let get = ObjectReq::Get {
        namespace: SPACE.into(),
        name: "a".into(),
    };
    let old = op(41, 42, get, ObjectOut::Object(object("a", 2, "v1")));
    rejected(
        &judged(stored(), vec![old], vec![]),
        "the change at 4 had been seen before",
    );
    let delete = |start| {
        let name = "b".to_string();
        let namespace = SPACE.to_string();
        op(
            start,
            start + 1,
            ObjectReq::Delete { namespace, name },
            ObjectOut::Deleted,
        )
    };
    rejected(
        &judged(stored(), vec![delete(44), delete(46)], vec![]),
        "was deleted 1 times; 2 were acknowledged",
    );
}

/// From revision 2 on, all that came.
fn watch() -> ObjectWatch {
    ObjectWatch {
        start: 20,
        end: 60,
        namespace: SPACE.into(),
        from: 2,
        told: vec![
            (Told::Added, object("b", 3, "v2")),
            (Told::Modified, object("a", 4, "v3")),
            (Told::Bookmark, object("", 4, "")),
            (Told::Deleted, object("b", 5, "v2")),
        ],
        asked: 45,
        answered: true,
        ..ObjectWatch::default()
    }
}

#[test]
fn a_valid_watch_is_accepted() {
    accepted(&judged(stored(), vec![], vec![watch()]));
    let first = ObjectWatch {
        from: 0,
        told: vec![
            (Told::Added, object("a", 2, "v1")),
            (Told::Added, object("b", 3, "v2")),
            (Told::InitialEnd, object("", 3, "")),
            (Told::Modified, object("a", 4, "v3")),
        ],
        ..watch()
    };
    accepted(&judged(stored(), vec![], vec![first.clone()]));
    let mut less = first;
    less.told.remove(0);
    rejected(
        &judged(stored(), vec![], vec![less]),
        "of what was there first at revision 3",
    );
}

#[test]
fn watches_that_lie_are_rejected() {
    let bent = |bend: fn(&mut ObjectWatch)| {
        let mut watch = watch();
        bend(&mut watch);
        judged(stored(), vec![], vec![watch])
    };
    let lost = bent(|w| drop(w.told.remove(1)));
    rejected(&lost, "a bookmark at 4 came before \"a\" at 4");
    rejected(
        &bent(|w| w.told[2].1.rev = 5),
        "a bookmark at 5 came before \"b\" at 5",
    );
    let left_out = bent(|w| drop(w.told.drain(0..1)));
    rejected(&left_out, "\"b\" at 3 was left out before 4");
    rejected(
        &bent(|w| w.told[1].0 = Told::Deleted),
        "is told as Deleted; it was Modified",
    );
    let again = bent(|w| w.told.insert(1, (Told::Added, object("b", 3, "v2"))));
    rejected(&again, "revision 3 is told after everything up to 3");
}

#[test]
fn a_watch_that_stalls_is_rejected() {
    let silent = ObjectWatch {
        answered: false,
        ..watch()
    };
    let why = "it did not tell of an object that was written";
    rejected(&judged(stored(), vec![], vec![silent.clone()]), why);
    let broken = ObjectWatch {
        broken: Some("status 500".into()),
        ..watch()
    };
    rejected(
        &judged(stored(), vec![], vec![broken.clone()]),
        "it broke off without a fault",
    );
    let mut history = stored();
    history.faults = vec![Fault {
        kind: "kill-apiserver".into(),
        members: Vec::new(),
        hit_leader: false,
        start: 50,
        end: 55,
        injected: Injected::Installed,
        kills: 1,
        detail: String::new(),
    }];
    accepted(&judged(history, vec![], vec![silent, broken]));
}
