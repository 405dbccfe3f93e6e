//! Finds the unknown-outcome write behind a revision that no acknowledged
//! write explains.
//!
//! Evidence for a revision is, from best to least: what a watch showed, the
//! difference to a full scan at that revision, and single pairs that later
//! replies showed with that modification revision.

use super::model::{Model, canonical};
use crate::history::History;
use crate::history::op::{Kv, Op, Outcome, PutReq, RangeReply, Reply, Request, TxnOp, TxnOpReply};
use crate::history::record::Event;
use std::collections::{BTreeMap, HashMap};

/// Indexes over one history; everything is by revision or by written value.
pub struct Evidence<'a> {
    pub watched: BTreeMap<i64, &'a [Event]>,
    scans: HashMap<i64, &'a [Kv]>,
    shown: HashMap<i64, Vec<&'a Kv>>,
    /// Unknown-outcome writes by a pair they would write.
    writers: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// Unknown-outcome writes with a deletion and no put in some branch.
    deleters: Vec<usize>,
    used: Vec<bool>,
    open: usize,
    ops: &'a [Op],
}

/// What the evidence says a revision did.
pub enum Shown<'a> {
    All(Vec<Event>),
    /// Some of its puts; there may be more events.
    Some(Vec<&'a Kv>),
    Nothing,
}

impl<'a> Evidence<'a> {
    pub fn new(history: &'a History) -> Evidence<'a> {
        let ops = &history.ops;
        let mut evidence = Evidence {
            watched: by_revision(history),
            scans: HashMap::new(),
            shown: HashMap::new(),
            writers: HashMap::new(),
            deleters: Vec::new(),
            used: vec![false; ops.len()],
            open: 0,
            ops,
        };
        for (i, op) in ops.iter().enumerate() {
            match &op.out {
                Outcome::Ok { reply, .. } => evidence.index_reply(op, reply),
                Outcome::Unknown { .. } => evidence.index_unknown(i, &op.req),
                Outcome::Fail { .. } => {}
            }
        }
        evidence
    }

    fn index_reply(&mut self, op: &'a Op, reply: &'a Reply) {
        if let (Request::Range(q), Reply::Range(r)) = (&op.req, reply)
            && q.rev > 0
            && *q == full_scan(q.rev)
        {
            self.scans.insert(q.rev, &r.kvs);
        }
        for kv in pairs(reply) {
            self.shown.entry(kv.modified).or_default().push(kv);
        }
    }

    fn index_unknown(&mut self, i: usize, req: &'a Request) {
        self.open += usize::from(!matches!(req, Request::Compact { .. }));
        let mut deletes = false;
        let mut put = |r: &'a PutReq| self.writers.entry((&r.key, &r.value)).or_default().push(i);
        match req {
            Request::Put(r) => put(r),
            Request::Delete(_) => deletes = true,
            Request::Txn(t) => {
                for branch in [&t.then, &t.or_else] {
                    let puts = branch.iter().any(|o| matches!(o, TxnOp::Put(_)));
                    deletes |= !puts && branch.iter().any(|o| matches!(o, TxnOp::Delete(_)));
                    branch.iter().for_each(|o| {
                        if let TxnOp::Put(r) = o {
                            put(r);
                        }
                    });
                }
            }
            Request::Range(_) | Request::Compact { .. } => {}
        }
        if deletes {
            self.deleters.push(i);
        }
    }

    /// What revision `rev` did, `before` being the state before it.
    pub fn at(&self, rev: i64, before: &Model) -> Shown<'a> {
        if let Some(events) = self.watched.get(&rev) {
            return Shown::All(events.to_vec());
        }
        if let Some(scan) = self.scans.get(&rev) {
            return Shown::All(before.difference(rev, scan));
        }
        match self.shown.get(&rev) {
            Some(pairs) => Shown::Some(pairs.clone()),
            None => Shown::Nothing,
        }
    }

    /// The unknown-outcome write that does this at `before`. It is used up.
    pub fn take(&mut self, shown: &Shown<'_>, before: &Model) -> Option<usize> {
        let found = self
            .candidates(shown)
            .into_iter()
            .find(|&i| !self.used[i] && self.does(i, shown, before))?;
        self.used[found] = true;
        self.open -= 1;
        Some(found)
    }

    fn candidates(&self, shown: &Shown<'_>) -> Vec<usize> {
        let put = match shown {
            Shown::All(events) => events.iter().find(|e| !e.delete).map(|e| &e.kv),
            Shown::Some(pairs) => pairs.first().copied(),
            Shown::Nothing => return Vec::new(),
        };
        match put {
            Some(kv) => self
                .writers
                .get(&(kv.key.as_str(), kv.value.as_str()))
                .cloned()
                .unwrap_or_default(),
            // A guarded deletion fits few revisions, a plain one fits many:
            // the guarded ones come first so that none is left over.
            None => {
                let guarded = |i: &usize| matches!(&self.ops[*i].req, Request::Txn(t) if !t.compare.is_empty());
                let (first, second): (Vec<_>, Vec<_>) =
                    self.deleters.iter().copied().partition(guarded);
                first.into_iter().chain(second).collect()
            }
        }
    }

    fn does(&self, i: usize, shown: &Shown<'_>, before: &Model) -> bool {
        let events = before.preview(&self.ops[i].req).events;
        match shown {
            Shown::All(wanted) => canonical(&events) == canonical(wanted),
            Shown::Some(pairs) => pairs
                .iter()
                .all(|kv| events.iter().any(|e| !e.delete && e.kv == **kv)),
            Shown::Nothing => false,
        }
    }

    /// Operations that asked for this pair, whatever came of them.
    pub fn writers_of(&self, kv: &Kv) -> Vec<&'a Op> {
        let asked = |op: &&Op| {
            puts(&op.req)
                .iter()
                .any(|p| p.key == kv.key && p.value == kv.value)
        };
        self.ops.iter().filter(asked).collect()
    }

    /// Unknown-outcome writes that were not placed at any revision.
    pub fn unplaced(&self) -> usize {
        self.open
    }
}

/// All puts of a request, of both branches of a transaction.
pub fn puts(req: &Request) -> Vec<&PutReq> {
    match req {
        Request::Put(r) => vec![r],
        Request::Txn(t) => {
            let ops = t.then.iter().chain(&t.or_else);
            ops.filter_map(|o| if let TxnOp::Put(r) = o { Some(r) } else { None })
                .collect()
        }
        _ => Vec::new(),
    }
}

fn full_scan(rev: i64) -> crate::history::op::RangeReq {
    match Request::scan(rev) {
        Request::Range(r) => r,
        _ => Default::default(),
    }
}

/// For each revision, the events as the first watch to show it did. A
/// revision split over several responses of one watch is joined only when
/// the parts follow each other.
fn by_revision(history: &History) -> BTreeMap<i64, &[Event]> {
    let mut map: BTreeMap<i64, &[Event]> = BTreeMap::new();
    for batch in &history.watches {
        for events in batch.events.chunk_by(|a, b| a.kv.modified == b.kv.modified) {
            map.entry(events[0].kv.modified).or_insert(events);
        }
    }
    map
}

/// Every pair a reply shows as being current at some revision; pairs without
/// values (keys only) are left out.
fn pairs(reply: &Reply) -> Vec<&Kv> {
    fn range(r: &RangeReply) -> impl Iterator<Item = &Kv> {
        r.kvs.iter().filter(|kv| !kv.value.is_empty())
    }
    match reply {
        Reply::Range(r) => range(r).collect(),
        Reply::Txn(t) => {
            let ranges = t.replies.iter().filter_map(|r| {
                if let TxnOpReply::Range(r) = r {
                    Some(r)
                } else {
                    None
                }
            });
            ranges.flat_map(range).collect()
        }
        Reply::Put(p) => p.prev.iter().collect(),
        Reply::Delete(d) => d.prev.iter().collect(),
        Reply::Compact => Vec::new(),
    }
}
