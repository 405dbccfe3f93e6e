//! The one check of what a client may do. It walks the whole command, whatever
//! its operations do in the end: both branches of a transaction, transactions
//! in them, compares, previous values, keys of leases.

use bytes::Bytes;

use super::{
    Auth, By, Name, ROOT, Refusal, Role, User,
    spans::{self, Spans},
};
use crate::{
    command::{Command, DeleteRange, Operation, Put, Txn},
    error::{Error, Stop, answered},
    lease,
    limits::Limits,
    state::State,
    view::{View, ViewError},
};
use mizzen_planted::{bug, sometimes};

/// Whether `command` may be applied for `by`, given users and rows as they are
/// before it. What is wrong with its form, or forbidden by an alarm, is said
/// first, as [`crate::apply`] says it; without authentication nothing is
/// looked at.
pub fn permit<V: View + ?Sized>(
    auth: &Auth,
    by: &By,
    state: &State,
    view: &V,
    command: &Command,
) -> Result<Result<(), Error>, ViewError> {
    if !auth.enabled || *by == By::Store {
        return Ok(Ok(()));
    }
    let check = || {
        command.check(&Limits::APPLY)?;
        state.alarms.admit(command)?;
        Check::new(auth, by).command(view, command)
    };
    answered(check())
}

/// What a client may do.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    auth: &'a Auth,
    by: &'a By,
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

impl Access {
    fn of(self, role: &Role) -> &Spans {
        match self {
            Access::Read => &role.read,
            Access::Write => &role.write,
        }
    }
}

impl<'a> Check<'a> {
    pub fn new(auth: &'a Auth, by: &'a By) -> Self {
        Self { auth, by }
    }

    fn everything(&self) -> bool {
        !self.auth.enabled || *self.by == By::Store
    }

    /// The client's name and user.
    fn known(&self) -> Result<(&'a Name, Option<&'a User>), Refusal> {
        match self.by {
            By::User { name, .. } => Ok((name, self.auth.user(name))),
            // The store never asks here.
            By::Nobody | By::Store => Err(Refusal::UserEmpty),
        }
    }

    /// Some user, whichever.
    pub fn authenticated(&self) -> Result<(), Refusal> {
        if self.everything() {
            return Ok(());
        }
        match self.known()? {
            (_, Some(_)) => Ok(()),
            (_, None) => Err(Refusal::PermissionDenied),
        }
    }

    /// A user with the root role. As etcd's, whatever revision it is known at:
    /// what is looked at is the user as it is now.
    pub fn root(&self) -> Result<(), Refusal> {
        if self.everything() {
            return Ok(());
        }
        match self.known()? {
            (name, _) if name.is_empty() => Err(Refusal::UserEmpty),
            (_, None) => Err(Refusal::UserNotFound),
            (_, Some(user)) if user.is_root() => Ok(()),
            (_, Some(_)) => Err(Refusal::PermissionDenied),
        }
    }

    /// That user itself, or root.
    pub fn user(&self, asked: &str) -> Result<(), Refusal> {
        let own = match self.by {
            By::User { name, .. } => name.as_ref(),
            By::Nobody | By::Store => "",
        };
        self.root().or_else(|refusal| match own == asked {
            true => Ok(()),
            false => Err(refusal),
        })
    }

    /// A user with that role, or root.
    pub fn role(&self, asked: &str) -> Result<(), Refusal> {
        self.root().or_else(|refusal| match self.known() {
            Ok((_, Some(user))) if user.has_role(asked) => Ok(()),
            _ => Err(refusal),
        })
    }

    /// Reading a range, as in a request for it.
    pub fn read(&self, key: &[u8], range_end: &[u8]) -> Result<(), Refusal> {
        self.range(key, range_end, Access::Read)
    }

    fn write(&self, key: &[u8], range_end: &[u8]) -> Result<(), Refusal> {
        self.range(key, range_end, Access::Write)
    }

    fn range(&self, key: &[u8], range_end: &[u8], access: Access) -> Result<(), Refusal> {
        if self.everything() {
            return Ok(());
        }
        let By::User { revision, .. } = self.by else {
            return Err(Refusal::UserEmpty);
        };
        if bug!("auth-revision-unchecked", *revision < self.auth.revision => false) {
            sometimes!("users-changed-since-the-proposal");
            return Err(Refusal::OldRevision);
        }
        self.range_now(key, range_end, access)
    }

    /// Reading a range by what the user may do now, whenever it was known
    /// first: for what has begun and goes on.
    pub fn still_reads(&self, key: &[u8], range_end: &[u8]) -> Result<(), Refusal> {
        match self.everything() {
            true => Ok(()),
            false => self.range_now(key, range_end, Access::Read),
        }
    }

    fn range_now(&self, key: &[u8], range_end: &[u8], access: Access) -> Result<(), Refusal> {
        let (_, user) = self.known()?;
        let user = user.ok_or(Refusal::PermissionDenied)?;
        if user.is_root() {
            return Ok(());
        }
        let roles = user
            .roles
            .iter()
            .filter_map(|name| self.auth.role(name))
            .map(|role| access.of(role));
        let range_end = bug!("range-end-unchecked", range_end => &[][..]);
        let to = spans::end_of(key, range_end);
        match spans::cover(roles, key, to.as_deref()) {
            true => Ok(()),
            false => Err(Refusal::PermissionDenied),
        }
    }

    fn command<V: View + ?Sized>(&self, view: &V, command: &Command) -> Result<(), Stop> {
        match command {
            Command::Put(put) => self.put(view, put)?,
            Command::DeleteRange(delete) => self.delete(delete)?,
            Command::Txn(txn) => self.txn(view, txn)?,
            Command::LeaseGrant(_) => self.authenticated()?,
            Command::LeaseRevoke(revoke) => {
                self.authenticated()?;
                self.lease_keys(view, revoke.id, Access::Write)?;
            }
            Command::Compact(_) | Command::Alarm(_) => self.root()?,
            // No client's.
            Command::LeaseCheckpoint(_) => {}
        }
        Ok(())
    }

    fn put<V: View + ?Sized>(&self, view: &V, put: &Put) -> Result<(), Stop> {
        self.write(&put.key, &[])?;
        // Whoever may not write all its keys may not end the lease either, and
        // would have its own key tied to it.
        self.lease_keys(view, put.lease, Access::Write)?;
        if bug!("prev-kv-unchecked", put.prev_kv => false) {
            self.read(&put.key, &[])?;
        }
        Ok(())
    }

    fn delete(&self, delete: &DeleteRange) -> Result<(), Refusal> {
        self.write(&delete.key, &delete.range_end)?;
        if delete.prev_kv {
            self.read(&delete.key, &delete.range_end)?;
        }
        Ok(())
    }

    /// A transaction whose form has been checked, on all its levels.
    pub(crate) fn txn<V: View + ?Sized>(&self, view: &V, txn: &Txn) -> Result<(), Stop> {
        for compare in bug!("compares-unchecked", &txn.compare[..] => &[][..]) {
            self.read(&compare.key, &compare.range_end)?;
        }
        let failure = bug!("else-branch-unchecked", &txn.failure[..] => &[][..]);
        for operation in txn.success.iter().chain(failure) {
            match operation {
                Operation::Range(range) => self.read(&range.key, &range.range_end)?,
                Operation::Put(put) => self.put(view, put)?,
                Operation::DeleteRange(delete) => self.delete(delete)?,
                Operation::Txn(nested) => self.txn(view, nested)?,
                Operation::Empty => {}
            }
        }
        Ok(())
    }

    /// All keys of a lease; nothing if there is no such lease.
    fn lease_keys<V: View + ?Sized>(
        &self,
        view: &V,
        lease: i64,
        access: Access,
    ) -> Result<(), Stop> {
        if lease == 0 || self.root().is_ok() {
            return Ok(());
        }
        self.keys(&lease::lease_keys(view, lease)?, access)?;
        Ok(())
    }

    fn keys(&self, keys: &[Bytes], access: Access) -> Result<(), Refusal> {
        keys.iter().try_for_each(|key| self.range(key, &[], access))
    }

    /// A transaction of reads.
    pub fn read_txn<V: View + ?Sized>(
        &self,
        view: &V,
        txn: &Txn,
    ) -> Result<Result<(), Error>, ViewError> {
        match self.everything() {
            true => Ok(Ok(())),
            false => answered(self.txn(view, txn)),
        }
    }

    /// Renewing a lease: writing all its keys.
    pub fn renew<V: View + ?Sized>(
        &self,
        view: &V,
        lease: i64,
    ) -> Result<Result<(), Error>, ViewError> {
        let check = || {
            self.authenticated()?;
            self.lease_keys(view, lease, Access::Write)
        };
        answered(check())
    }

    /// Being told of a lease's keys: reading all of them.
    pub fn told_keys<V: View + ?Sized>(
        &self,
        view: &V,
        lease: i64,
    ) -> Result<Result<(), Error>, ViewError> {
        let check = || {
            self.authenticated()?;
            self.lease_keys(view, lease, Access::Read)
        };
        answered(check())
    }

    /// Being told of all leases: reading all their keys.
    pub fn told_leases<V: View + ?Sized>(&self, view: &V) -> Result<Result<(), Error>, ViewError> {
        let check = || {
            self.authenticated()?;
            if self.root().is_ok() {
                return Ok(());
            }
            for (id, _) in lease::leases(view)? {
                self.lease_keys(view, id, Access::Read)?;
            }
            Ok(())
        };
        answered(check())
    }
}

impl Auth {
    /// Whether the root user has the root role, without which authentication
    /// cannot be switched on.
    pub(super) fn check_root(&self) -> Result<(), Refusal> {
        match self.user(ROOT) {
            None => Err(Refusal::RootUserNotExist),
            Some(user) if !user.is_root() => Err(Refusal::RootRoleNotExist),
            Some(_) => Ok(()),
        }
    }
}
