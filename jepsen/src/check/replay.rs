//! Revision-ordered replay: every reply against the sequential model.
//!
//! Every revision must be the work of exactly one write, without a gap or
//! a repeat, and every reply must be what one machine would have answered at
//! the revision in its header. Linear in the history but for sorting, whatever
//! the number of keys and clients.

use super::Finding;
use super::model::{Effect, Model, canonical, describe};
use super::resolve::{Evidence, Shown};
use super::watch::Watches;
use crate::history::History;
use crate::history::op::{FailClass, Kv, LeaseReq, Op, Outcome, Reply, Request};
use crate::history::record::Event;
use std::collections::BTreeMap;

pub struct Replayed {
    pub findings: Vec<Finding>,
    /// Unknown-outcome writes (by index) and the revision each one made.
    pub placed: Vec<(usize, i64)>,
    /// Leases whose keys were deleted though nobody asked for it, and the
    /// revision of that.
    pub expired: Vec<(i64, i64)>,
    /// Pairs that are there at the end.
    pub left: Vec<Kv>,
    /// What each revision did; empty when no window needs it.
    pub done: BTreeMap<i64, Vec<Event>>,
}

/// Where clients write even if all else is written by servers of the resource API.
const OWN: &str = "final/";

struct Replay<'a> {
    ops: &'a [Op],
    model: Model,
    evidence: Evidence<'a>,
    watches: Watches<'a>,
    writes: Finding,
    revisions: Finding,
    replies: Finding,
    placed: Vec<(usize, i64)>,
    expired: Vec<(i64, i64)>,
    done: Option<BTreeMap<i64, Vec<Event>>>,
    /// Servers of the resource API write too: what watches show of their
    /// revisions is taken for what they did.
    foreign: bool,
    compared: u64,
}

pub fn replay(history: &History) -> Replayed {
    let ops = &history.ops;
    let mut replies = Finding::new("replies");
    let foreign = !history.objects.is_empty();
    let head = head(history, &mut replies);
    let (acked, reads) = schedule(ops, head, &mut replies);
    let mut r = Replay {
        ops,
        model: Model::default(),
        evidence: Evidence::new(history),
        watches: Watches::new(history),
        writes: Finding::new("acknowledged-writes"),
        revisions: Finding::new("revisions"),
        replies,
        placed: Vec::new(),
        expired: Vec::new(),
        done: (foreign || !history.windows.is_empty()).then(BTreeMap::new),
        foreign,
        compared: 0,
    };
    for rev in 1..=head {
        if rev > 1 {
            r.step(rev, acked.get(&rev).map_or(&[][..], Vec::as_slice));
        }
        for &i in reads.get(&rev).into_iter().flatten() {
            r.read(&ops[i]);
        }
    }
    r.finish(head, acked.values().map(Vec::len).sum())
}

/// The highest revision. One far above what the writes of this history can
/// make is left out, so that it does not lead the replay astray.
fn head(history: &History, replies: &mut Finding) -> i64 {
    let may_write = |op: &&Op| {
        op.made_revision() || op.req.is_loose() || matches!(op.out, Outcome::Unknown { .. })
    };
    let mut writes = history.ops.iter().filter(may_write).count() as i64;
    if !history.objects.is_empty() {
        writes += history.watches.len() as i64;
    }
    let bound = 1000 + 2 * writes;
    let mut head = 1;
    for op in &history.ops {
        let Some(rev) = op.revision() else { continue };
        if rev < 1 || rev > bound {
            replies.violation(
                format!(
                    "header revision {rev} is out of reach of the {writes} writes of this history"
                ),
                &[op.id],
            );
        } else {
            head = head.max(rev);
        }
    }
    let watched = history
        .watches
        .iter()
        .flat_map(|w| &w.events)
        .map(|e| e.kv.modified)
        .max()
        .unwrap_or(1);
    head.max(watched.min(bound))
}

type ByRevision = BTreeMap<i64, Vec<usize>>;

/// Which operations made each revision, and which are compared with its state.
fn schedule(ops: &[Op], head: i64, replies: &mut Finding) -> (ByRevision, ByRevision) {
    let (mut acked, mut reads) = (ByRevision::new(), ByRevision::new());
    for (i, op) in ops.iter().enumerate() {
        let Some(rev) = op.revision() else { continue };
        let at = match &op.req {
            Request::Range(q) if q.rev > 0 => q.rev,
            _ => rev,
        };
        if at > rev {
            replies.violation(
                format!("a read at revision {at} succeeded with header revision {rev}"),
                &[op.id],
            );
        } else if (1..=head).contains(&at) {
            let list = if op.made_revision() {
                &mut acked
            } else {
                &mut reads
            };
            list.entry(at).or_default().push(i);
        }
    }
    (acked, reads)
}

impl Replay<'_> {
    /// Moves the model from `rev - 1` to `rev`.
    fn step(&mut self, rev: i64, acked: &[usize]) {
        let events = match acked {
            [] => self.unacknowledged(rev),
            [one] => self.acknowledged(rev, *one),
            [first, ..] => {
                let ids: Vec<u64> = acked.iter().map(|&i| self.ops[i].id).collect();
                let why = format!(
                    "revision {rev} was given to {} acknowledged writes; all but one of them are lost",
                    ids.len()
                );
                self.writes.violation(why, &ids);
                self.acknowledged(rev, *first)
            }
        };
        self.model.rev = rev;
        self.watches.compare(rev, &events);
        if let Some(done) = &mut self.done {
            done.insert(rev, events);
        }
    }

    fn acknowledged(&mut self, rev: i64, i: usize) -> Vec<Event> {
        let op = &self.ops[i];
        let shown = self.evidence.watched.get(&rev).copied();
        let effect = self.model.preview(&op.req);
        self.compare(op, &effect.reply, rev);
        if let Some(shown) = shown
            && canonical(shown) != canonical(&effect.events)
        {
            let why = format!(
                "this write was acknowledged at revision {rev} as {}, but a watch shows there {}",
                describe(&effect.events),
                describe(shown)
            );
            self.writes.violation(why, &[op.id]);
            self.model.force(rev, shown);
            return shown.to_vec();
        }
        self.model.force(rev, &effect.events);
        effect.events
    }

    /// A revision that no acknowledged write explains.
    fn unacknowledged(&mut self, rev: i64) -> Vec<Event> {
        let shown = self.evidence.at(rev, &self.model);
        if let Some(i) = self.evidence.take(&shown, &self.model) {
            self.placed.push((i, rev));
            let Effect { events, .. } = self.model.preview(&self.ops[i].req);
            self.model.force(rev, &events);
            return events;
        }
        if let Shown::All(events) = &shown
            && self.foreign
            && events.iter().all(|event| !event.kv.key.starts_with(OWN))
        {
            let events = events.clone();
            self.model.force(rev, &events);
            return events;
        }
        let given_up = self.evidence.given_up(&shown);
        let expired = self.evidence.expired(&shown, &self.model);
        let expired = expired.filter(|_| !given_up);
        self.expired.extend(expired.map(|lease| (lease, rev)));
        match shown {
            Shown::All(events) if expired.is_some() || given_up => {
                self.model.force(rev, &events);
                events
            }
            Shown::All(events) => {
                self.unexplained(rev, &events);
                self.model.force(rev, &events);
                events
            }
            Shown::Some(pairs) => {
                let events: Vec<Event> = pairs
                    .into_iter()
                    .map(|kv| Event {
                        kv: kv.clone(),
                        delete: false,
                        prev: None,
                    })
                    .collect();
                self.unexplained(rev, &events);
                self.model.force(rev, &events);
                events
            }
            Shown::Nothing => {
                if self.evidence.unplaced() == 0 {
                    self.revisions
                        .violation(format!("gap: no write made revision {rev}"), &[]);
                } else {
                    self.revisions.incomplete(format!(
                        "no evidence for revision {rev}; some unknown-outcome write may have made it"
                    ));
                }
                Vec::new()
            }
        }
    }

    fn unexplained(&mut self, rev: i64, events: &[Event]) {
        if self.revisions.full() {
            return self.revisions.violation(String::new(), &[]);
        }
        let put = events.iter().find(|e| !e.delete);
        let suspects = put.map_or_else(Vec::new, |e| self.evidence.writers_of(&e.kv));
        let failed =
            |op: &&Op| matches!(op.out, Outcome::Fail { class, .. } if class != FailClass::Read);
        let hint = if suspects.iter().any(failed) {
            "a write reported as failed took effect"
        } else if !suspects.is_empty() {
            "one write took effect twice, or not as it was asked"
        } else {
            "no operation asked for this"
        };
        let why = format!(
            "revision {rev} did {}, which no write of unknown outcome explains: {hint}",
            describe(events)
        );
        let ids: Vec<u64> = suspects.iter().map(|op| op.id).collect();
        self.revisions.violation(why, &ids);
    }

    /// A reply that made no revision, against the state it names.
    fn read(&mut self, op: &Op) {
        if let Request::Lease(LeaseReq::Revoke { id }) = &op.req {
            return self.revoked(op, *id);
        }
        if matches!(op.req, Request::Compact { .. }) || op.req.is_loose() {
            return;
        }
        let effect = self.model.preview(&op.req);
        let rev = self.model.rev;
        self.compare(op, &effect.reply, rev);
    }

    /// At the revision of the reply nothing is attached to the lease any more.
    fn revoked(&mut self, op: &Op, lease: i64) {
        let attached = self.model.attached(lease);
        if let Some(kv) = attached.first() {
            let why = format!(
                "lease {lease} was revoked at revision {} at the latest, and {:?} is still attached to it there",
                self.model.rev, kv.key
            );
            self.replies.violation(why, &[op.id]);
        }
    }

    fn compare(&mut self, op: &Op, expected: &Reply, rev: i64) {
        let Outcome::Ok { reply, .. } = &op.out else {
            return;
        };
        self.compared += 1;
        if reply == expected {
            return;
        }
        if self.replies.full() {
            self.replies.violation(String::new(), &[]);
        } else {
            let why = format!(
                "at revision {rev} the reply must be {} but was {}",
                text(expected),
                text(reply)
            );
            self.replies.violation(why, &[op.id]);
        }
    }

    fn finish(mut self, head: i64, acked: usize) -> Replayed {
        let applied = self.placed.len();
        let unexplained = self.revisions.total + self.revisions.gaps.len();
        self.writes.summary = format!("acknowledged={acked} lost={}", self.writes.total);
        self.revisions.summary = format!(
            "head={head} by-acknowledged={acked} by-unknown={applied} unknown-without-effect={} unexplained={unexplained}",
            self.evidence.unplaced()
        );
        self.replies.summary = format!("compared={}", self.compared);
        self.writes.rests_on("acknowledged writes", acked);
        self.revisions
            .rests_on("explained revisions", acked + applied);
        self.replies
            .rests_on("compared replies", self.compared as usize);
        let watch = self.watches.finish(head);
        Replayed {
            findings: vec![self.writes, self.revisions, self.replies, watch],
            placed: self.placed,
            expired: self.expired,
            done: self.done.unwrap_or_default(),
            left: self.model.live.into_values().collect(),
        }
    }
}

/// A reply in a form short enough for one line.
fn text(reply: &Reply) -> String {
    const LONGEST: usize = 600;
    let mut text = serde_json::to_string(reply).unwrap_or_else(|e| e.to_string());
    if text.len() > LONGEST {
        let cut = (0..=LONGEST)
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}
