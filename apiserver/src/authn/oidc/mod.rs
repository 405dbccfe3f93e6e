//! ID tokens of OpenID Connect: whose they are by what an issuer signed.
//!
//! Each issuer has a task of its own that fetches its keys, so that one which cannot
//! be reached costs nobody else: only tokens that name it wait, and not for long.
//! Decisions are made from memory.
//!
//! Source: upstream's `plugin/pkg/authenticator/token/oidc`.

mod claims;
mod config;
mod keys;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

pub use self::config::{Configured, OidcFlags};
use self::{
    claims::Meaning,
    config::{IssuerConfig, JwtAuthenticator},
    keys::{IssuerKeys, Unsigned},
};
use super::{Digest, Identity, known::Known};
use crate::{
    calls::Calls,
    codec::{self, Precision},
    limits, tasks,
};

/// Clocks differ: a token that begins later than now by this is taken.
const LEEWAY: i64 = 5 * 60;

/// A token that was checked, and until when that is believed.
struct Checked {
    identity: Arc<Identity>,
    until: Instant,
    ends: i64,
}

/// All issuers.
#[derive(Default)]
pub struct Oidc {
    issuers: Vec<Arc<Issuer>>,
    algorithms: Vec<Algorithm>,
    known: Known<Checked>,
}

struct Issuer {
    config: IssuerConfig,
    meaning: Meaning,
    keys: ArcSwapOption<IssuerKeys>,
    /// Somebody waits for newer keys.
    wanted: Notify,
    /// Counts fetches.
    fetched: watch::Sender<u64>,
}

impl Oidc {
    pub fn new(configured: &Configured) -> Self {
        let issuers = configured
            .issuers
            .iter()
            .map(|one| Arc::new(Issuer::new(one)));
        let algorithms = configured.algorithms.iter();
        Self {
            issuers: issuers.collect(),
            algorithms: algorithms.filter_map(|name| name.parse().ok()).collect(),
            known: Known::default(),
        }
    }

    /// Begins to fetch keys.
    pub fn start(&self) {
        let calls = Arc::new(Calls::default());
        for issuer in &self.issuers {
            let (issuer, calls) = (issuer.clone(), calls.clone());
            // It lives as long as the process.
            drop(tasks::spawn(
                "oidc",
                async move { issuer.keep(&calls).await },
            ));
        }
    }

    /// Whose token it is; `None` if it is of none of these issuers.
    ///
    /// # Errors
    /// It is of one of them and does not hold.
    pub async fn token(
        &self,
        token: &str,
        digest: Digest,
    ) -> Result<Option<Arc<Identity>>, String> {
        if self.issuers.is_empty() {
            return Ok(None);
        }
        let (now, _) = codec::now();
        if let Some(checked) = self.known.get(&digest) {
            if checked.until > Instant::now() && checked.ends >= now {
                return Ok(Some(checked.identity.clone()));
            }
            self.known.forget(&digest);
        }
        let named = issuer(token);
        let Some(issuer) =
            named.and_then(|url| self.issuers.iter().find(|one| one.config.url == url))
        else {
            return Ok(None);
        };
        let verify = |why: &str| format!("oidc: verify token: {why}");
        let claims = issuer.claims(token, &self.algorithms).await?;
        let ends = issuer.check(&claims, now).map_err(|why| verify(&why))?;
        let identity = Arc::new(issuer.meaning.identity(&claims)?.authenticated());
        let checked = Checked {
            identity: identity.clone(),
            until: Instant::now() + limits::OIDC_BELIEVED,
            ends,
        };
        self.known.keep(digest, Arc::new(checked));
        Ok(Some(identity))
    }
}

/// The issuer that a token names, which proves nothing.
fn issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["iss"].as_str().map(str::to_owned)
}

impl Issuer {
    fn new(config: &JwtAuthenticator) -> Self {
        Self {
            config: config.issuer.clone(),
            meaning: Meaning::new(config),
            keys: ArcSwapOption::empty(),
            wanted: Notify::new(),
            fetched: watch::Sender::new(0),
        }
    }

    /// Fetches keys at the start, and when they are wanted.
    async fn keep(&self, calls: &Calls) {
        loop {
            let pause = match IssuerKeys::fetch(calls, &self.config).await {
                Ok(keys) => {
                    self.keys.store(Some(Arc::new(keys)));
                    limits::OIDC_ASKED
                }
                Err(why) => {
                    tracing::error!(issuer = self.config.url, why, "keys cannot be fetched");
                    limits::OIDC_RETRY
                }
            };
            self.fetched.send_modify(|count| *count += 1);
            let known = self.keys.load().is_some();
            tokio::time::sleep(if known { limits::OIDC_ASKED } else { pause }).await;
            if known {
                self.wanted.notified().await;
            }
        }
    }

    /// The claims of a token that it signed, perhaps with a key that is new.
    async fn claims(
        &self,
        token: &str,
        algorithms: &[Algorithm],
    ) -> Result<Map<String, Value>, String> {
        let mut fetched = self.fetched.subscribe();
        let verify = |why: &str| format!("oidc: verify token: {why}");
        for again in [true, false] {
            let Some(keys) = self.keys.load_full() else {
                return Err("oidc: authenticator not initialized".to_owned());
            };
            match keys.claims(token, algorithms) {
                Ok(claims) => return Ok(claims),
                Err(Unsigned::Wrong(why)) => return Err(verify(&why)),
                Err(Unsigned::Unknown) if again => {
                    fetched.mark_unchanged();
                    self.wanted.notify_one();
                    wait(&mut fetched, limits::OIDC_WAIT).await;
                }
                Err(Unsigned::Unknown) => {}
            }
        }
        Err(verify(
            "failed to verify signature: failed to verify id token signature",
        ))
    }

    /// Whether a token is for us and in time; gives when it ends.
    fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<i64, String> {
        let audiences: Vec<&str> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let own = &self.config.audiences;
        if !audiences.iter().any(|one| own.iter().any(|own| own == one)) {
            return Err(match &own[..] {
                [one] => format!("oidc: expected audience {one:?} got {audiences:?}"),
                several => format!("oidc: expected audience in {several:?} got {audiences:?}"),
            });
        }
        let time = |claim: &str| claims.get(claim).and_then(seconds);
        // Go's time of nothing.
        let ends = time("exp").unwrap_or(-62_135_596_800);
        if ends < now {
            let at = codec::format_time(ends, 0, Precision::Seconds);
            let at = at.replace('T', " ").replace('Z', " +0000 UTC");
            return Err(format!("oidc: token is expired (Token Expiry: {at})"));
        }
        if time("nbf").is_some_and(|starts| starts > now + LEEWAY) {
            return Err("oidc: current time before the nbf (not before) time".to_owned());
        }
        Ok(ends)
    }
}

/// A time in seconds, whole or with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a fraction of a second does not count"
)]
fn seconds(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|at| at as i64))
}

async fn wait(fetched: &mut watch::Receiver<u64>, most: Duration) {
    // Whether there are newer keys shows when they are used.
    drop(tokio::time::timeout(most, fetched.changed()).await);
}

#[cfg(test)]
mod tests;
