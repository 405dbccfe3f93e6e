//! Users and roles as clients use them, on any member, and who a client is.
//!
//! The log changes users and roles; every member has them beside its rows. A
//! token is given out by the member that saw the password, and known to all by
//! the log.

use std::sync::Arc;

use mizzen_core::{
    Overlay, Reply, State, View, ViewError,
    auth::{
        self, Auth, AuthChange, By, Check, Name, PasswordHash, Permission, Refusal, TokenGrant,
    },
};
use mizzen_engine::Engine;

use super::{Body, Caller, Error, Published, Server, members, proposal::Proposal};
use crate::{
    auth::{Authentication, Identified, Issue, Secret, given_hash},
    limits,
};

/// Whether a committed proposal may be applied, given users and rows before it.
pub(super) fn permit<V: View>(
    users: &Auth,
    proposal: &Proposal,
    state: &State,
    overlay: &Overlay<'_, V>,
) -> Result<Result<(), mizzen_core::Error>, ViewError> {
    match &proposal.body {
        Body::Command(command) => auth::permit(users, &proposal.by, state, overlay, command),
        Body::Members(
            members::Change::Add { .. }
            | members::Change::Remove { .. }
            | members::Change::Update { .. }
            | members::Change::Promote { .. },
        ) => Ok(Check::new(users, &proposal.by).root().map_err(Into::into)),
        // What members propose on their own account, and what checks itself.
        Body::Members(_) | Body::Expiry(_) | Body::Auth(_) => Ok(Ok(())),
    }
}

/// Applies a change of users and roles, or refuses it.
pub(super) fn apply<V: View>(
    users: &mut Arc<Auth>,
    overlay: &mut Overlay<'_, V>,
    by: &By,
    change: &AuthChange,
) -> Result<(), Refusal> {
    if let AuthChange::Token(_) = change {
        // Only looks: others need not see new users.
        return users.as_ref().clone().apply(overlay, by, change);
    }
    Arc::make_mut(users).apply(overlay, by, change)
}

/// What changes mean for the tokens this member knows. A restarted member has
/// forgotten those of its earlier life.
pub(super) fn tell(tokens: &Authentication, changes: &[AuthChange], replayed: bool) {
    for change in changes {
        match change {
            AuthChange::Token(grant) if !replayed => {
                tokens.assign(grant.digest, grant.user.clone())
            }
            AuthChange::UserDelete { name } | AuthChange::UserChangePassword { name, .. } => {
                tokens.forget(name);
            }
            AuthChange::Disable => tokens.forget_all(),
            _ => {}
        }
    }
}

/// What a call needs beside what its ranges of keys need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing, but credentials that are given must be right.
    Anybody,
    /// Nothing; credentials are not looked at.
    Unseen,
    /// To be some user.
    Authenticated,
    /// The root role.
    Root,
    /// What its ranges of keys, its leases or its names need, looked at where
    /// these are known.
    Own,
}

impl<E: Engine> Server<E> {
    /// Who makes a call. Waits for a token that another member has given out,
    /// until this one must know it.
    pub(super) async fn identify(&self, caller: &Caller) -> Result<By, Error> {
        self.sight(caller).await.map(|(_, by)| by)
    }

    /// A moment of the rows, and who makes the call by it.
    pub(super) async fn sight(
        &self,
        caller: &Caller,
    ) -> Result<(Arc<Published<E::Snapshot>>, By), Error> {
        let published = self.published.load_full();
        let known = |published: &Published<E::Snapshot>| {
            self.auth.identify(
                &caller.credentials,
                &published.auth,
                published.applied_index(),
            )
        };
        match known(&published) {
            Identified::As(by) => return Ok((published, by)),
            Identified::Invalid => return Err(refused(Refusal::InvalidToken)),
            Identified::NotYet => self.read_index.wait().await?,
        }
        let published = self.published.load_full();
        match known(&published) {
            Identified::As(by) => Ok((published, by)),
            Identified::Invalid | Identified::NotYet => Err(refused(Refusal::InvalidToken)),
        }
    }

    /// Refuses a call before anything is done for it. What it asks for is
    /// looked at once more where it is carried out.
    pub async fn permit_call(&self, caller: &Caller, right: Right) -> Result<(), Error> {
        let later = matches!(right, Right::Unseen | Right::Own);
        if later || !self.published.load().auth.is_enabled() {
            return Ok(());
        }
        let (published, by) = self.sight(caller).await?;
        let check = Check::new(&published.auth, &by);
        match right {
            Right::Unseen | Right::Anybody | Right::Own => Ok(()),
            Right::Authenticated => check.authenticated(),
            Right::Root => check.root(),
        }
        .map_err(refused)
    }

    /// Whether the caller may read a range, as in a request for it; gives who
    /// it is, to be asked again by [`Server::still_reads`].
    pub async fn permit_read(
        &self,
        caller: &Caller,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<By, Error> {
        let (published, by) = self.sight(caller).await?;
        let check = Check::new(&published.auth, &by);
        check.read(key, range_end).map_err(refused)?;
        Ok(by)
    }

    /// Whether who was permitted to read a range still is.
    pub fn still_reads(&self, by: &By, key: &[u8], range_end: &[u8]) -> Result<(), Error> {
        let published = self.published.load();
        let check = Check::new(&published.auth, by);
        check.still_reads(key, range_end).map_err(refused)
    }

    /// Resolves when users and roles may have changed, again and again.
    pub fn users_changed(&self) -> UsersChanged {
        UsersChanged(self.seldom.clone())
    }

    /// A number that differs when users, roles or the switch do.
    pub fn users_revision(&self) -> (bool, u64) {
        let published = self.published.load();
        (published.auth.is_enabled(), published.auth.revision())
    }

    pub(super) async fn permit_renewal(&self, caller: &Caller, lease: i64) -> Result<(), Error> {
        if !self.published.load().auth.is_enabled() {
            return Ok(());
        }
        self.read(caller, lease, |lease, check, _, view, _| {
            check.renew(view, *lease)
        })
        .await
    }

    /// Changes users or roles.
    pub async fn change_users(&self, caller: &Caller, change: AuthChange) -> Result<Reply, Error> {
        self.admit(caller)?;
        let by = self.identify(caller).await?;
        self.submit(by, Body::Auth(change), None).await
    }

    /// Adds a user; without a password if `password` is `None`.
    pub async fn user_add(
        &self,
        caller: &Caller,
        name: &str,
        password: Option<Secret>,
    ) -> Result<Reply, Error> {
        // Nobody else makes this member hash.
        self.permit_call(caller, Right::Root).await?;
        let password = match password {
            Some(password) => Some(self.auth.passwords.hash(password).await?),
            None => None,
        };
        let name = name.into();
        self.change_users(caller, AuthChange::UserAdd { name, password })
            .await
    }

    /// Gives a user another password, or the one of a hash in base64.
    pub async fn user_change_password(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
        hash: &Secret,
    ) -> Result<Reply, Error> {
        self.permit_call(caller, Right::Root).await?;
        let password = match password.reveal() {
            "" => self.given_hash(name, hash)?,
            _ => self.auth.passwords.hash(password).await?,
        };
        let name = name.into();
        self.change_users(caller, AuthChange::UserChangePassword { name, password })
            .await
    }

    fn given_hash(&self, name: &str, hash: &Secret) -> Result<PasswordHash, Error> {
        if let Some(hash) = given_hash(hash.reveal()) {
            return Ok(hash);
        }
        match self.published.load().auth.user(name) {
            None => Err(refused(Refusal::UserNotFound)),
            // etcd's words for what is no base64.
            Some(_) => Err(refused(Refusal::NoPasswordUser)),
        }
    }

    /// A token for a name and its password.
    pub async fn authenticate(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
    ) -> Result<(String, i64), Error> {
        self.admit(caller)?;
        self.read_index.wait().await?;
        for _ in 0..limits::AUTH_ATTEMPTS {
            let (hash, revision) = self.known_password(name)?;
            let right = self.auth.passwords.is_right(password.clone(), hash);
            if !right.await? {
                return Err(refused(Refusal::AuthenticationFailed));
            }
            match self.auth.issue(name, revision) {
                Issue::Refused(error) => return Err(error.into()),
                Issue::Signed(token) => {
                    if self.users_revision().1 == revision {
                        return Ok((token, self.revision()));
                    }
                }
                Issue::Announce(token) => {
                    let grant = TokenGrant {
                        user: name.into(),
                        revision,
                        digest: token.digest,
                    };
                    let body = Body::Auth(AuthChange::Token(grant));
                    match self.submit(By::Nobody, body, None).await {
                        Ok(reply) => {
                            let index = self.published.load().applied_index();
                            return Ok((token.known_at(index), reply.revision()));
                        }
                        Err(Error::Refused(mizzen_core::Error::Auth(Refusal::OldRevision))) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            // Users were changed meanwhile: perhaps this password.
        }
        Err(refused(Refusal::OldRevision))
    }

    /// The hash of a user's password and the revision it is of; no hash if there
    /// is no such user.
    fn known_password(&self, name: &str) -> Result<(Option<PasswordHash>, u64), Error> {
        let published = self.published.load();
        let users = &published.auth;
        if !users.is_enabled() {
            return Err(refused(Refusal::NotEnabled));
        }
        match users.user(name) {
            None => Ok((None, users.revision())),
            Some(user) => match &user.password {
                None => Err(refused(Refusal::NoPasswordUser)),
                hash => Ok((hash.clone(), users.revision())),
            },
        }
    }

    /// Users and roles as they are now, and what the caller may see of them.
    async fn users<T>(
        &self,
        caller: &Caller,
        answer: impl FnOnce(&Auth, Check<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        self.linearize(caller).await?;
        let (published, by) = self.sight(caller).await?;
        let check = Check::new(&published.auth, &by);
        answer(&published.auth, check).map_err(refused)
    }

    /// Whether authentication is on, and the revision of users and roles.
    pub async fn auth_status(&self, caller: &Caller) -> Result<(bool, u64), Error> {
        self.users(caller, |users, _| {
            Ok((users.is_enabled(), users.revision()))
        })
        .await
    }

    /// In ascending order.
    pub async fn user_list(&self, caller: &Caller) -> Result<Vec<Name>, Error> {
        self.users(caller, |users, check| {
            check.root()?;
            Ok(users.users().cloned().collect())
        })
        .await
    }

    /// In ascending order.
    pub async fn role_list(&self, caller: &Caller) -> Result<Vec<Name>, Error> {
        self.users(caller, |users, check| {
            check.root()?;
            Ok(users.roles().cloned().collect())
        })
        .await
    }

    /// A user's roles, in ascending order.
    pub async fn user_get(&self, caller: &Caller, name: &str) -> Result<Vec<Name>, Error> {
        self.users(caller, |users, check| {
            check.user(name)?;
            let user = users.user(name).ok_or(Refusal::UserNotFound)?;
            Ok(user.roles.clone())
        })
        .await
    }

    pub async fn role_get(&self, caller: &Caller, name: &str) -> Result<Vec<Permission>, Error> {
        self.users(caller, |users, check| {
            check.role(name)?;
            let role = users.role(name).ok_or(Refusal::RoleNotFound)?;
            Ok(match name {
                auth::ROOT => vec![Permission::everything()],
                _ => role.permissions().to_vec(),
            })
        })
        .await
    }
}

pub(super) fn refused(refusal: Refusal) -> Error {
    mizzen_core::Error::from(refusal).into()
}

/// See [`Server::users_changed`].
pub struct UsersChanged(tokio::sync::watch::Receiver<()>);

impl UsersChanged {
    /// Never again once the member has stopped.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
