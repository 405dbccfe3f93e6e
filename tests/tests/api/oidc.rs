//! ID tokens of an issuer: who they make somebody, and which are refused, beside
//! upstream's kube-apiserver.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use mizzen_tests::api_diff::upstream::program;
use mizzen_tests::skip::{self, Why};
use mizzen_tests::webhook::Webhook;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::admission::{ADMINISTRATOR, Pair, differing};

const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api oidc";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Result<Self> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let chance = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).ok();
        let made = made.context("a key")?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &chance).ok();
        Ok(Self(key.context("a key")?))
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    fn sign(&self, claims: &Value) -> Result<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(&json!({"alg": "ES256", "kid": "k"}));
        let text = format!("{header}.{}", part(claims));
        let signed = self.0.sign(&SystemRandom::new(), text.as_bytes()).ok();
        let signature = URL_SAFE_NO_PAD.encode(signed.context("a signature")?.as_ref());
        Ok(format!("{text}.{signature}"))
    }
}

/// An issuer with one key, and its URL.
async fn issuer(signer: &Signer) -> Result<(Webhook, String)> {
    let url = Arc::new(OnceLock::<String>::new());
    let (own, key) = (url.clone(), signer.jwk());
    let server = Webhook::start(move |path, _| {
        let url = own.get()?;
        Some(match path {
            "/.well-known/openid-configuration" => (
                200,
                json!({"issuer": url, "jwks_uri": format!("{url}/keys"),
                    "id_token_signing_alg_values_supported": ["ES256"]})
                .to_string(),
            ),
            "/keys" => (200, json!({"keys": [key]}).to_string()),
            _ => (404, String::new()),
        })
    })
    .await?;
    let own = url.get_or_init(|| format!("https://{}", server.address));
    let own = own.clone();
    Ok((server, own))
}

fn claims(url: &str) -> Result<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(
        json!({"iss": url, "sub": "jane", "aud": ["us", "others"], "iat": now, "exp": now + 600,
        "email": "jane@example.com", "groups": ["a", "b"], "hd": "example.com", "jti": "id-1"}),
    )
}

/// Claims that differ from those of a good token.
fn changes() -> Vec<(&'static str, Value)> {
    vec![
        ("groups", json!("alone")),
        ("groups", json!([])),
        ("groups", json!(7)),
        ("groups", Value::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("aud", json!("us")),
        ("aud", json!("them")),
        ("exp", json!(1_000)),
        ("exp", json!(9_999_999_999_i64)),
        ("nbf", json!(9_999_999_999_i64)),
        ("hd", json!("example.org")),
        ("hd", json!(["example.com"])),
        ("jti", json!(7)),
        ("iss", json!("https://another.example.com")),
    ]
}

async fn compared(pair: &mut Pair, signer: &Signer, url: &str) -> Result<()> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let good = claims(url)?;
    // Upstream fetches keys in its own time.
    let token = signer.sign(&good)?;
    pair.code(&token, Method::POST, WHO, &review, 201).await?;
    let mut tokens = vec![
        Signer::new()?.sign(&good)?,
        token.replace('.', ""),
        format!("{token}x"),
    ];
    for (claim, value) in changes() {
        let mut claims = good.clone();
        claims[claim] = value;
        tokens.push(signer.sign(&claims)?);
    }
    for claim in ["sub", "groups", "aud", "exp", "hd", "jti", "iss"] {
        let mut claims = good.clone();
        claims.as_object_mut().context("claims")?.remove(claim);
        tokens.push(signer.sign(&claims)?);
    }
    for token in &tokens {
        pair.ask(token, Method::POST, WHO, &review).await?;
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let (mut upstream, mut ours) = pair
            .both(ADMINISTRATOR, &Method::POST, path, &asked)
            .await?;
        // Go's words for what a claim is not, and times of the moment: that there is a
        // reason must be the same.
        for side in [&mut upstream, &mut ours] {
            if side.body["status"]["error"].is_string() {
                side.body["status"]["error"] = "refused".into();
            }
        }
        let found = differing(&upstream, &ours);
        pair.judge(&Method::POST, path, &asked, &found);
    }
    let (found, asked) = pair.found();
    ensure!(
        found.is_empty(),
        "{} of {asked} differ:\n{}\n{REPRODUCE}",
        found.len(),
        found.join("\n")
    );
    println!("{asked} questions, none differ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn id_tokens_are_believed_as_upstream_believes_them() -> Result<()> {
    if program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let signer = Signer::new()?;
    let (server, url) = issuer(&signer).await?;
    let folder = TempDir::new()?;
    let authority = folder.path().join("issuer.crt");
    std::fs::write(&authority, &server.authority)?;
    let mut pair = Pair::start_with(&[
        format!("--oidc-issuer-url={url}"),
        "--oidc-client-id=us".to_owned(),
        format!("--oidc-ca-file={}", authority.display()),
        "--oidc-groups-claim=groups".to_owned(),
        "--oidc-groups-prefix=oidc:".to_owned(),
        "--oidc-required-claim=hd=example.com".to_owned(),
        "--oidc-signing-algs=ES256".to_owned(),
    ])
    .await?;
    compared(&mut pair, &signer, &url).await.context(REPRODUCE)
}
