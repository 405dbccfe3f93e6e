//! The sequential model: what one machine that runs requests one after the
//! other answers. Plain on purpose; it is the reference for every reply.

use crate::history::op::{
    Cmp, Compare, DeleteReply, DeleteReq, Kv, LeaseReq, PutReply, PutReq, RangeReply, RangeReq,
    Reply, Request, Target, TxnOp, TxnOpReply, TxnReply, TxnReq, lock_key,
};
use crate::history::record::Event;
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Clone, Debug)]
pub struct Model {
    /// The head revision. An empty store is at revision 1.
    pub rev: i64,
    pub live: BTreeMap<String, Kv>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            rev: 1,
            live: BTreeMap::new(),
        }
    }
}

/// What a request does to a state: its reply, and its events if it makes a
/// revision.
pub struct Effect {
    pub reply: Reply,
    pub events: Vec<Event>,
}

impl Model {
    fn select(&self, key: &str, end: &str) -> Vec<&Kv> {
        if end.is_empty() {
            return self.live.get(key).into_iter().collect();
        }
        let upper = if end == "\0" {
            Bound::Unbounded
        } else {
            Bound::Excluded(end)
        };
        if upper != Bound::Unbounded && end <= key {
            return Vec::new();
        }
        self.live
            .range::<str, _>((Bound::Included(key), upper))
            .map(|(_, kv)| kv)
            .collect()
    }

    /// A range at this state, whatever revision it asks for.
    pub fn range(&self, r: &RangeReq) -> RangeReply {
        let all = self.select(&r.key, &r.end);
        let count = all.len() as i64;
        if r.count_only {
            return RangeReply {
                kvs: Vec::new(),
                count,
                more: false,
            };
        }
        let limit = if r.limit > 0 {
            r.limit as usize
        } else {
            usize::MAX
        };
        let kvs: Vec<Kv> = all
            .iter()
            .take(limit)
            .map(|kv| {
                let mut kv = (*kv).clone();
                if r.keys_only {
                    kv.value.clear();
                }
                kv
            })
            .collect();
        RangeReply {
            more: all.len() > limit,
            kvs,
            count,
        }
    }

    fn put(&mut self, r: &PutReq, rev: i64, events: &mut Vec<Event>) -> PutReply {
        let prev = self.live.get(&r.key).cloned();
        let kv = Kv {
            key: r.key.clone(),
            value: r.value.clone(),
            create: prev.as_ref().map_or(rev, |p| p.create),
            modified: rev,
            version: prev.as_ref().map_or(1, |p| p.version + 1),
            lease: r.lease,
        };
        self.live.insert(r.key.clone(), kv.clone());
        events.push(Event {
            kv,
            delete: false,
            prev: prev.clone(),
        });
        PutReply {
            prev: prev.filter(|_| r.prev),
        }
    }

    fn delete(&mut self, r: &DeleteReq, rev: i64, events: &mut Vec<Event>) -> DeleteReply {
        let gone: Vec<Kv> = self.select(&r.key, &r.end).into_iter().cloned().collect();
        for kv in &gone {
            self.live.remove(&kv.key);
            events.push(deletion(kv, rev));
        }
        DeleteReply {
            deleted: gone.len() as i64,
            prev: if r.prev { gone } else { Vec::new() },
        }
    }

    /// Keys attached to a lease.
    pub fn attached(&self, lease: i64) -> Vec<&Kv> {
        self.live.values().filter(|kv| kv.lease == lease).collect()
    }

    fn revoke(&mut self, lease: i64, rev: i64, events: &mut Vec<Event>) {
        let gone: Vec<Kv> = self.attached(lease).into_iter().cloned().collect();
        for kv in &gone {
            self.live.remove(&kv.key);
            events.push(deletion(kv, rev));
        }
    }

    fn holds(&self, c: &Compare) -> bool {
        let found = self.live.get(&c.key);
        let number = |n: i64, of: fn(&Kv) -> i64| found.map_or(0, of).cmp(&n);
        let order = match &c.target {
            Target::Version(n) => number(*n, |kv| kv.version),
            Target::Create(n) => number(*n, |kv| kv.create),
            Target::Mod(n) => number(*n, |kv| kv.modified),
            Target::Value(v) => match found {
                // No comparison with the value of a missing key holds, not
                // even an unequal one (etcd, `applyCompare`).
                None => return false,
                Some(kv) => kv.value.as_bytes().cmp(v.as_bytes()),
            },
        };
        match c.cmp {
            Cmp::Equal => order.is_eq(),
            Cmp::NotEqual => order.is_ne(),
            Cmp::Greater => order.is_gt(),
            Cmp::Less => order.is_lt(),
        }
    }

    fn txn(&mut self, t: &TxnReq, rev: i64, events: &mut Vec<Event>) -> TxnReply {
        let succeeded = t.compare.iter().all(|c| self.holds(c));
        let branch = if succeeded { &t.then } else { &t.or_else };
        let replies = branch
            .iter()
            .map(|op| match op {
                TxnOp::Range(r) => TxnOpReply::Range(self.range(r)),
                TxnOp::Put(r) => TxnOpReply::Put(self.put(r, rev, events)),
                TxnOp::Delete(r) => TxnOpReply::Delete(self.delete(r, rev, events)),
            })
            .collect();
        TxnReply { succeeded, replies }
    }

    /// Runs a request at this state. The head moves when something changed.
    pub fn apply(&mut self, req: &Request) -> Effect {
        let rev = self.rev + 1;
        let mut events = Vec::new();
        let reply = match req {
            Request::Range(r) => Reply::Range(self.range(r)),
            Request::Put(r) => Reply::Put(self.put(r, rev, &mut events)),
            Request::Delete(r) => Reply::Delete(self.delete(r, rev, &mut events)),
            Request::Txn(t) => Reply::Txn(self.txn(t, rev, &mut events)),
            Request::Compact { .. } => Reply::Compact,
            Request::Auth(_) => Reply::Auth,
            Request::Lease(LeaseReq::Revoke { id }) => {
                self.revoke(*id, rev, &mut events);
                Reply::Lease { ttl: 0 }
            }
            Request::Lease(_) => Reply::Lease { ttl: 0 },
            Request::Lock { name, lease } => {
                let key = lock_key(name, *lease);
                if !self.live.contains_key(&key) {
                    let put = PutReq {
                        key: key.clone(),
                        lease: *lease,
                        ..PutReq::default()
                    };
                    self.put(&put, rev, &mut events);
                }
                Reply::Locked { key }
            }
            Request::Unlock { key } => {
                let delete = DeleteReq {
                    key: key.clone(),
                    ..DeleteReq::default()
                };
                self.delete(&delete, rev, &mut events);
                Reply::Unlocked
            }
        };
        if !events.is_empty() {
            self.rev = rev;
        }
        Effect { reply, events }
    }

    /// What a request would do here, leaving the state as it is.
    pub fn preview(&self, req: &Request) -> Effect {
        match req {
            Request::Range(r) => Effect {
                reply: Reply::Range(self.range(r)),
                events: Vec::new(),
            },
            Request::Compact { .. } => Effect {
                reply: Reply::Compact,
                events: Vec::new(),
            },
            _ => self.touched(req).apply(req),
        }
    }

    /// A copy of the part of the state that a write can see or change.
    fn touched(&self, req: &Request) -> Model {
        let mut part = Model {
            rev: self.rev,
            live: BTreeMap::new(),
        };
        let mut take = |key: &str, end: &str| {
            for kv in self.select(key, end) {
                part.live.insert(kv.key.clone(), kv.clone());
            }
        };
        match req {
            Request::Range(r) => take(&r.key, &r.end),
            Request::Put(r) => take(&r.key, ""),
            Request::Delete(r) => take(&r.key, &r.end),
            Request::Txn(t) => {
                t.compare.iter().for_each(|c| take(&c.key, ""));
                for op in t.then.iter().chain(&t.or_else) {
                    match op {
                        TxnOp::Range(r) => take(&r.key, &r.end),
                        TxnOp::Put(r) => take(&r.key, ""),
                        TxnOp::Delete(r) => take(&r.key, &r.end),
                    }
                }
            }
            Request::Lease(LeaseReq::Revoke { id }) => {
                for kv in self.attached(*id) {
                    part.live.insert(kv.key.clone(), kv.clone());
                }
            }
            Request::Lock { name, lease } => take(&lock_key(name, *lease), ""),
            Request::Unlock { key } => take(key, ""),
            Request::Lease(_) | Request::Compact { .. } | Request::Auth(_) => {}
        }
        part
    }

    /// Takes over what the evidence shows, to go on after a contradiction.
    pub fn force(&mut self, rev: i64, events: &[Event]) {
        self.rev = rev;
        for event in events {
            if event.delete {
                self.live.remove(&event.kv.key);
            } else {
                self.live.insert(event.kv.key.clone(), event.kv.clone());
            }
        }
    }

    /// The events that lead from this state to a full scan of the next one.
    pub fn difference(&self, rev: i64, scan: &[Kv]) -> Vec<Event> {
        let then: BTreeMap<&str, &Kv> = scan.iter().map(|kv| (kv.key.as_str(), kv)).collect();
        let puts = scan.iter().filter(|kv| self.live.get(&kv.key) != Some(kv));
        let gone = self
            .live
            .values()
            .filter(|kv| !then.contains_key(kv.key.as_str()));
        let put = |kv: &Kv| Event {
            kv: kv.clone(),
            delete: false,
            prev: self.live.get(&kv.key).cloned(),
        };
        puts.map(put)
            .chain(gone.map(|kv| deletion(kv, rev)))
            .collect()
    }
}

fn deletion(kv: &Kv, rev: i64) -> Event {
    let gone = Kv {
        key: kv.key.clone(),
        modified: rev,
        ..Kv::default()
    };
    Event {
        kv: gone,
        delete: true,
        prev: Some(kv.clone()),
    }
}

/// Events of one revision in a comparable form: by key, without previous
/// values.
pub fn canonical(events: &[Event]) -> Vec<(String, Option<Kv>)> {
    let mut list: Vec<_> = events
        .iter()
        .map(|e| (e.kv.key.clone(), (!e.delete).then(|| e.kv.clone())))
        .collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    list
}

/// Events in words.
pub fn describe(events: &[Event]) -> String {
    if events.is_empty() {
        return "nothing".into();
    }
    let one = |e: &Event| match e.delete {
        true => format!("delete {:?}", e.kv.key),
        false => format!("put {:?}={:?}", e.kv.key, e.kv.value),
    };
    events.iter().map(one).collect::<Vec<_>>().join(", ")
}
