//! Who a client is: passwords, and the tokens it gets for them.
//!
//! Knows how passwords are hashed, how tokens are made and how long they live.
//! Must not know rows, the log, or what a user may do: the state machine has
//! that. Nothing here prints a password, a token or a key.

mod jwt;
mod options;
mod passwords;
mod simple;

use std::{fmt, sync::Arc, time::Duration};

use mizzen_core::auth::{Auth, By, Name, PasswordHash, TokenDigest};

#[cfg(feature = "fuzzing")]
pub(crate) use options::JwtOptions;
pub use options::{OptionsError, TokenOptions};
pub use passwords::{PasswordError, Passwords, bcrypt_cost};

pub(crate) use jwt::Jwt;
use simple::SimpleTokens;

/// Something that nobody may read in a log. Its own text is for comparing and
/// sending only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a call says about who makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallCredentials {
    pub token: Option<Secret>,
    /// The common name of the certificate the client has shown on this
    /// connection, if that counts: not when a gateway calls for somebody else.
    pub certificate: Option<Name>,
}

/// How a member authenticates its clients.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    pub tokens: TokenOptions,
    /// How long a simple token lives after it was used last.
    pub token_ttl: Duration,
    /// bcrypt's cost: each step doubles the time a hash takes.
    pub bcrypt_cost: u32,
}

impl Default for AuthConfig {
    /// etcd's defaults.
    fn default() -> Self {
        Self {
            tokens: TokenOptions::Simple,
            token_ttl: crate::limits::AUTH_TOKEN_TTL,
            bcrypt_cost: passwords::DEFAULT_COST,
        }
    }
}

enum Tokens {
    Simple(SimpleTokens),
    Jwt(Box<Jwt>),
    /// None is given out, and none is right.
    None,
}

/// What becomes of the right password.
pub enum Issue {
    /// The token counts once all members know it by its digest.
    Announce(NewToken),
    /// It counts as it is.
    Signed(String),
    Refused(IssueError),
}

/// Why no token is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// etcd's text.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    #[error("etcdserver: too many auth tokens")]
    TooManyTokens,
    /// Tokens are switched off.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    NoTokens,
    #[error("auth: the token could not be signed")]
    Signing,
}

/// A simple token before it is known.
pub struct NewToken {
    text: String,
    pub digest: TokenDigest,
}

impl NewToken {
    /// The token as clients send it. `index`: an entry of the log by which it
    /// is known.
    pub fn known_at(self, index: u64) -> String {
        format!("{}.{index}", self.text)
    }
}

/// Who a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identified {
    As(By),
    /// This member may not have heard of the token yet.
    NotYet,
    /// The token is nobody's.
    Invalid,
}

/// Passwords and tokens of one member.
pub struct Authentication {
    pub passwords: Passwords,
    tokens: Tokens,
}

impl Authentication {
    /// Reads the key files that `config` names.
    pub fn new(config: AuthConfig, workers: crate::workers::Workers) -> Result<Self, OptionsError> {
        let tokens = match config.tokens {
            TokenOptions::Simple => Tokens::Simple(SimpleTokens::new(config.token_ttl)),
            TokenOptions::Jwt(options) => Tokens::Jwt(Box::new(Jwt::new(&options)?)),
            TokenOptions::None => Tokens::None,
        };
        Ok(Self {
            passwords: Passwords::new(config.bcrypt_cost, workers),
            tokens,
        })
    }

    /// Who makes a call, given users as they are after entry `applied`.
    pub fn identify(&self, credentials: &CallCredentials, auth: &Auth, applied: u64) -> Identified {
        if !auth.is_enabled() {
            return Identified::As(By::Nobody);
        }
        let by = |name: Name, revision| Identified::As(By::User { name, revision });
        let Some(token) = &credentials.token else {
            return match &credentials.certificate {
                Some(name) => by(name.clone(), auth.revision()),
                None => Identified::As(By::Nobody),
            };
        };
        match &self.tokens {
            Tokens::Simple(tokens) => match tokens.find(token.reveal()) {
                Some(name) if auth.user(&name).is_some() => by(name, auth.revision()),
                Some(_) => Identified::Invalid,
                None if simple::index(token.reveal()).is_some_and(|index| index > applied) => {
                    Identified::NotYet
                }
                None => Identified::Invalid,
            },
            Tokens::Jwt(jwt) => match jwt.verify(token.reveal()) {
                Some((name, revision)) => by(name.into(), revision),
                None => Identified::Invalid,
            },
            Tokens::None => Identified::Invalid,
        }
    }

    /// A token for a user whose password was right at `revision`.
    pub fn issue(&self, user: &str, revision: u64) -> Issue {
        match &self.tokens {
            Tokens::Simple(tokens) if tokens.is_full() => Issue::Refused(IssueError::TooManyTokens),
            Tokens::Simple(_) => {
                let text = simple::new_text();
                let digest = simple::digest(&text);
                Issue::Announce(NewToken { text, digest })
            }
            Tokens::Jwt(jwt) => match jwt.sign(user, revision) {
                Ok(token) => Issue::Signed(token),
                Err(error) => Issue::Refused(error),
            },
            Tokens::None => Issue::Refused(IssueError::NoTokens),
        }
    }

    /// The log says that a token is a user's.
    pub fn assign(&self, digest: TokenDigest, user: Name) {
        if let Tokens::Simple(tokens) = &self.tokens {
            tokens.assign(digest, user);
        }
    }

    /// The tokens of a user count no more.
    pub fn forget(&self, user: &str) {
        if let Tokens::Simple(tokens) = &self.tokens {
            tokens.forget(user);
        }
    }

    /// No token counts any more.
    pub fn forget_all(&self) {
        if let Tokens::Simple(tokens) = &self.tokens {
            tokens.forget_all();
        }
    }
}

/// The hash that a client may give in place of a password.
pub fn given_hash(base64_text: &str) -> Option<PasswordHash> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(base64_text).ok()?;
    Some(PasswordHash(bytes.into()))
}
