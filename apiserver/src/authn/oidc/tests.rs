use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::{
    config::{ClaimRule, ExtraMapping, Mapping, Mappings, UserRule},
    *,
};

struct Signer {
    key: EcdsaKeyPair,
    id: &'static str,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let chance = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &chance).expect("a key");
        Self { key, id }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let signed = self.key.sign(&SystemRandom::new(), text.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signed.expect("a signature").as_ref());
        format!("{text}.{signature}")
    }
}

const URL: &str = "https://issuer.example.com";

fn config() -> JwtAuthenticator {
    let mapping = |claim: &str, prefix: &str| Mapping {
        claim: claim.to_owned(),
        prefix: Some(prefix.to_owned()),
        expression: String::new(),
    };
    JwtAuthenticator {
        issuer: IssuerConfig {
            url: URL.to_owned(),
            audiences: vec!["us".to_owned()],
            ..IssuerConfig::default()
        },
        claim_mappings: Mappings {
            username: mapping("sub", "o:"),
            groups: mapping("groups", "g:"),
            ..Mappings::default()
        },
        ..JwtAuthenticator::default()
    }
}

fn of(config: JwtAuthenticator, signers: &[&Signer]) -> Oidc {
    let oidc = Oidc::new(&Configured {
        issuers: vec![config],
        algorithms: vec!["ES256".to_owned()],
        anonymous: None,
    });
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    let set = json!({"keys": keys}).to_string();
    let keys = IssuerKeys::read(set.as_bytes()).expect("keys");
    oidc.issuers[0].keys.store(Some(Arc::new(keys)));
    // Asked for newer ones it has the same.
    let issuer = oidc.issuers[0].clone();
    drop(tasks::spawn("issuer", async move {
        loop {
            issuer.wanted.notified().await;
            issuer.fetched.send_modify(|count| *count += 1);
        }
    }));
    oidc
}

async fn told(oidc: &Oidc, token: &str) -> Result<Option<Identity>, String> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(token.as_bytes()).into();
    let found = oidc.token(token, digest).await?;
    Ok(found.map(|identity| (*identity).clone()))
}

fn claims() -> Value {
    json!({"iss": URL, "sub": "jane", "aud": "us", "exp": codec::now().0 + 60, "groups": ["a", "b"]})
}

#[tokio::test]
async fn a_token_is_whose_it_says_if_its_issuer_signed_it() {
    let (signer, other) = (Signer::new("one"), Signer::new("one"));
    let oidc = of(config(), &[&signer]);
    for round in 0..2 {
        let token = signer.sign(&claims());
        let identity = told(&oidc, &token).await.expect("it holds").expect("ours");
        assert_eq!(identity.user, "o:jane", "{round}");
        assert_eq!(identity.groups, ["g:a", "g:b", "system:authenticated"]);
    }
    let with = |field: &str, value: Value| {
        let mut claims = claims();
        claims[field] = value;
        claims
    };
    for (token, why) in [
        (other.sign(&claims()), "failed to verify signature"),
        (
            signer.sign(&with("aud", json!(["them"]))),
            "expected audience",
        ),
        (signer.sign(&with("exp", json!(1))), "token is expired"),
        (signer.sign(&with("exp", Value::Null)), "token is expired"),
        (
            signer.sign(&with("nbf", json!(codec::now().0 + 3_600))),
            "before the nbf",
        ),
        (signer.sign(&with("sub", json!(7))), "parse username claims"),
        (
            signer.sign(&with("groups", json!({}))),
            "parse groups claim",
        ),
    ] {
        let refused = told(&oidc, &token).await.expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    for token in [
        signer.sign(&with("iss", json!("https://another.example.com"))),
        "no.token".to_owned(),
        String::new(),
    ] {
        assert_eq!(told(&oidc, &token).await, Ok(None));
    }
}

#[tokio::test]
async fn an_issuer_without_keys_is_told_of() {
    let signer = Signer::new("one");
    let oidc = of(config(), &[&signer]);
    oidc.issuers[0].keys.store(None);
    let refused = told(&oidc, &signer.sign(&claims())).await;
    assert_eq!(
        refused,
        Err("oidc: authenticator not initialized".to_owned())
    );
}

#[tokio::test]
async fn rules_and_expressions_decide() {
    let signer = Signer::new("one");
    let mut config = config();
    config.claim_mappings.username = Mapping {
        expression: "'e:' + claims.sub".to_owned(),
        ..Mapping::default()
    };
    config.claim_mappings.uid = Mapping {
        claim: "sub".to_owned(),
        ..Mapping::default()
    };
    config.claim_mappings.extra = vec![ExtraMapping {
        key: "example.com/groups".to_owned(),
        value_expression: "claims.groups".to_owned(),
    }];
    config.claim_validation_rules = vec![
        ClaimRule {
            claim: "hd".to_owned(),
            required_value: "example.com".to_owned(),
            ..ClaimRule::default()
        },
        ClaimRule {
            expression: "claims.exp > 0".to_owned(),
            ..ClaimRule::default()
        },
    ];
    config.user_validation_rules = vec![UserRule {
        expression: "!user.username.startsWith('system:')".to_owned(),
        message: "reserved".to_owned(),
    }];
    let oidc = of(config, &[&signer]);
    let mut good = claims();
    good["hd"] = "example.com".into();
    let found = told(&oidc, &signer.sign(&good)).await;
    let identity = found.expect("it holds").expect("ours");
    assert_eq!(identity.user, "e:jane");
    assert_eq!(identity.uid, "jane");
    assert_eq!(identity.extra["example.com/groups"], ["a", "b"]);
    good["hd"] = "other".into();
    let refused = told(&oidc, &signer.sign(&good)).await.expect_err("a rule");
    assert!(refused.contains("value does not match"), "{refused}");
    let refused = told(&oidc, &signer.sign(&claims()))
        .await
        .expect_err("a rule");
    assert!(refused.contains("not present"), "{refused}");
}
