//! Histories: the evidence a run leaves and the only input of the checkers.

pub mod file;
pub mod object;
pub mod op;
pub mod record;

use crate::clock::Nanos;
use object::{ObjectOp, ObjectWatch};
use op::Op;
use record::{
    Change, Damage, Exit, Fault, Hash, Meta, Phase, Record, WatchBatch, WatchNote, Window,
};

/// A history sorted by kind of record; each list keeps the order of the file.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub meta: Option<Meta>,
    pub phases: Vec<(Nanos, Phase)>,
    pub ops: Vec<Op>,
    pub watches: Vec<WatchBatch>,
    pub watch_notes: Vec<(usize, Nanos, WatchNote)>,
    pub windows: Vec<Window>,
    pub faults: Vec<Fault>,
    pub hashes: Vec<Hash>,
    pub exits: Vec<Exit>,
    pub changes: Vec<Change>,
    pub damages: Vec<Damage>,
    pub objects: Vec<ObjectOp>,
    pub object_watches: Vec<ObjectWatch>,
}

impl History {
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Meta(meta) => self.meta = Some(meta),
            Record::Phase { at, phase } => self.phases.push((at, phase)),
            Record::Op(op) => self.ops.push(op),
            Record::Watch(batch) => self.watches.push(batch),
            Record::WatchNote { member, at, note } => self.watch_notes.push((member, at, note)),
            Record::Window(window) => self.windows.push(window),
            Record::Fault(fault) => self.faults.push(fault),
            Record::Hash(hash) => self.hashes.push(hash),
            Record::Exit(exit) => self.exits.push(exit),
            Record::Change(change) => self.changes.push(change),
            Record::Damage(damage) => self.damages.push(damage),
            Record::Object(op) => self.objects.push(op),
            Record::ObjectWatch(watch) => self.object_watches.push(watch),
        }
    }

    /// When a phase was reached, if it was.
    pub fn phase(&self, wanted: Phase) -> Option<Nanos> {
        self.phases
            .iter()
            .find(|(_, p)| *p == wanted)
            .map(|(at, _)| *at)
    }
}
