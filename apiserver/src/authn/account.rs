//! Tokens of service accounts: who signed them, for whom, until when, and
//! whether everything they were made for is still there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::Value;

use super::{CREDENTIAL, Digest, Identity, Reviewed, groups_of_account, known::Known};
use crate::{
    codec,
    registry::{Registry, Target},
    token::{ISSUER, Keys},
};

/// Clocks of machines differ by so many seconds, as upstream allows.
const LEEWAY: i64 = 60;

/// What a token must not outlive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Account,
    Secret,
    Pod,
    Node,
}

impl What {
    fn plural(self) -> &'static str {
        match self {
            Self::Account => "serviceaccounts",
            Self::Secret => "secrets",
            Self::Pod => "pods",
            Self::Node => "nodes",
        }
    }

    /// Upstream's words for an object, and for the claim that names it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Account => ("service account", "claim"),
            Self::Secret => ("secret", "service account secret ref claim"),
            Self::Pod => ("pod", "service account pod ref claim"),
            Self::Node => ("node", "service account node ref claim"),
        }
    }
}

#[derive(Debug)]
struct Bound {
    what: What,
    namespace: String,
    name: String,
    uid: String,
    /// The version of the object that was found to be the one.
    seen: AtomicI64,
}

/// A token whose signature was checked.
#[derive(Debug)]
struct Token {
    audiences: Vec<String>,
    issued: Option<i64>,
    starts: Option<i64>,
    ends: Option<i64>,
    /// In the order in which they are asked for.
    bound: Vec<Bound>,
    identity: Arc<Identity>,
}

/// Whose tokens are taken.
pub struct Accounts {
    keys: Keys,
    /// For whom tokens must be: this API.
    audiences: Vec<String>,
    known: Known<Token>,
}

impl Accounts {
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            audiences: vec![ISSUER.to_owned()],
            known: Known::default(),
        }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Whose token it is; `None` when it is no service account's.
    pub(super) async fn token(
        &self,
        registry: &Registry,
        text: &str,
        digest: Digest,
        wanted: &[String],
    ) -> Result<Option<Reviewed>, String> {
        let token = match self.known.get(&digest) {
            Some(token) => token,
            None => {
                let Some(claims) = self.keys.claims(text)? else {
                    return Ok(None);
                };
                let token = Arc::new(Token::new(&claims)?);
                self.known.keep(digest, token.clone());
                token
            }
        };
        let audiences = self.accepted(&token, wanted)?;
        let checked = match token.in_time(codec::now().0) {
            Ok(()) => token.is_bound(registry).await,
            Err(why) => Err(why.to_owned()),
        };
        if let Err(why) = checked {
            self.known.forget(&digest);
            return Err(why);
        }
        Ok(Some(Reviewed {
            identity: token.identity.clone(),
            audiences,
        }))
    }

    fn accepted(&self, token: &Token, wanted: &[String]) -> Result<Vec<String>, String> {
        // A token for nobody in particular is for this API.
        let of = match &token.audiences[..] {
            [] => &self.audiences,
            some => some,
        };
        let both: Vec<String> = of
            .iter()
            .filter(|one| wanted.contains(one))
            .cloned()
            .collect();
        if both.is_empty() {
            return Err(format!(
                "token audiences {} is invalid for the target audiences {}",
                quoted(of),
                quoted(wanted)
            ));
        }
        Ok(both)
    }
}

/// As Go quotes a list of texts.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

impl Token {
    fn new(claims: &Value) -> Result<Self, String> {
        let private = &claims["kubernetes.io"];
        for other in [
            "validatingwebhookconfiguration",
            "mutatingwebhookconfiguration",
        ] {
            if !private[other].is_null() {
                return Err(format!("tokens bound to a {other} are not taken"));
            }
        }
        let namespace = text(private, "namespace");
        let bound = |what: What, claim: &str| {
            let of = &private[claim];
            (!of.is_null()).then(|| Bound {
                what,
                namespace: namespace.clone(),
                name: text(of, "name"),
                uid: text(of, "uid"),
                seen: AtomicI64::new(0),
            })
        };
        let account =
            bound(What::Account, "serviceaccount").ok_or("the token names no service account")?;
        let pod = bound(What::Pod, "pod");
        // The node of a pod is told, and not asked for.
        let node = bound(What::Node, "node");
        let identity = identity(claims, &account, pod.as_ref(), node.as_ref());
        let node = node.filter(|_| pod.is_none());
        let secret = bound(What::Secret, "secret");
        let bound = [Some(account), secret, pod, node];
        let time = |field: &str| claims[field].as_f64().map(|time| time as i64);
        let audiences = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(all) => {
                let all = all.iter().filter_map(Value::as_str);
                all.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self {
            audiences,
            issued: time("iat"),
            starts: time("nbf"),
            ends: time("exp"),
            bound: bound.into_iter().flatten().collect(),
            identity: Arc::new(identity),
        })
    }

    fn in_time(&self, now: i64) -> Result<(), &'static str> {
        if self.starts.is_some_and(|starts| now + LEEWAY < starts) {
            return Err("service account token is not valid yet");
        }
        if self.ends.is_some_and(|ends| now - LEEWAY > ends) {
            return Err("service account token has expired");
        }
        if self.issued.is_some_and(|issued| now + LEEWAY < issued) {
            return Err("service account token is issued in the future");
        }
        Ok(())
    }

    async fn is_bound(&self, registry: &Registry) -> Result<(), String> {
        for bound in &self.bound {
            bound.is_there(registry).await?;
        }
        Ok(())
    }
}

fn identity(
    claims: &Value,
    account: &Bound,
    pod: Option<&Bound>,
    node: Option<&Bound>,
) -> Identity {
    let mut extra = BTreeMap::new();
    let mut tell = |key: &str, value: String| {
        if !value.is_empty() {
            extra.insert(key.to_owned(), vec![value]);
        }
    };
    if let Some(pod) = pod.filter(|pod| !pod.name.is_empty() && !pod.uid.is_empty()) {
        tell("authentication.kubernetes.io/pod-name", pod.name.clone());
        tell("authentication.kubernetes.io/pod-uid", pod.uid.clone());
    }
    if let Some(node) = node.filter(|node| !node.name.is_empty()) {
        tell("authentication.kubernetes.io/node-name", node.name.clone());
        tell("authentication.kubernetes.io/node-uid", node.uid.clone());
    }
    let id = text(claims, "jti");
    if !id.is_empty() {
        tell(CREDENTIAL, format!("JTI={id}"));
    }
    let namespace = &account.namespace;
    let identity = Identity {
        user: format!("system:serviceaccount:{namespace}:{}", account.name),
        uid: account.uid.clone(),
        groups: groups_of_account(namespace),
        extra,
    };
    identity.authenticated()
}

/// What is asked of an object.
#[derive(serde::Deserialize)]
struct Meta {
    metadata: Inner,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inner {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<String>,
}

impl Bound {
    fn target(&self, registry: &Registry) -> Target {
        let resource = registry.catalog().own("", "v1", self.what.plural()).clone();
        let namespace = match self.what {
            What::Node => String::new(),
            _ => self.namespace.clone(),
        };
        Target {
            resource,
            namespace,
            name: self.name.clone(),
            sub: None,
        }
    }

    /// Whether the object is the one that was there. The cache tells; what it
    /// does not have may be newer than what it shows.
    async fn is_there(&self, registry: &Registry) -> Result<(), String> {
        let target = self.target(registry);
        let key = format!("{}{}", target.scope(), self.name);
        let (json, revision) = match registry.cache(&target.resource).get(&key) {
            Some(entry) if entry.revision == self.seen.load(Ordering::Relaxed) => return Ok(()),
            Some(entry) => (entry.json(), entry.revision),
            // A name that is none would be another key.
            None if self.name.is_empty() || self.name.contains('/') => return Err(self.gone()),
            None => match registry.get(&target, None).await {
                Ok(object) => (object.json, 0),
                Err(error) if error.code == 404 => return Err(self.gone()),
                Err(error) => return Err(error.message),
            },
        };
        let read: Meta = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        if read.metadata.uid != self.uid {
            let (object, claim) = self.what.words();
            return Err(format!(
                "{object} UID ({}) does not match {claim} ({})",
                read.metadata.uid, self.uid
            ));
        }
        match read.metadata.deletion_timestamp {
            None => self.seen.store(revision, Ordering::Relaxed),
            // It is asked again, until its time is over.
            Some(time) => {
                let time = codec::parse_time(&time).map_or(0, |(seconds, _)| seconds);
                if time < codec::now().0 - LEEWAY {
                    return Err(match self.what {
                        What::Account => format!(
                            "service account {}/{} has been deleted",
                            self.namespace, self.name
                        ),
                        _ => INVALIDATED.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn gone(&self) -> String {
        match self.what {
            What::Account => format!("serviceaccounts {:?} not found", self.name),
            _ => INVALIDATED.to_owned(),
        }
    }
}

const INVALIDATED: &str = "service account token has been invalidated";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(claims: Value) -> Token {
        Token::new(&claims).expect("claims")
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": ["a", "b"], "jti": "1", "exp": 1_000, "nbf": 500, "iat": 500,
            "kubernetes.io": {
                "namespace": "n", "serviceaccount": {"name": "s", "uid": "u"},
                "pod": {"name": "p", "uid": "v"}, "node": {"name": "o", "uid": "w"},
            },
        })
    }

    #[test]
    fn a_token_names_its_account_and_what_it_ends_with() {
        let token = token(claims());
        assert_eq!(token.identity.user, "system:serviceaccount:n:s");
        assert_eq!(
            token.identity.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:n",
                "system:authenticated"
            ]
        );
        assert_eq!(token.identity.extra.len(), 5);
        let bound: Vec<What> = token.bound.iter().map(|bound| bound.what).collect();
        assert_eq!(bound, [What::Account, What::Pod]);
    }

    #[test]
    fn a_token_has_its_time() {
        let token = token(claims());
        assert!(token.in_time(439).is_err());
        assert!(token.in_time(440).is_ok() && token.in_time(1_060).is_ok());
        assert_eq!(
            token.in_time(1_061),
            Err("service account token has expired")
        );
    }

    #[test]
    fn a_token_is_for_an_audience() {
        let of = |texts: &[&str]| {
            texts
                .iter()
                .map(|one| (*one).to_owned())
                .collect::<Vec<_>>()
        };
        let accounts = Accounts {
            keys: Keys::none(),
            audiences: of(&[ISSUER]),
            known: Known::default(),
        };
        let token = token(claims());
        assert_eq!(accounts.accepted(&token, &of(&["b", "c"])), Ok(of(&["b"])));
        let why = accounts.accepted(&token, &of(&["c"])).expect_err("another");
        assert!(why.contains("[\"a\" \"b\"]"), "{why}");
        let nobody = Token {
            audiences: Vec::new(),
            ..token
        };
        assert!(accounts.accepted(&nobody, &of(&[ISSUER])).is_ok());
        assert!(accounts.accepted(&nobody, &of(&["c"])).is_err());
    }
}
