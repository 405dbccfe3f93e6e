//! Who makes a call, and whether they may: by the users and roles of one moment of
//! the rows.

use std::sync::Arc;

use mizzen_core::auth::{Auth, By, Check, Refusal};
use mizzen_engine::Engine;
use mizzen_planted::sometimes;

use super::read_index::ReadIndex;
use crate::{
    auth::{Authentication, Identified},
    server::{
        error::Error,
        model::{
            caller::Caller,
            published::{Published, SharedPublished},
        },
    },
};

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

/// Knows callers by their credentials.
pub struct Access<E: Engine> {
    pub published: SharedPublished<E>,
    pub tokens: Arc<Authentication>,
    pub index: Arc<ReadIndex>,
}

impl<E: Engine> Access<E> {
    /// Who makes a call. Waits for a token that another member has given out,
    /// until this one must know it.
    pub async fn identify(&self, caller: &Caller) -> Result<By, Error> {
        self.sight(caller).await.map(|(_, by)| by)
    }

    /// A moment of the rows, and who makes the call by it.
    pub async fn sight(&self, caller: &Caller) -> Result<(Arc<Published<E::Snapshot>>, By), Error> {
        let published = self.published.load_full();
        let known = |published: &Published<E::Snapshot>| {
            self.tokens.identify(
                &caller.credentials,
                &published.auth,
                published.applied_index(),
            )
        };
        match known(&published) {
            Identified::As(by) => return Ok((published, by)),
            Identified::Invalid => return Err(refused(Refusal::InvalidToken)),
            Identified::NotYet => {
                sometimes!("token-not-known-yet");
                self.index.wait().await?;
            }
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
    /// it is, to be asked again by [`Access::still_reads`].
    pub async fn permit_read(
        &self,
        caller: &Caller,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<By, Error> {
        let (mut published, mut by) = self.sight(caller).await?;
        if !published.auth.is_enabled() && caller.credentials.token.is_some() {
            // Tokens are given out while authentication is on: this member may
            // not have heard of that yet.
            self.index.wait().await?;
            (published, by) = self.sight(caller).await?;
        }
        let check = Check::new(&published.auth, &by);
        check.read(key, range_end).map_err(refused)?;
        Ok(lasting(by, caller, &published.auth))
    }

    /// Whether who was permitted to read a range still is.
    pub fn still_reads(&self, by: &By, key: &[u8], range_end: &[u8]) -> Result<(), Error> {
        let published = self.published.load();
        let check = Check::new(&published.auth, by);
        check.still_reads(key, range_end).map_err(refused)
    }
}

/// Who goes on reading. While authentication is off a caller is nobody; once it
/// is on it is whom its certificate names.
pub fn lasting(by: By, caller: &Caller, auth: &Auth) -> By {
    match (&by, &caller.credentials.certificate) {
        (By::Nobody, Some(name)) => By::User {
            name: name.clone(),
            revision: auth.revision(),
        },
        _ => by,
    }
}

pub fn refused(refusal: Refusal) -> Error {
    mizzen_core::Error::from(refusal).into()
}
