//! Writes histories: requests run on the sequential model one after the other
//! at the times given, so a script is valid until a test bends it.

use crate::check::model::Model;
use crate::clock::Nanos;
use crate::history::History;
use crate::history::op::{
    Cmp, Compare, DeleteReq, FailClass, Load, Op, Outcome, PutReq, RangeReq, Request, Target,
    TxnOp, TxnReq,
};
use crate::history::record::{Event, WatchBatch};

#[derive(Default)]
pub struct Script {
    pub history: History,
    pub model: Model,
    pub load: Option<Load>,
    /// Every write also appears in a watch of member 0 at its end.
    pub watched: bool,
}

impl Script {
    pub fn watched() -> Script {
        Script {
            watched: true,
            ..Script::default()
        }
    }

    pub fn of(load: Load) -> Script {
        Script {
            load: Some(load),
            ..Script::default()
        }
    }

    fn push(&mut self, start: Nanos, end: Nanos, req: Request, out: Outcome) -> usize {
        let id = self.history.ops.len();
        let load = self.load.unwrap_or(Load::Register);
        let op = Op {
            id: id as u64,
            client: 0,
            member: 0,
            incarnation: 1,
            load,
            start,
            end,
            req,
            out,
            login: None,
        };
        self.history.ops.push(op);
        id
    }

    fn run(&mut self, req: &Request, at: Nanos) -> Outcome {
        let effect = self.model.apply(req);
        if self.watched && !effect.events.is_empty() {
            self.show(0, at, effect.events);
        }
        Outcome::Ok {
            rev: self.model.rev,
            reply: effect.reply,
        }
    }

    pub fn show(&mut self, member: usize, at: Nanos, events: Vec<Event>) {
        let rev = self.model.rev;
        self.history.watches.push(WatchBatch {
            member,
            at,
            rev,
            events,
        });
    }

    /// An operation that succeeds, at its place in the order of the calls.
    pub fn ok(&mut self, start: Nanos, end: Nanos, req: Request) -> usize {
        let out = self.run(&req, end);
        self.push(start, end, req, out)
    }

    /// Takes effect now, but its outcome is unknown to the client.
    pub fn lost(&mut self, start: Nanos, end: Nanos, req: Request) -> usize {
        self.run(&req, end);
        self.unknown(start, end, req)
    }

    /// Unknown, and without effect so far.
    pub fn unknown(&mut self, start: Nanos, end: Nanos, req: Request) -> usize {
        self.push(
            start,
            end,
            req,
            Outcome::Unknown {
                error: "timeout".into(),
            },
        )
    }

    pub fn fail(&mut self, start: Nanos, end: Nanos, req: Request, class: FailClass) -> usize {
        self.push(
            start,
            end,
            req,
            Outcome::Fail {
                class,
                error: "refused".into(),
            },
        )
    }

    pub fn op(&mut self, i: usize) -> &mut Op {
        &mut self.history.ops[i]
    }

    /// Changes the header revision of a reply.
    pub fn set_rev(&mut self, i: usize, to: i64) {
        match &mut self.op(i).out {
            Outcome::Ok { rev, .. } => *rev = to,
            other => panic!("no reply: {other:?}"),
        }
    }
}

pub fn put(key: &str, value: &str) -> Request {
    Request::Put(PutReq {
        key: key.into(),
        value: value.into(),
        prev: false,
        lease: 0,
    })
}

pub fn put_prev(key: &str, value: &str) -> Request {
    Request::Put(PutReq {
        key: key.into(),
        value: value.into(),
        prev: true,
        lease: 0,
    })
}

pub fn get(key: &str) -> Request {
    get_at(key, 0)
}

pub fn get_at(key: &str, rev: i64) -> Request {
    Request::Range(RangeReq {
        key: key.into(),
        rev,
        ..RangeReq::default()
    })
}

pub fn stale(key: &str) -> Request {
    Request::Range(RangeReq {
        key: key.into(),
        serializable: true,
        ..RangeReq::default()
    })
}

pub fn delete(key: &str) -> Request {
    Request::Delete(DeleteReq {
        key: key.into(),
        prev: true,
        ..DeleteReq::default()
    })
}

pub fn swap(key: &str, from: &str, to: &str) -> Request {
    Request::Txn(TxnReq {
        compare: vec![Compare {
            key: key.into(),
            cmp: Cmp::Equal,
            target: Target::Value(from.into()),
        }],
        then: vec![TxnOp::Put(PutReq {
            key: key.into(),
            value: to.into(),
            prev: false,
            lease: 0,
        })],
        or_else: vec![TxnOp::Range(RangeReq {
            key: key.into(),
            ..RangeReq::default()
        })],
    })
}

pub fn guarded(key: &str, modified: i64, value: &str) -> Request {
    Request::Txn(TxnReq {
        compare: vec![Compare {
            key: key.into(),
            cmp: Cmp::Equal,
            target: Target::Mod(modified),
        }],
        then: vec![TxnOp::Put(PutReq {
            key: key.into(),
            value: value.into(),
            prev: false,
            lease: 0,
        })],
        or_else: Vec::new(),
    })
}

pub fn guarded_delete(key: &str, modified: i64) -> Request {
    Request::Txn(TxnReq {
        compare: vec![Compare {
            key: key.into(),
            cmp: Cmp::Equal,
            target: Target::Mod(modified),
        }],
        then: vec![TxnOp::Delete(DeleteReq {
            key: key.into(),
            ..DeleteReq::default()
        })],
        or_else: Vec::new(),
    })
}

pub fn both(a: (&str, &str), b: (&str, &str)) -> Request {
    let put = |(k, v): (&str, &str)| {
        TxnOp::Put(PutReq {
            key: k.into(),
            value: v.into(),
            prev: true,
            lease: 0,
        })
    };
    Request::Txn(TxnReq {
        then: vec![put(a), put(b)],
        ..TxnReq::default()
    })
}
