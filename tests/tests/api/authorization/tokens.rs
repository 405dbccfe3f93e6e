//! Tokens of service accounts and of secrets: good ones, and every bad kind.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{Compared, Pair, Side, Told};

const ACCOUNTS: &str = "/api/v1/namespaces/a/serviceaccounts";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// From here on they end with something.
const ENDING: usize = 3;

/// Signs what is given, whatever it says.
struct Forger {
    key: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl Forger {
    fn new(pkcs8: &[u8], id: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random);
        Ok(Self {
            key: key.ok().context("a key on P-256")?,
            id: id.to_owned(),
            random,
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let mut header = header.clone();
        if header["kid"].is_null() {
            header["kid"] = self.id.clone().into();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let signature = self.key.sign(&self.random, text.as_bytes());
        let signature = signature.ok().context("a signature")?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn part(token: &str, index: usize) -> Result<Value> {
    let part = token.split('.').nth(index).context("three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}

/// An account with a pod, a secret and a node, and tokens that end with them.
struct Account {
    tokens: Vec<(&'static str, String)>,
}

async fn token(side: &Side, account: &str, spec: Value) -> Result<String> {
    let body =
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    let made = side
        .done(Method::POST, &format!("{ACCOUNTS}/{account}/token"), &body)
        .await?;
    let token = made["status"]["token"].as_str();
    Ok(token.context("a token")?.to_owned())
}

impl Account {
    async fn make(side: &Side) -> Result<Self> {
        for name in ["sa", "gone", "anew"] {
            let body = json!({"metadata": {"name": name}});
            side.done(Method::POST, ACCOUNTS, &body).await?;
        }
        let pod = json!({"metadata": {"name": "pod"}, "spec": {"serviceAccountName": "sa",
            "containers": [{"name": "c", "image": "i"}]}});
        side.done(Method::POST, "/api/v1/namespaces/a/pods", &pod)
            .await?;
        let named = |name: &str| json!({"metadata": {"name": name}});
        side.done(
            Method::POST,
            "/api/v1/namespaces/a/secrets",
            &named("bound"),
        )
        .await?;
        side.done(Method::POST, "/api/v1/nodes", &named("node"))
            .await?;
        let bound = |kind: &str, name: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}});
        let mut tokens = Vec::new();
        for (what, account, spec) in [
            ("plain", "sa", json!({})),
            ("another audience", "sa", json!({"audiences": ["else"]})),
            (
                "two audiences",
                "sa",
                json!({"audiences": ["else", ISSUER]}),
            ),
            ("of a pod", "sa", bound("Pod", "pod")),
            ("of a secret", "sa", bound("Secret", "bound")),
            ("of a node", "sa", bound("Node", "node")),
            ("of an account that goes", "gone", json!({})),
            ("of an account that is made anew", "anew", json!({})),
        ] {
            tokens.push((what, token(side, account, spec).await?));
        }
        Ok(Self { tokens })
    }

    /// The plain token, changed in every way that must not be taken, and in some
    /// that may.
    fn forged(&self, keys: &std::path::Path) -> Result<Vec<(String, String)>> {
        let plain = &self.tokens[0].1;
        let (header, claims) = (part(plain, 0)?, part(plain, 1)?);
        let id = header["kid"].as_str().context("a key's name")?;
        let der = PrivatePkcs8KeyDer::from_pem_file(keys.join("sa.key"))?;
        let own = Forger::new(der.secret_pkcs8_der(), id)?;
        let other = rcgen::KeyPair::generate()?;
        let other = Forger::new(&other.serialize_der(), id)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut all = Vec::new();
        let plain_header = json!({"alg": "ES256"});
        let mut add = |what: &str, token: Result<String>| -> Result<()> {
            all.push((what.to_owned(), token?));
            Ok(())
        };
        for (what, field, value) in [
            ("expired", "exp", json!(now - 3_600)),
            ("expired a moment ago", "exp", json!(now - 20)),
            ("not yet", "nbf", json!(now + 3_600)),
            ("of the future", "iat", json!(now + 3_600)),
            ("another issuer", "iss", json!("https://else")),
            ("no audience", "aud", Value::Null),
            ("audience as a text", "aud", json!(ISSUER)),
            ("wrong audience", "aud", json!(["a", "b"])),
            ("no id", "jti", Value::Null),
        ] {
            let mut changed = claims.clone();
            changed[field] = value;
            if changed[field].is_null() {
                changed.as_object_mut().context("claims")?.remove(field);
            }
            add(what, own.sign(&plain_header, &changed))?;
        }
        let mut stranger = claims.clone();
        stranger["kubernetes.io"]["serviceaccount"]["uid"] = "another".into();
        add("another uid", own.sign(&plain_header, &stranger))?;
        stranger["kubernetes.io"]["serviceaccount"]["name"] = "nobody".into();
        add("no such account", own.sign(&plain_header, &stranger))?;
        add("another key", other.sign(&plain_header, &claims))?;
        add(
            "another key's name",
            other.sign(&json!({"alg": "ES256", "kid": "x"}), &claims),
        )?;
        add("no algorithm", own.sign(&json!({"alg": "none"}), &claims))?;
        let (signed, _) = plain.rsplit_once('.').context("three parts")?;
        add("no signature", Ok(format!("{signed}.")))?;
        add("two parts", Ok(signed.to_owned()))?;
        add("no token", Ok("x".to_owned()))?;
        Ok(all)
    }
}

/// What a token is good for: a request that only who is somebody may make, and
/// what reviews say of it, for this API and for others.
async fn good_for(side: &Side, token: &str) -> Result<Vec<Value>> {
    let own = side
        .call(
            token,
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &json!({}),
        )
        .await?;
    let mut all = vec![json!({"code": own.code, "is": user(&own.body["status"]["userInfo"])})];
    for audiences in [json!([]), json!(["else"]), json!(["else", ISSUER])] {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        let Told { code, body } = side.admin(Method::POST, REVIEW, &body).await?;
        let status = &body["status"];
        all.push(json!({
            "code": code, "authenticated": status["authenticated"], "user": user(&status["user"]),
            "audiences": status["audiences"], "error": masked(&status["error"]),
        }));
    }
    Ok(all)
}

/// Somebody, less what is of one side alone.
fn user(info: &Value) -> Value {
    let extra: Vec<&String> = info["extra"]
        .as_object()
        .into_iter()
        .flat_map(|extra| extra.keys())
        .collect();
    json!({"name": info["username"], "groups": info["groups"], "extra": extra, "uid": info["uid"].is_string()})
}

/// An error without uids.
fn masked(error: &Value) -> Value {
    let Some(error) = error.as_str() else {
        return error.clone();
    };
    let is_uid =
        |text: &str| text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4;
    let words = error.split_inclusive(['(', ')']);
    words
        .map(|word| match is_uid(word.trim_end_matches(')')) {
            true => "UID)",
            false => word,
        })
        .collect::<String>()
        .into()
}

/// Deletes what tokens end with.
async fn end(side: &Side) -> Result<()> {
    let force = json!({"gracePeriodSeconds": 0});
    side.done(Method::DELETE, "/api/v1/namespaces/a/pods/pod", &force)
        .await?;
    side.done(
        Method::DELETE,
        "/api/v1/namespaces/a/secrets/bound",
        &Value::Null,
    )
    .await?;
    side.done(Method::DELETE, "/api/v1/nodes/node", &Value::Null)
        .await?;
    for name in ["gone", "anew"] {
        side.done(Method::DELETE, &format!("{ACCOUNTS}/{name}"), &Value::Null)
            .await?;
    }
    let body = json!({"metadata": {"name": "anew"}});
    side.done(Method::POST, ACCOUNTS, &body).await?;
    Ok(())
}

/// Waits until a token is good for nothing.
async fn over(side: &Side, what: &str, token: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let told = good_for(side, token).await?;
        let good = told
            .iter()
            .any(|told| told["code"] == 201 && !told["is"].is_null())
            || told.iter().any(|told| told["authenticated"] == true);
        if !good {
            return Ok(());
        }
        ensure!(
            started.elapsed() < super::DEADLINE,
            "{what}: still {told:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Tokens of service accounts.
pub async fn accounts(pair: &Pair) -> Result<()> {
    let (upstream, ours) =
        futures::try_join!(Account::make(&pair.upstream), Account::make(&pair.ours))?;
    let mut compared = Compared::default();
    let mut compare = |what: &str, upstream: Vec<Value>, ours: Vec<Value>| {
        for (upstream, ours) in upstream.iter().zip(&ours) {
            compared.cell(what, upstream, ours);
        }
    };
    for ((what, theirs), (_, own)) in upstream.tokens.iter().zip(&ours.tokens) {
        let both = futures::try_join!(good_for(&pair.upstream, theirs), good_for(&pair.ours, own))?;
        compare(what, both.0, both.1);
    }
    let forged = upstream
        .forged(pair.keys())?
        .into_iter()
        .zip(ours.forged(pair.keys())?);
    for ((what, theirs), (_, own)) in forged {
        let both = futures::try_join!(
            good_for(&pair.upstream, &theirs),
            good_for(&pair.ours, &own)
        )?;
        compare(&what, both.0, both.1);
    }
    futures::try_join!(end(&pair.upstream), end(&pair.ours))?;
    // Upstream believes a token for ten seconds more.
    for (side, tokens) in [
        (&pair.ours, &ours.tokens),
        (&pair.upstream, &upstream.tokens),
    ] {
        for (what, token) in &tokens[ENDING..] {
            over(side, what, token).await?;
        }
    }
    for ((what, theirs), (_, own)) in upstream.tokens.iter().zip(&ours.tokens) {
        let both = futures::try_join!(good_for(&pair.upstream, theirs), good_for(&pair.ours, own))?;
        compare(&format!("{what}, later"), both.0, both.1);
    }
    compared.hold("tokens", 120)
}

/// A token's name, its secret's type, and what else is in that.
type Secret = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Tokens in secrets of `kube-system`.
pub async fn bootstrap(pair: &Pair) -> Result<()> {
    let mut compared = Compared::default();
    let cases: &[Secret] = &[
        ("aaaaaa", "bootstrap.kubernetes.io/token", &[]),
        (
            "bbbbbb",
            "bootstrap.kubernetes.io/token",
            &[("auth-extra-groups", "system:bootstrappers:x")],
        ),
        (
            "cccccc",
            "bootstrap.kubernetes.io/token",
            &[("auth-extra-groups", "system:masters")],
        ),
        (
            "dddddd",
            "bootstrap.kubernetes.io/token",
            &[("expiration", "2020-01-01T00:00:00Z")],
        ),
        (
            "eeeeee",
            "bootstrap.kubernetes.io/token",
            &[("usage-bootstrap-authentication", "no")],
        ),
        ("ffffff", "Opaque", &[]),
        (
            "gggggg",
            "bootstrap.kubernetes.io/token",
            &[("token-secret", "another")],
        ),
    ];
    for (id, kind, more) in cases {
        let mut data = json!({});
        let plain = [
            ("token-id", *id),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in plain.iter().chain(*more) {
            data[key] = STANDARD.encode(value).into();
        }
        let body = json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": kind, "data": data});
        for side in pair.sides() {
            side.done(
                Method::POST,
                "/api/v1/namespaces/kube-system/secrets",
                &body,
            )
            .await?;
        }
    }
    let last = json!({"spec": {"token": "bbbbbb.0123456789abcdef"}});
    for side in pair.sides() {
        super::until(side, REVIEW, &last, |told| {
            told.body["status"]["authenticated"] == true
        })
        .await?;
    }
    for (id, ..) in cases {
        let token = format!("{id}.0123456789abcdef");
        let both = futures::try_join!(
            good_for(&pair.upstream, &token),
            good_for(&pair.ours, &token)
        )?;
        for (upstream, ours) in both.0.iter().zip(&both.1) {
            compared.cell(id, upstream, ours);
        }
    }
    compared.hold("bootstrap tokens", 28)
}
