//! What the state machine must do, written to be obvious: all key-values of
//! every revision are kept as whole maps, and nothing is shared with the code
//! under test but the types of commands and replies.

use std::collections::BTreeMap;

use bytes::Bytes;
use mizzen_core::{
    Command, Compare, CompareOp, CompareTarget, DeleteRange, EncodedKvs, Error, Event, EventKind,
    Lease, LeaseGrant, Operation, Outcome, Put, Range, RangeReply, Reply, SortOrder, SortTarget,
    Txn,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kv {
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub value: Bytes,
    pub lease: i64,
}

pub type Kvs = BTreeMap<Bytes, Kv>;

#[derive(Clone, Debug)]
pub struct Change {
    pub revision: i64,
    pub sub: u32,
    pub key: Bytes,
    /// `None`: deleted.
    pub kv: Option<Kv>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub revision: i64,
    pub compacted: i64,
    /// The compaction before that one.
    pub compacted_before: i64,
    pub leases: BTreeMap<i64, Lease>,
    pub now: Kvs,
    /// The key-values after each revision. Nothing before revision 1.
    pub at: Vec<Kvs>,
    pub history: Vec<Change>,
    /// Changes of the command that is being applied.
    changes: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: -1,
            compacted_before: -1,
            leases: BTreeMap::new(),
            now: Kvs::new(),
            at: vec![Kvs::new(), Kvs::new()],
            history: Vec::new(),
            changes: 0,
        }
    }
}

impl Model {
    pub fn apply(&mut self, command: &Command) -> Outcome {
        let before = self.clone();
        match check(command, usize::MAX).and_then(|()| self.run(command)) {
            Ok(reply) => {
                let events = self.history[before.history.len()..]
                    .iter()
                    .map(|change| event(change, &before.now))
                    .collect();
                if self.changes > 0 {
                    self.revision += 1;
                    self.at.push(self.now.clone());
                }
                self.changes = 0;
                Outcome {
                    reply: Ok(reply),
                    events,
                    events_in_log: false,
                }
            }
            Err(error) => {
                *self = before;
                Outcome {
                    reply: Err(error),
                    events: vec![],
                    events_in_log: false,
                }
            }
        }
    }

    fn run(&mut self, command: &Command) -> Result<Reply, Error> {
        match command {
            Command::Put(put) => {
                self.admit_put(put)?;
                self.put(put)
            }
            Command::DeleteRange(delete) => Ok(self.delete_range(delete)),
            Command::Txn(txn) => {
                let before = self.clone();
                self.admit(&before, txn)?;
                let (succeeded, responses) = self.txn(&before, txn)?;
                Ok(Reply::Txn {
                    revision: self.seen(),
                    succeeded,
                    responses,
                })
            }
            Command::Compact(compaction) => {
                if compaction.revision <= self.compacted {
                    return Err(Error::Compacted);
                }
                if compaction.revision > self.revision {
                    return Err(Error::FutureRevision);
                }
                self.compacted_before = self.compacted;
                self.compacted = compaction.revision;
                Ok(Reply::Compact {
                    revision: self.revision,
                })
            }
            Command::LeaseGrant(LeaseGrant { id: 0, .. }) => Err(Error::LeaseNotFound),
            Command::LeaseGrant(LeaseGrant { ttl, .. }) if *ttl > 9_000_000_000 => {
                Err(Error::LeaseTtlTooLarge)
            }
            Command::LeaseGrant(LeaseGrant { id, .. }) if self.leases.contains_key(id) => {
                Err(Error::LeaseExists)
            }
            Command::LeaseGrant(LeaseGrant { id, ttl }) => {
                self.leases.insert(
                    *id,
                    Lease {
                        ttl: *ttl,
                        remaining: 0,
                    },
                );
                Ok(Reply::LeaseGrant {
                    revision: self.revision,
                    id: *id,
                    ttl: *ttl,
                })
            }
            Command::LeaseRevoke(revoke) => {
                self.leases.remove(&revoke.id).ok_or(Error::LeaseNotFound)?;
                for key in self.lease_keys(revoke.id) {
                    self.change(key, None);
                }
                Ok(Reply::LeaseRevoke {
                    revision: self.seen(),
                })
            }
            Command::Alarm(_) => unreachable!("no test of the model raises alarms"),
            Command::LeaseCheckpoint(checkpoints) => {
                for checkpoint in checkpoints {
                    if let Some(lease) = self.leases.get_mut(&checkpoint.id) {
                        lease.remaining = checkpoint.remaining.max(0);
                    }
                }
                Ok(Reply::LeaseCheckpoint {
                    revision: self.revision,
                })
            }
        }
    }

    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.now
            .iter()
            .filter(|(_, kv)| kv.lease == id)
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn seen(&self) -> i64 {
        if self.changes > 0 {
            self.revision + 1
        } else {
            self.revision
        }
    }

    fn change(&mut self, key: Bytes, kv: Option<Kv>) {
        match &kv {
            Some(kv) => self.now.insert(key.clone(), kv.clone()),
            None => self.now.remove(&key),
        };
        self.history.push(Change {
            revision: self.revision + 1,
            sub: self.changes,
            key,
            kv,
        });
        self.changes += 1;
    }

    fn admit_put(&self, put: &Put) -> Result<(), Error> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.now.contains_key(&put.key) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &Put) -> Result<Reply, Error> {
        let old = self.now.get(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && old.is_none() {
            return Err(Error::KeyNotFound);
        }
        let before = old.clone().unwrap_or_default();
        let new = Kv {
            create: if old.is_some() {
                before.create
            } else {
                self.revision + 1
            },
            modified: self.revision + 1,
            version: before.version + 1,
            value: if put.ignore_value {
                before.value
            } else {
                put.value.clone()
            },
            lease: if put.ignore_lease {
                before.lease
            } else {
                put.lease
            },
        };
        self.change(put.key.clone(), Some(new));
        let prev_kv = old
            .filter(|_| put.prev_kv)
            .map(|kv| encode(Some(&put.key), &kv));
        Ok(Reply::Put {
            revision: self.seen(),
            prev_kv,
        })
    }

    fn delete_range(&mut self, delete: &DeleteRange) -> Reply {
        let victims: Vec<(Bytes, Kv)> = select(&self.now, &delete.key, &delete.range_end);
        for (key, _) in &victims {
            self.change(key.clone(), None);
        }
        let prev_kvs = victims
            .iter()
            .filter(|_| delete.prev_kv)
            .map(|(key, kv)| encode(Some(key), kv))
            .collect();
        Reply::DeleteRange {
            revision: self.seen(),
            deleted: victims.len() as i64,
            prev_kvs,
        }
    }

    fn admit(&self, before: &Model, txn: &Txn) -> Result<(), Error> {
        for operation in if before.holds(txn) {
            &txn.success
        } else {
            &txn.failure
        } {
            match operation {
                Operation::Range(range) if range.revision > self.revision => {
                    return Err(Error::FutureRevision);
                }
                Operation::Range(range)
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(Error::Compacted);
                }
                Operation::Put(put) => self.admit_put(put)?,
                Operation::Txn(nested) => self.admit(before, nested)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn txn(&mut self, before: &Model, txn: &Txn) -> Result<(bool, Vec<Reply>), Error> {
        let succeeded = before.holds(txn);
        let mut responses = Vec::new();
        for operation in if succeeded {
            &txn.success
        } else {
            &txn.failure
        } {
            responses.push(match operation {
                Operation::Range(range) => Reply::Range(self.range(range)?),
                Operation::Put(put) => self.put(put)?,
                Operation::DeleteRange(delete) => self.delete_range(delete),
                Operation::Txn(nested) => {
                    let (succeeded, responses) = self.txn(before, nested)?;
                    Reply::Txn {
                        revision: 0,
                        succeeded,
                        responses,
                    }
                }
                Operation::Empty => return Err(Error::KeyNotFound),
            });
        }
        Ok((succeeded, responses))
    }

    pub fn read_only_txn(&self, txn: &Txn) -> Result<Reply, Error> {
        let mut model = self.clone();
        model.admit(self, txn)?;
        let (succeeded, responses) = model.txn(self, txn)?;
        Ok(Reply::Txn {
            revision: self.revision,
            succeeded,
            responses,
        })
    }

    fn holds(&self, txn: &Txn) -> bool {
        txn.compare.iter().all(|compare| {
            let kvs = select(&self.now, &compare.key, &compare.range_end);
            if kvs.is_empty() {
                return !matches!(compare.target, CompareTarget::Value(_))
                    && holds(compare, &Kv::default());
            }
            kvs.iter().all(|(_, kv)| holds(compare, kv))
        })
    }

    /// What lives at a revision; the newest for 0 and below.
    pub fn kvs(&self, revision: i64) -> Result<&Kvs, Error> {
        if revision > self.seen() {
            return Err(Error::FutureRevision);
        }
        if revision <= 0 || revision == self.seen() {
            return if self.seen() < self.compacted {
                Err(Error::Compacted)
            } else {
                Ok(&self.now)
            };
        }
        if revision < self.compacted {
            Err(Error::Compacted)
        } else {
            Ok(&self.at[revision as usize])
        }
    }

    pub fn range(&self, range: &Range) -> Result<RangeReply, Error> {
        check_range(range)?;
        let mut kvs = select(self.kvs(range.revision)?, &range.key, &range.range_end);
        let count = kvs.len() as i64;
        let filters = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        let limit = if range.limit > 0 {
            range.limit as usize
        } else {
            usize::MAX
        };
        if range.count_only {
            return Ok(RangeReply {
                revision: self.seen(),
                kvs: EncodedKvs::default(),
                count,
                more: false,
            });
        }
        if range.sort_order == SortOrder::None && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|(_, kv)| {
            (filters[0] == 0 || kv.modified >= filters[0])
                && (filters[1] == 0 || kv.modified <= filters[1])
                && (filters[2] == 0 || kv.create >= filters[2])
                && (filters[3] == 0 || kv.create <= filters[3])
        });
        sort(&mut kvs, range);
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        Ok(RangeReply {
            revision: self.seen(),
            kvs: encode_all(&kvs, range),
            count,
            more,
        })
    }

    /// CRC-32C of every change up to `revision` that compaction leaves.
    /// As etcd computes it over the rows of its file.
    pub fn hash(&self, revision: i64) -> u32 {
        let newest = |index: usize, at: i64| {
            let key = &self.history[index].key;
            let later = self.history[index + 1..].iter();
            !later
                .into_iter()
                .any(|later| later.key == *key && later.revision <= at)
        };
        let lives = |index: usize, change: &Change| {
            change.revision <= revision && change.kv.is_some() && newest(index, revision)
        };
        let changes = || self.history.iter().enumerate();
        let any = changes().any(|(index, change)| lives(index, change));
        let retained = |index: usize, change: &Change| {
            change.revision > self.compacted
                || (change.kv.is_some()
                    && newest(index, self.compacted)
                    && (!any || lives(index, change)))
        };
        let mut bytes = b"key".to_vec();
        for (index, change) in changes() {
            if change.revision <= revision && retained(index, change) {
                bytes.extend(change.revision.to_be_bytes());
                bytes.push(b'_');
                bytes.extend(i64::from(change.sub).to_be_bytes());
                bytes.extend(change.kv.is_none().then_some(b't'));
                let key_len = u8::try_from(change.key.len()).expect("keys of the model are short");
                bytes.extend([0x0a, key_len]);
                bytes.extend(&change.key);
                bytes.extend(change.kv.iter().flat_map(|kv| encode(None, kv)));
            }
        }
        crc32c::crc32c(&bytes)
    }
}

fn event(change: &Change, before: &Kvs) -> Event {
    let deleted = Kv {
        modified: change.revision,
        ..Kv::default()
    };
    Event {
        kind: if change.kv.is_some() {
            EventKind::Put
        } else {
            EventKind::Delete
        },
        key: change.key.clone(),
        kv: encode(None, change.kv.as_ref().unwrap_or(&deleted)),
        prev: before.get(&change.key).map(|kv| encode(None, kv)),
        mod_revision: change.revision,
    }
}

fn select(kvs: &Kvs, key: &Bytes, range_end: &Bytes) -> Vec<(Bytes, Kv)> {
    let within = |candidate: &Bytes| match range_end.as_ref() {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < range_end,
    };
    kvs.iter()
        .filter(|(candidate, _)| within(candidate))
        .map(|(key, kv)| (key.clone(), kv.clone()))
        .collect()
}

fn sort(kvs: &mut [(Bytes, Kv)], range: &Range) {
    let descend = range.sort_order == SortOrder::Descend;
    match range.sort_target {
        SortTarget::Key if descend => kvs.reverse(),
        SortTarget::Key | SortTarget::Undefined(_) => {}
        SortTarget::Version if descend => kvs.sort_by_key(|(_, kv)| -kv.version),
        SortTarget::Version => kvs.sort_by_key(|(_, kv)| kv.version),
        SortTarget::Create if descend => kvs.sort_by_key(|(_, kv)| -kv.create),
        SortTarget::Create => kvs.sort_by_key(|(_, kv)| kv.create),
        SortTarget::Mod if descend => kvs.sort_by_key(|(_, kv)| -kv.modified),
        SortTarget::Mod => kvs.sort_by_key(|(_, kv)| kv.modified),
        SortTarget::Value if descend => {
            kvs.sort_by_key(|(_, kv)| std::cmp::Reverse(kv.value.clone()))
        }
        SortTarget::Value => kvs.sort_by_key(|(_, kv)| kv.value.clone()),
    }
}

fn holds(compare: &Compare, kv: &Kv) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::Create(create) => kv.create.cmp(create),
        CompareTarget::Mod(modified) => kv.modified.cmp(modified),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
        CompareTarget::Undefined(_) => 0.cmp(&0),
    };
    match compare.op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::NotEqual => ordering.is_ne(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
        CompareOp::Undefined(_) => true,
    }
}

pub fn check(command: &Command, ops_max: usize) -> Result<(), Error> {
    match command {
        Command::Put(put) => check_operation(&Operation::Put(put.clone()), 0),
        Command::DeleteRange(delete) => check_operation(&Operation::DeleteRange(delete.clone()), 0),
        Command::Txn(txn) => {
            check_txn(txn, ops_max)?;
            changes(&txn.success)?;
            changes(&txn.failure)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_range(range: &Range) -> Result<(), Error> {
    let undefined = matches!(range.sort_order, SortOrder::Undefined(_))
        || matches!(range.sort_target, SortTarget::Undefined(_));
    match range.key.is_empty() {
        true => Err(Error::EmptyKey),
        false if undefined => Err(Error::InvalidSortOption),
        false => Ok(()),
    }
}

fn check_txn(txn: &Txn, ops_max: usize) -> Result<(), Error> {
    let ops = [txn.compare.len(), txn.success.len(), txn.failure.len()]
        .into_iter()
        .max()
        .unwrap_or(0);
    if ops > ops_max {
        return Err(Error::TooManyOps);
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    txn.success
        .iter()
        .chain(&txn.failure)
        .try_for_each(|operation| check_operation(operation, ops_max - ops))
}

fn check_operation(operation: &Operation, ops_max: usize) -> Result<(), Error> {
    match operation {
        Operation::Range(range) => check_range(range),
        Operation::Put(put) if put.key.is_empty() => Err(Error::EmptyKey),
        Operation::Put(put) if put.ignore_value && !put.value.is_empty() => {
            Err(Error::ValueProvided)
        }
        Operation::Put(put) if put.ignore_lease && put.lease != 0 => Err(Error::LeaseProvided),
        Operation::DeleteRange(delete) if delete.key.is_empty() => Err(Error::EmptyKey),
        Operation::Txn(txn) => check_txn(txn, ops_max),
        Operation::Empty => Err(Error::KeyNotFound),
        Operation::Put(_) | Operation::DeleteRange(_) => Ok(()),
    }
}

type Changes = (Vec<Bytes>, Vec<(Bytes, Bytes)>);

/// The keys put and the ranges deleted by a branch, if nothing is changed twice.
fn changes(operations: &[Operation]) -> Result<Changes, Error> {
    let mut puts: Vec<Bytes> = vec![];
    let mut deletes: Vec<(Bytes, Bytes)> = vec![];
    let deleted = |deletes: &[(Bytes, Bytes)], key: &Bytes| {
        deletes.iter().any(|(from, to)| {
            if to.is_empty() {
                key == from
            } else {
                key >= from && key < to
            }
        })
    };
    for operation in operations {
        if let Operation::DeleteRange(delete) = operation {
            deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    for operation in operations {
        if let Operation::Txn(txn) = operation {
            let (success_puts, success_deletes) = changes(&txn.success)?;
            let (failure_puts, failure_deletes) = changes(&txn.failure)?;
            let mut both = success_puts;
            both.extend(failure_puts);
            if both
                .iter()
                .any(|key| puts.contains(key) || deleted(&deletes, key))
            {
                return Err(Error::DuplicateKey);
            }
            puts.extend(both);
            deletes.extend(success_deletes);
            deletes.extend(failure_deletes);
        }
    }
    for operation in operations {
        if let Operation::Put(put) = operation {
            if puts.contains(&put.key) || deleted(&deletes, &put.key) {
                return Err(Error::DuplicateKey);
            }
            puts.push(put.key.clone());
        }
    }
    Ok((puts, deletes))
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 127 {
        out.push((number % 128) as u8 + 128);
        number /= 128;
    }
    out.push(number as u8);
}

fn number(field: u8, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(field << 3);
        varint(number as u64, out);
    }
}

fn bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        varint(bytes.len() as u64, out);
        out.extend(bytes);
    }
}

/// `mvccpb.KeyValue`, with or without its key.
pub fn encode(key: Option<&Bytes>, kv: &Kv) -> Bytes {
    let mut out = vec![];
    bytes(1, key.map_or(&[], |key| key.as_ref()), &mut out);
    number(2, kv.create, &mut out);
    number(3, kv.modified, &mut out);
    number(4, kv.version, &mut out);
    bytes(5, &kv.value, &mut out);
    number(6, kv.lease, &mut out);
    out.into()
}

fn encode_all(kvs: &[(Bytes, Kv)], range: &Range) -> EncodedKvs {
    let mut out = vec![];
    for (key, kv) in kvs {
        let mut kv = kv.clone();
        if range.keys_only {
            kv.value = Bytes::new();
            if range.sort_target != SortTarget::Value {
                kv.lease = 0;
            }
        }
        bytes(2, &encode(Some(key), &kv), &mut out);
    }
    EncodedKvs {
        bytes: out.into(),
        len: kvs.len(),
    }
}
