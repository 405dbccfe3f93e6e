//! What is refused for its form, before any state is looked at. The order of
//! the checks is etcd's, so that a request with several faults gets the same
//! error.

use crate::{
    command::{Command, DeleteRange, Operation, Put, Range, SortOrder, SortTarget, Txn},
    error::Error,
    limits::{Limits, TXN_DEPTH_MAX, TXN_NODES_MAX},
    overlap,
};

impl Command {
    /// Refuses what must not be proposed.
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        match self {
            Command::Put(put) => put.check(),
            Command::DeleteRange(delete) => delete.check(),
            Command::Txn(txn) => txn.check(limits),
            // Refused, if at all, by the state they are applied to.
            Command::Compact(_)
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
            | Command::Alarm(_)
            | Command::LeaseCheckpoint(_) => Ok(()),
        }
    }
}

impl Range {
    pub fn check(&self) -> Result<(), Error> {
        let undefined = matches!(self.sort_order, SortOrder::Undefined(_))
            || matches!(self.sort_target, SortTarget::Undefined(_));
        if self.key.is_empty() {
            Err(Error::EmptyKey)
        } else if undefined {
            Err(Error::InvalidSortOption)
        } else {
            Ok(())
        }
    }
}

impl Put {
    pub fn check(&self) -> Result<(), Error> {
        if self.key.is_empty() {
            Err(Error::EmptyKey)
        } else if self.ignore_value && !self.value.is_empty() {
            Err(Error::ValueProvided)
        } else if self.ignore_lease && self.lease != 0 {
            Err(Error::LeaseProvided)
        } else {
            Ok(())
        }
    }
}

impl DeleteRange {
    pub fn check(&self) -> Result<(), Error> {
        if self.key.is_empty() {
            Err(Error::EmptyKey)
        } else {
            Ok(())
        }
    }
}

impl Txn {
    /// Checks the operations one by one, then that no key is put twice, nor
    /// put and deleted.
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        let mut nodes_left = TXN_NODES_MAX;
        check_txn(self, limits.max_txn_ops, 1, &mut nodes_left)?;
        overlap::check(&self.success)?;
        overlap::check(&self.failure)
    }

    /// Whether it never enters the log: nothing but ranges. A transaction that
    /// holds another one does not count, whatever is in that.
    pub fn is_read_only(&self) -> bool {
        self.operations()
            .all(|operation| matches!(operation, Operation::Range(_)))
    }

    /// Whether it asks for no agreement with other members: nothing but
    /// serializable ranges, or nothing at all.
    pub fn is_serializable(&self) -> bool {
        self.operations()
            .all(|operation| matches!(operation, Operation::Range(range) if range.serializable))
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.success.iter().chain(&self.failure)
    }
}

fn check_txn(txn: &Txn, ops_max: usize, depth: usize, nodes_left: &mut usize) -> Result<(), Error> {
    let ops = txn
        .compare
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    let nodes = txn
        .compare
        .len()
        .saturating_add(txn.success.len())
        .saturating_add(txn.failure.len());
    *nodes_left = nodes_left.checked_sub(nodes).ok_or(Error::TooManyOps)?;
    if ops > ops_max || depth > TXN_DEPTH_MAX {
        return Err(Error::TooManyOps);
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for operation in txn.operations() {
        match operation {
            Operation::Range(range) => range.check()?,
            Operation::Put(put) => put.check()?,
            Operation::DeleteRange(delete) => delete.check()?,
            Operation::Txn(nested) => check_txn(nested, ops_max - ops, depth + 1, nodes_left)?,
            Operation::Empty => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}
