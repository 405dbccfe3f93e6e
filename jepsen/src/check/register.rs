//! Registers, each key by itself and without a look at any revision, so that
//! a server that lies about revisions cannot hide behind them.

use super::wgl::{ABSENT, Action, Answer, Entry, Value, search};
use super::{Finding, Verdict};
use crate::history::History;
use crate::history::op::{
    Kv, Load, Op, Outcome, RangeReply, RangeReq, Reply, Request, Target, TxnOp, TxnOpReply,
};
use std::collections::BTreeMap;

/// Texts by number, so that the search compares numbers.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, Value>,
}

impl Names {
    fn number(&mut self, text: &str) -> Value {
        let next = self.numbers.len() as Value + 1;
        *self.numbers.entry(text.to_string()).or_insert(next)
    }

    fn of(&mut self, kv: Option<&Kv>) -> Value {
        kv.map_or(ABSENT, |kv| self.number(&kv.value))
    }

    fn text(&self, value: Value) -> String {
        let found = self.numbers.iter().find(|(_, n)| **n == value);
        found.map_or("absent".into(), |(text, _)| format!("{text:?}"))
    }
}

#[derive(Default)]
struct Key {
    names: Names,
    entries: Vec<Entry>,
}

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("registers");
    let mut keys: BTreeMap<&str, Key> = BTreeMap::new();
    for op in history.ops.iter().filter(|op| op.load == Load::Register) {
        let Some(name) = single_key(&op.req) else {
            continue;
        };
        let key = keys.entry(name).or_default();
        if let Some(action) = action(op, &mut key.names) {
            let end = op.revision().map(|_| op.end);
            key.entries.push(Entry {
                id: op.id,
                start: op.start,
                end,
                action,
            });
        }
    }
    let mut operations = 0;
    let mut longest = 0;
    for (name, key) in &keys {
        operations += key.entries.len();
        longest = longest.max(key.entries.len());
        match search(&key.entries) {
            Answer::Linearizable => {}
            Answer::Impossible {
                placed,
                state,
                stuck,
            } => {
                let why = format!(
                    "key {name:?} is not linearizable: in the longest order found, of {placed} operations, its value is {}, and none of the operations listed, one of which must come next, agrees with that",
                    key.names.text(state)
                );
                finding.violation(why, &stuck);
            }
            Answer::Undecided => {
                finding.incomplete(format!("key {name:?}: the search was given up"))
            }
        }
    }
    finding.summary = format!(
        "keys={} operations={operations} longest={longest}",
        keys.len()
    );
    finding.rests_on("operations on registers", operations);
    if finding.verdict == Verdict::Pass
        && history.ops.iter().any(|o| o.load == Load::Register)
        && operations == 0
    {
        finding.incomplete("no register operation succeeded".into());
    }
    finding
}

/// The only key a request touches, if it is one of the register workload's.
fn single_key(req: &Request) -> Option<&str> {
    match req {
        Request::Range(r) if r.end.is_empty() => Some(&r.key),
        Request::Put(r) => Some(&r.key),
        Request::Delete(r) if r.end.is_empty() => Some(&r.key),
        Request::Txn(t) => match t.then.first()? {
            TxnOp::Range(RangeReq { key, .. }) => Some(key),
            TxnOp::Put(r) => Some(&r.key),
            TxnOp::Delete(r) => Some(&r.key),
        },
        _ => None,
    }
}

/// The operation as the search sees it; none if it certainly had no effect.
fn action(op: &Op, names: &mut Names) -> Option<Action> {
    match (&op.req, &op.out) {
        (_, Outcome::Fail { .. }) => None,
        (
            Request::Range(_),
            Outcome::Ok {
                reply: Reply::Range(r),
                ..
            },
        ) => Some(get(r, names)),
        (
            Request::Put(q),
            Outcome::Ok {
                reply: Reply::Put(r),
                ..
            },
        ) => {
            let prev = q.prev.then(|| names.of(r.prev.as_ref()));
            Some(Action::Put {
                value: names.number(&q.value),
                prev,
            })
        }
        (Request::Put(q), Outcome::Unknown { .. }) => Some(Action::Put {
            value: names.number(&q.value),
            prev: None,
        }),
        (
            Request::Delete(q),
            Outcome::Ok {
                reply: Reply::Delete(r),
                ..
            },
        ) => {
            let prev = q.prev.then(|| names.of(r.prev.first()));
            Some(Action::Delete {
                deleted: Some(r.deleted == 1),
                prev,
            })
        }
        (Request::Delete(_), Outcome::Unknown { .. }) => Some(Action::Delete {
            deleted: None,
            prev: None,
        }),
        (Request::Txn(t), out) => match (t.compare.first().map(|c| &c.target), t.then.first()) {
            (Some(Target::Value(from)), Some(TxnOp::Put(put))) => {
                Some(swap(from, &put.value, out, names))
            }
            (None, Some(TxnOp::Range(_))) => match out {
                Outcome::Ok {
                    reply: Reply::Txn(t),
                    ..
                } => match t.replies.first() {
                    Some(TxnOpReply::Range(r)) => Some(get(r, names)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn get(r: &RangeReply, names: &mut Names) -> Action {
    Action::Get {
        seen: names.of(r.kvs.first()),
    }
}

fn swap(from: &str, to: &str, out: &Outcome, names: &mut Names) -> Action {
    let (from, to) = (names.number(from), names.number(to));
    match out {
        Outcome::Ok {
            reply: Reply::Txn(t),
            ..
        } => {
            let seen = match t.replies.first() {
                Some(TxnOpReply::Range(r)) if !t.succeeded => Some(names.of(r.kvs.first())),
                _ => None,
            };
            Action::Swap {
                from,
                to,
                swapped: Some(t.succeeded),
                seen,
            }
        }
        _ => Action::Swap {
            from,
            to,
            swapped: None,
            seen: None,
        },
    }
}
