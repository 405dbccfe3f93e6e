//! Users and roles as clients use them, on any member.
//!
//! The log changes users and roles; every member has them beside its rows. A
//! token is given out by the member that saw the password, and known to all by
//! the log.

use std::sync::Arc;

use mizzen_core::{
    Reply,
    auth::{
        self, Auth, AuthChange, By, Check, Name, PasswordHash, Permission, Refusal, TokenGrant,
    },
};
use mizzen_engine::Engine;
use mizzen_planted::bug;
use tokio::sync::watch;

use super::{
    error::Error,
    model::{caller::Caller, proposal::Body, published::SharedPublished},
    propose::Proposer,
    read::{
        Reads,
        access::{Right, refused},
    },
};
use crate::{
    auth::{Authentication, Issue, Secret, given_hash},
    limits,
};

/// Calls about users and roles.
pub struct Users<E: Engine> {
    pub published: SharedPublished<E>,
    pub tokens: Arc<Authentication>,
    pub reads: Arc<Reads<E>>,
    pub proposer: Arc<Proposer<E>>,
    /// See [`super::apply::thread::Started::cluster_changed`].
    pub cluster_changed: watch::Receiver<()>,
}

impl<E: Engine> Users<E> {
    pub fn new(tokens: Arc<Authentication>, proposer: &Arc<Proposer<E>>) -> Self {
        Self {
            published: proposer.published.clone(),
            tokens,
            reads: proposer.reads.clone(),
            proposer: proposer.clone(),
            cluster_changed: proposer.cluster_changed.clone(),
        }
    }

    /// Resolves when users and roles may have changed, again and again.
    pub fn changed(&self) -> UsersChanged {
        UsersChanged(self.cluster_changed.clone())
    }

    /// A number that differs when users, roles or the switch do.
    pub fn revision(&self) -> (bool, u64) {
        let published = self.published.load();
        (published.auth.is_enabled(), published.auth.revision())
    }

    /// Changes users or roles.
    pub async fn change(&self, caller: &Caller, change: AuthChange) -> Result<Reply, Error> {
        let by = self.reads.access.identify(caller).await?;
        self.proposer.submit(by, Body::Auth(change), None).await
    }

    /// Adds a user; without a password if `password` is `None`.
    pub async fn add(
        &self,
        caller: &Caller,
        name: &str,
        password: Option<Secret>,
    ) -> Result<Reply, Error> {
        // Nobody else makes this member hash.
        self.reads.access.permit_call(caller, Right::Root).await?;
        let password = match password {
            Some(password) => Some(self.tokens.passwords.hash(password).await?),
            None => None,
        };
        let name = name.into();
        self.change(caller, AuthChange::UserAdd { name, password })
            .await
    }

    /// Gives a user another password, or the one of a hash in base64.
    pub async fn change_password(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
        hash: &Secret,
    ) -> Result<Reply, Error> {
        self.reads.access.permit_call(caller, Right::Root).await?;
        let password = match password.reveal() {
            "" => self.given_hash(name, hash)?,
            _ => self.tokens.passwords.hash(password).await?,
        };
        let name = name.into();
        self.change(caller, AuthChange::UserChangePassword { name, password })
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
    pub async fn authenticate(&self, name: &str, password: Secret) -> Result<(String, i64), Error> {
        bug!("login-unconfirmed", self.reads.index.wait().await? => ());
        for _ in 0..limits::AUTH_ATTEMPTS {
            let (hash, revision) = self.known_password(name)?;
            let right = self.tokens.passwords.is_right(password.clone(), hash);
            if !right.await? {
                return Err(refused(Refusal::AuthenticationFailed));
            }
            match self.tokens.issue(name, revision) {
                Issue::Refused(error) => return Err(error.into()),
                Issue::Signed(token) => {
                    if self.revision().1 == revision {
                        return Ok((token, self.published.load().state.revision()));
                    }
                }
                Issue::Announce(token) => {
                    let grant = TokenGrant {
                        user: name.into(),
                        revision,
                        digest: token.digest,
                    };
                    let body = Body::Auth(AuthChange::Token(grant));
                    match self.proposer.submit(By::Nobody, body, None).await {
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
        self.reads.index.wait().await?;
        let (published, by) = self.reads.access.sight(caller).await?;
        let check = Check::new(&published.auth, &by);
        answer(&published.auth, check).map_err(refused)
    }

    /// Whether authentication is on, and the revision of users and roles.
    pub async fn status(&self, caller: &Caller) -> Result<(bool, u64), Error> {
        self.users(caller, |users, _| {
            Ok((users.is_enabled(), users.revision()))
        })
        .await
    }

    /// In ascending order.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Name>, Error> {
        self.users(caller, |users, check| {
            check.root()?;
            Ok(users.users().map(|(name, _)| name.clone()).collect())
        })
        .await
    }

    /// In ascending order.
    pub async fn roles(&self, caller: &Caller) -> Result<Vec<Name>, Error> {
        self.users(caller, |users, check| {
            check.root()?;
            Ok(users.roles().map(|(name, _)| name.clone()).collect())
        })
        .await
    }

    /// A user's roles, in ascending order.
    pub async fn get(&self, caller: &Caller, name: &str) -> Result<Vec<Name>, Error> {
        self.users(caller, |users, check| {
            check.user(name)?;
            let user = users.user(name).ok_or(Refusal::UserNotFound)?;
            Ok(user.roles.clone())
        })
        .await
    }

    pub async fn role(&self, caller: &Caller, name: &str) -> Result<Vec<Permission>, Error> {
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

/// See [`Users::changed`].
pub struct UsersChanged(tokio::sync::watch::Receiver<()>);

impl UsersChanged {
    /// Never again once the member has stopped.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
