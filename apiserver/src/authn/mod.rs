//! Who asks: from what a request shows, a certificate or a token, to a name
//! and its groups, in upstream's order.
//!
//! Knows certificates, tokens, and the objects that tokens end with. Must not
//! know what anybody may do, nor how a request is answered.

mod account;
mod bootstrap;
mod certificate;
mod file;
mod known;
mod oidc;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use self::{
    account::Accounts,
    certificate::{Peer, Shown, Trust},
    file::Tokens,
    oidc::{Oidc, OidcFlags},
};
use crate::registry::Registry;

/// Whoever is a member may do everything.
pub const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
/// Which certificate or token it was.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";
/// What anybody may ask for by default: whether the server lives.
const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz"];

/// Why what identities are made of cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0}: no certificate of an authority that can be used")]
    NoAuthority(PathBuf),
    #[error("{0}: {1}")]
    Authority(PathBuf, String),
    #[error("{0}: {1}")]
    Tokens(PathBuf, String),
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What an authenticator knows besides, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// Who shows nothing.
    pub fn anonymous() -> Self {
        Self {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Who is taken for this name: with the groups that its like has.
    #[must_use]
    pub fn impersonated(mut self) -> Self {
        if self.user == ANONYMOUS && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(UNAUTHENTICATED.to_owned());
        }
        let account = self.user.strip_prefix("system:serviceaccount:");
        if let Some((namespace, name)) = account.and_then(|rest| rest.split_once(':'))
            && self.groups.is_empty()
            && !name.contains(':')
        {
            self.groups = groups_of_account(namespace);
        }
        self.authenticated()
    }

    /// Upstream's `UserInfo`, less what is empty.
    pub fn info(&self) -> Value {
        let mut user = json!({"username": self.user});
        if !self.uid.is_empty() {
            user["uid"] = self.uid.clone().into();
        }
        if !self.groups.is_empty() {
            user["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// Everybody who showed something that holds is in one more group.
    fn authenticated(mut self) -> Self {
        let told = self.is_in(AUTHENTICATED) || self.is_in(UNAUTHENTICATED);
        if !told && self.user != ANONYMOUS {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// The groups of all service accounts, and of those of a namespace.
fn groups_of_account(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Which requests may show nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Anonymous {
    /// All, as upstream lets them by default.
    All,
    /// Those for the server's health.
    Health,
    /// Those for these paths.
    Paths(Vec<String>),
    None,
}

impl Anonymous {
    fn may_ask_for(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Health => HEALTH.contains(&path),
            Self::Paths(paths) => paths.iter().any(|one| one == path),
            Self::None => false,
        }
    }
}

/// What a token says, for those who asked.
#[derive(Debug)]
pub struct Reviewed {
    pub identity: Arc<Identity>,
    /// For whom it is, of those who asked.
    pub audiences: Vec<String>,
}

const INVALID: &str = "invalid bearer token";

/// A token is found by its hash: so no comparison tells how much of it was
/// right.
type Digest = [u8; 32];

/// Everything by which a request can be authenticated.
pub struct Authenticators {
    /// Whose certificates are believed; replaced when its file changes.
    pub trust: Arc<ArcSwap<Trust>>,
    pub tokens: Tokens,
    pub accounts: Accounts,
    /// Tokens in secrets, by which nodes join.
    pub bootstrap: bool,
    pub oidc: Oidc,
    pub anonymous: Anonymous,
}

impl Authenticators {
    /// Who sent a request for `path` by a connection with such a certificate;
    /// `None` is upstream's 401.
    pub async fn identify(
        &self,
        registry: &Registry,
        peer: Option<&Peer>,
        authorization: &str,
        path: &str,
    ) -> Option<Arc<Identity>> {
        let mut wrong = false;
        if let Some(peer) = peer {
            match peer.shows(&self.trust.load()) {
                Shown::Identity(identity) => return Some(identity),
                Shown::Nothing => {}
                Shown::Wrong => wrong = true,
            }
        }
        if let Some(token) = bearer(authorization) {
            let own = self.accounts.audiences();
            match self.token(registry, token, own).await {
                Ok(reviewed) => return Some(reviewed.identity),
                Err(why) => {
                    tracing::debug!(path, why, "a token is not taken");
                    wrong = true;
                }
            }
        }
        // Who shows what does not hold is nobody, not an unknown somebody.
        (!wrong && self.anonymous.may_ask_for(path)).then(|| Arc::new(Identity::anonymous()))
    }

    /// Whose token it is, to those who ask.
    ///
    /// # Errors
    /// Upstream's words for why it is nobody's.
    pub async fn token(
        &self,
        registry: &Registry,
        token: &str,
        wanted: &[String],
    ) -> Result<Reviewed, String> {
        let digest: Digest = Sha256::digest(token.as_bytes()).into();
        // Tokens that name no audience are for this API.
        let own = self.accounts.audiences().iter();
        let own: Vec<String> = own.filter(|one| wanted.contains(one)).cloned().collect();
        let of_all = |identity| Reviewed {
            identity,
            audiences: own.clone(),
        };
        if !own.is_empty()
            && let Some(identity) = self.tokens.get(&digest)
        {
            return Ok(of_all(identity));
        }
        let account = self.accounts.token(registry, token, digest, wanted);
        if let Some(reviewed) = account.await.map_err(|why| format!("[{INVALID}, {why}]"))? {
            return Ok(reviewed);
        }
        if self.bootstrap
            && !own.is_empty()
            && let Some(identity) = bootstrap::token(registry, token).await
        {
            return Ok(of_all(Arc::new(identity.authenticated())));
        }
        if !own.is_empty() {
            let found = self.oidc.token(token, digest).await;
            if let Some(identity) = found.map_err(|why| format!("[{INVALID}, {why}]"))? {
                return Ok(of_all(identity));
            }
        }
        Err(INVALID.to_owned())
    }
}

/// The token of an `Authorization` header.
fn bearer(authorization: &str) -> Option<&str> {
    let mut parts = authorization.trim().split(' ');
    let scheme = parts.next()?;
    let token = parts.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn read(path: &Path) -> Result<Vec<u8>, AuthnError> {
    std::fs::read(path).map_err(|error| AuthnError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_as_upstream_reads_it() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("  bearer abc def ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Bearer  abc", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(header), token, "{header:?}");
        }
    }

    #[test]
    fn who_showed_something_is_in_one_more_group() {
        let plain = Identity {
            user: "a".to_owned(),
            ..Identity::default()
        };
        assert_eq!(plain.clone().authenticated().groups, [AUTHENTICATED]);
        let twice = plain.authenticated().authenticated();
        assert_eq!(twice.groups, [AUTHENTICATED]);
        let anonymous = Identity::anonymous().authenticated();
        assert_eq!(anonymous.groups, [UNAUTHENTICATED]);
    }

    #[test]
    fn health_may_be_asked_for_by_anybody() {
        assert!(Anonymous::Health.may_ask_for("/livez"));
        assert!(!Anonymous::Health.may_ask_for("/livez/etcd"));
        assert!(!Anonymous::Health.may_ask_for("/api"));
        assert!(!Anonymous::None.may_ask_for("/livez"));
        assert!(Anonymous::All.may_ask_for("/api"));
    }
}
