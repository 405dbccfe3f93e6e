//! Finds the unknown-outcome write behind a revision that no acknowledged
//! write explains.
//!
//! Evidence for a revision is, from best to least: what a watch showed, the
//! difference to a full scan at that revision, and single pairs that later
//! replies showed with that modification revision.

use super::model::{Model, canonical};
use super::seen::Seen;
use crate::clock::Nanos;
use crate::history::History;
use crate::history::op::{
    FailClass, Kv, LeaseReq, Op, Outcome, PutReq, RangeReply, Reply, Request, TxnOp, TxnOpReply,
    lock_key,
};
use crate::history::record::Event;
use std::collections::{BTreeMap, HashMap};

/// Indexes over one history; everything is by revision or by written value.
pub struct Evidence<'a> {
    pub watched: BTreeMap<i64, &'a [Event]>,
    scans: HashMap<i64, &'a [Kv]>,
    shown: HashMap<i64, Vec<&'a Kv>>,
    /// Writes whose revision no reply tells, by a pair they would write.
    writers: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// Such writes with a deletion and no put in some branch.
    deleters: Vec<usize>,
    /// Such writes that can delete just this key, or what is attached to
    /// this lease.
    unlocks: HashMap<&'a str, Vec<usize>>,
    revokes: HashMap<i64, Vec<usize>>,
    /// Requests for a lock, by the key they make.
    locks: HashMap<String, usize>,
    used: Vec<bool>,
    seen: Seen,
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
            unlocks: HashMap::new(),
            revokes: HashMap::new(),
            locks: HashMap::new(),
            used: vec![false; ops.len()],
            seen: Seen::new(history),
            open: 0,
            ops,
        };
        for (i, op) in ops.iter().enumerate() {
            if op.req.is_loose() {
                evidence.index_loose(i, op);
            }
            match &op.out {
                Outcome::Ok { reply, .. } => evidence.index_reply(op, reply),
                Outcome::Unknown { .. } if op.req.is_loose() => {}
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

    /// A lock that failed may have been waited for, and given up, before.
    fn index_loose(&mut self, i: usize, op: &'a Op) {
        let failed = match &op.out {
            Outcome::Fail { class, .. } => Some(*class),
            Outcome::Ok { .. } | Outcome::Unknown { .. } => None,
        };
        let lock = matches!(op.req, Request::Lock { .. });
        if failed.is_some_and(|class| !lock || class == FailClass::Refused) {
            return;
        }
        match &op.req {
            Request::Lease(LeaseReq::Revoke { id }) => {
                self.revokes.entry(*id).or_default().push(i);
            }
            Request::Lock { name, lease } => {
                self.locks.insert(lock_key(name, *lease), i);
            }
            Request::Unlock { key } => self.unlocks.entry(key).or_default().push(i),
            _ => {}
        }
    }

    fn index_unknown(&mut self, i: usize, req: &'a Request) {
        self.open += usize::from(!matches!(req, Request::Compact { .. } | Request::Auth(_)));
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
            Request::Range(_)
            | Request::Compact { .. }
            | Request::Lease(_)
            | Request::Lock { .. }
            | Request::Unlock { .. }
            | Request::Auth(_) => {}
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
        // Several requests may do the same: one that was not yet sent when this
        // was seen did not. If there is no other, that is for the check of
        // real time to tell; but what is loose may have been done by nobody.
        let seen = self.seen.first(before.rev + 1).unwrap_or(Nanos::MAX);
        let sent = |i: &usize| self.ops[*i].start <= seen;
        let fitting: Vec<usize> = self
            .candidates(shown, before)
            .into_iter()
            .filter(|&i| !self.used[i] && self.does(i, shown, before))
            .collect();
        let in_time = fitting.iter().copied().find(sent);
        let found = in_time.or_else(|| {
            let mut late = fitting.into_iter();
            late.find(|&i| !self.ops[i].req.is_loose())
        })?;
        self.used[found] = true;
        self.open -= usize::from(!self.ops[found].req.is_loose());
        Some(found)
    }

    fn candidates(&self, shown: &Shown<'_>, before: &Model) -> Vec<usize> {
        let mut found = self.loose(shown, before);
        found.extend(self.strict(shown));
        found
    }

    fn strict(&self, shown: &Shown<'_>) -> Vec<usize> {
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

    /// Changes of locks and leases that may be behind this. Their keys belong
    /// to nobody else.
    fn loose(&self, shown: &Shown<'_>, before: &Model) -> Vec<usize> {
        let Shown::All(events) = shown else {
            return Vec::new();
        };
        let Some(first) = events.first() else {
            return Vec::new();
        };
        if !first.delete {
            return self.locks.get(&first.kv.key).copied().into_iter().collect();
        }
        let lease = before.live.get(&first.kv.key).map_or(0, |kv| kv.lease);
        let unlocks = self.unlocks.get(first.kv.key.as_str());
        let revokes = self.revokes.get(&lease);
        let both = unlocks.into_iter().chain(revokes);
        both.flatten().copied().collect()
    }

    /// The lease whose end deletes exactly this, which no request did.
    pub fn expired(&self, shown: &Shown<'_>, before: &Model) -> Option<i64> {
        let Shown::All(events) = shown else {
            return None;
        };
        let lease = before.live.get(&events.first()?.kv.key)?.lease;
        let attached = before.attached(lease);
        let same = lease != 0
            && events.len() == attached.len()
            && events.iter().all(|e| e.delete)
            && attached
                .iter()
                .all(|kv| events.iter().any(|e| e.kv.key == kv.key));
        same.then_some(lease)
    }

    /// True for the deletion of the key of a lock that was waited for in vain.
    pub fn given_up(&self, shown: &Shown<'_>) -> bool {
        let Shown::All(events) = shown else {
            return false;
        };
        let [event] = events.as_slice() else {
            return false;
        };
        let asked = self.locks.get(&event.kv.key).map(|&i| &self.ops[i].out);
        event.delete && asked.is_some_and(|out| !matches!(out, Outcome::Ok { .. }))
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
        Reply::Compact
        | Reply::Lease { .. }
        | Reply::Locked { .. }
        | Reply::Unlocked
        | Reply::Auth => Vec::new(),
    }
}
