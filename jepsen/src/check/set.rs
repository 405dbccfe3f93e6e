//! Sets: no element that was acknowledged, or that a completed read has
//! shown, is missing from a later read, and nothing appears that nobody added.
//! Revisions are not looked at.

use super::Finding;
use crate::clock::{Nanos, seconds};
use crate::history::History;
use crate::history::op::{Kv, Load, Op, Outcome, PutReq, Reply, Request, TxnOp, TxnOpReply};
use crate::workload::lock;
use crate::workload::set::PREFIX;
use std::collections::{BTreeMap, HashMap, HashSet};

struct Read<'a> {
    op: &'a Op,
    elements: HashSet<&'a str>,
}

/// When an element is known to be in the set, and by which operation.
#[derive(Clone, Copy)]
struct Since {
    at: Nanos,
    op: u64,
}

#[derive(Default)]
struct Set<'a> {
    reads: Vec<Read<'a>>,
    /// Every element somebody tried to add, unless it certainly was not.
    tried: HashMap<&'a str, Nanos>,
    acknowledged: HashMap<&'a str, Since>,
}

/// Sets whose changes are guarded, by the set's revision or by a lock's key.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("sets");
    judge_all(history, &[Load::Set, Load::Lock], &mut finding);
    finding
}

/// Sets changed under a lock alone: a lock that ends with a lease cannot hold
/// off a client that is late, so a run in which nothing was lost has shown
/// nothing.
pub fn check_unsafe(history: &History) -> Option<Finding> {
    let mut finding = Finding::new("unsafe-locks");
    history.ops.iter().find(|op| op.load == Load::LockUnsafe)?;
    judge_all(history, &[Load::LockUnsafe], &mut finding);
    finding.summary = format!("{} lost={}", finding.summary, finding.total);
    let lost = std::mem::take(&mut finding.total);
    finding.anomalies.clear();
    finding.verdict = super::Verdict::Pass;
    if lost == 0 {
        finding.incomplete("the unguarded use of a lock lost nothing, though it must".into());
    }
    Some(finding)
}

fn judge_all(history: &History, loads: &[Load], finding: &mut Finding) {
    let ours = |op: &&Op| loads.contains(&op.load) || op.load == Load::Final;
    let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
    for op in history.ops.iter().filter(ours) {
        if op.load != Load::Final
            && let Some(put) = addition(&op.req)
        {
            add(sets.entry(&put.key).or_default(), op, put);
        }
    }
    for op in history
        .ops
        .iter()
        .filter(ours)
        .filter(|op| op.linearizable())
    {
        read(&mut sets, op);
    }
    let mut reads = 0;
    let mut elements = 0;
    for (key, set) in &mut sets {
        reads += set.reads.len();
        elements += set.acknowledged.len();
        judge(key, set, finding);
    }
    finding.summary = format!(
        "sets={} acknowledged-elements={elements} reads={reads}",
        sets.len()
    );
    finding.rests_on("reads of sets", reads);
    finding.rests_on("acknowledged elements", elements);
}

fn addition(req: &Request) -> Option<&PutReq> {
    match req {
        Request::Txn(t) => match t.then.first()? {
            TxnOp::Put(put) => Some(put),
            _ => None,
        },
        _ => None,
    }
}

fn add<'a>(set: &mut Set<'a>, op: &'a Op, put: &'a PutReq) {
    let Some(element) = put.value.split(',').next_back() else {
        return;
    };
    match &op.out {
        Outcome::Ok {
            reply: Reply::Txn(t),
            ..
        } if t.succeeded => {
            set.tried.insert(element, op.start);
            set.acknowledged.insert(
                element,
                Since {
                    at: op.end,
                    op: op.id,
                },
            );
        }
        Outcome::Unknown { .. } => {
            set.tried.insert(element, op.start);
        }
        Outcome::Ok { .. } | Outcome::Fail { .. } => {}
    }
}

/// Takes the sets out of a reply: of one set's read, or of a full scan.
fn read<'a>(sets: &mut BTreeMap<&'a str, Set<'a>>, op: &'a Op) {
    match (&op.req, &op.out) {
        (
            Request::Range(q),
            Outcome::Ok {
                reply: Reply::Range(r),
                ..
            },
        ) if q.rev == 0 => {
            if q.end.is_empty() {
                shown(sets, op, &q.key, r.kvs.first());
            } else if *op_scan() == op.req {
                for (key, set) in sets.iter_mut() {
                    let kv = r.kvs.iter().find(|kv| kv.key == **key);
                    set.reads.push(Read {
                        op,
                        elements: elements(kv),
                    });
                }
            }
        }
        (
            Request::Txn(t),
            Outcome::Ok {
                reply: Reply::Txn(reply),
                ..
            },
        ) => {
            if let (Some(TxnOp::Range(q)), Some(TxnOpReply::Range(r))) =
                (t.then.first(), reply.replies.first())
            {
                shown(sets, op, &q.key, r.kvs.first());
            }
        }
        _ => {}
    }
}

fn op_scan() -> &'static Request {
    static SCAN: std::sync::LazyLock<Request> = std::sync::LazyLock::new(|| Request::scan(0));
    &SCAN
}

fn shown<'a>(sets: &mut BTreeMap<&'a str, Set<'a>>, op: &'a Op, key: &'a str, kv: Option<&'a Kv>) {
    if key.starts_with(PREFIX) || key.starts_with(lock::PREFIX) {
        sets.entry(key).or_default().reads.push(Read {
            op,
            elements: elements(kv),
        });
    }
}

fn elements(kv: Option<&Kv>) -> HashSet<&str> {
    kv.map(|kv| kv.value.split(',').collect())
        .unwrap_or_default()
}

fn judge(key: &str, set: &mut Set<'_>, finding: &mut Finding) {
    set.reads.sort_by_key(|r| r.op.end);
    let mut since = set.acknowledged.clone();
    for read in &set.reads {
        for &element in &read.elements {
            let seen = Since {
                at: read.op.end,
                op: read.op.id,
            };
            let known = since.entry(element).or_insert(seen);
            if seen.at < known.at {
                *known = seen;
            }
        }
    }
    for read in &set.reads {
        for element in &read.elements {
            if set
                .tried
                .get(element)
                .is_none_or(|start| *start > read.op.end)
            {
                finding.violation(
                    format!("set {key:?} shows {element:?}, which nobody had added"),
                    &[read.op.id],
                );
            }
        }
        for (element, since) in &since {
            if since.at < read.op.start && !read.elements.contains(element) {
                let why = format!(
                    "set {key:?} lost {element:?}: it was there at {} s and is not in a read that began at {} s",
                    seconds(since.at),
                    seconds(read.op.start)
                );
                finding.violation(why, &[since.op, read.op.id]);
            }
        }
    }
}
