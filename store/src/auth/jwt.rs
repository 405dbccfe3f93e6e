//! Signed tokens: who and when stands in them, so no member needs to know them.
//!
//! One algorithm, the configured one: a token that names another is refused
//! before its signature is looked at, and one without an expiry is refused too
//! (etcd takes those).

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::KeyPair as _;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::{
    IssueError,
    options::{JwtOptions, OptionsError},
};

pub struct Jwt {
    algorithm: Algorithm,
    sign: Option<EncodingKey>,
    check: DecodingKey,
    ttl: Duration,
    validation: Validation,
}

/// As etcd writes them.
#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    /// Seconds since 1970.
    exp: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Shared,
    Rsa,
    Ec,
    Ed,
}

fn family(algorithm: Algorithm) -> Family {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Shared,
        Algorithm::ES256 | Algorithm::ES384 => Family::Ec,
        Algorithm::EdDSA => Family::Ed,
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => Family::Rsa,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|error| OptionsError::Unreadable(path.to_owned(), error))
}

impl Jwt {
    pub fn new(options: &JwtOptions) -> Result<Self, OptionsError> {
        let algorithm = options.algorithm;
        let family = family(algorithm);
        let private = options.private_key.as_deref();
        let public = options.public_key.as_deref();
        if family == Family::Shared {
            let secret = read(private.ok_or(OptionsError::MissingKey)?)?;
            if secret.is_empty() {
                return Err(OptionsError::MissingKey);
            }
            let sign = EncodingKey::from_secret(&secret);
            let check = DecodingKey::from_secret(&secret);
            return Ok(Self::with(algorithm, Some(sign), check, options.ttl));
        }
        let own = private
            .map(|path| pair(family, algorithm, path))
            .transpose()?;
        let given = public.map(|path| public_key(family, path)).transpose()?;
        let jwt = match (own, given) {
            (None, None) => return Err(OptionsError::MissingKey),
            (None, Some(check)) => Self::with(algorithm, None, check, options.ttl),
            (Some((sign, own)), given) => {
                let check = given.unwrap_or(own);
                Self::with(algorithm, Some(sign), check, options.ttl)
            }
        };
        jwt.check_pair()?;
        Ok(jwt)
    }

    fn with(
        algorithm: Algorithm,
        sign: Option<EncodingKey>,
        check: DecodingKey,
        ttl: Duration,
    ) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp"]);
        Self {
            algorithm,
            sign,
            check,
            ttl,
            validation,
        }
    }

    /// What the private key signs must be right by the public one.
    fn check_pair(&self) -> Result<(), OptionsError> {
        let Some(sign) = &self.sign else {
            return Ok(());
        };
        let message = b"a pair of keys";
        let signed = jsonwebtoken::crypto::sign(message, sign, self.algorithm);
        let right = signed.and_then(|signature| {
            jsonwebtoken::crypto::verify(&signature, message, &self.check, self.algorithm)
        });
        match right {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(OptionsError::KeyMismatch),
        }
    }

    pub fn sign(&self, user: &str, revision: u64) -> Result<String, IssueError> {
        let sign = self.sign.as_ref().ok_or(IssueError::VerifyOnly)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_err(|_| IssueError::Signing)?;
        let end = now.checked_add(self.ttl).ok_or(IssueError::Signing)?;
        let claims = Claims {
            username: user.to_owned(),
            revision,
            exp: end.as_secs(),
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, sign)
            .map_err(|_| IssueError::Signing)
    }

    /// User and revision of a token that is right and not expired.
    pub fn verify(&self, token: &str) -> Option<(String, u64)> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.check, &self.validation).ok()?;
        Some((token.claims.username, token.claims.revision))
    }
}

/// A private key, and the public one that goes with it.
fn pair(
    family: Family,
    algorithm: Algorithm,
    path: &Path,
) -> Result<(EncodingKey, DecodingKey), OptionsError> {
    let text = read(path)?;
    let bad = || OptionsError::BadKey(path.to_owned());
    let sign = match family {
        Family::Rsa => EncodingKey::from_rsa_pem(&text),
        Family::Ec => EncodingKey::from_ec_pem(&text),
        Family::Ed | Family::Shared => EncodingKey::from_ed_pem(&text),
    };
    let sign = sign.map_err(|_| bad())?;
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| bad())?;
    let public = public_of(family, algorithm, &der).ok_or_else(bad)?;
    let check = match family {
        Family::Rsa => DecodingKey::from_rsa_der(&public),
        Family::Ec => DecodingKey::from_ec_der(&public),
        Family::Ed | Family::Shared => DecodingKey::from_ed_der(&public),
    };
    Ok((sign, check))
}

fn public_of(family: Family, algorithm: Algorithm, key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING as P256, ECDSA_P384_SHA384_FIXED_SIGNING as P384,
        EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
    };
    let der = key.secret_der();
    Some(match family {
        Family::Rsa => {
            let pair = match key {
                PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der),
                _ => RsaKeyPair::from_pkcs8(der),
            };
            pair.ok()?.public_key().as_ref().to_vec()
        }
        Family::Ec => {
            let curve = match algorithm {
                Algorithm::ES384 => &P384,
                _ => &P256,
            };
            let chance = ring::rand::SystemRandom::new();
            let pair = EcdsaKeyPair::from_pkcs8(curve, der, &chance).ok()?;
            pair.public_key().as_ref().to_vec()
        }
        Family::Ed | Family::Shared => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
            pair.public_key().as_ref().to_vec()
        }
    })
}

fn public_key(family: Family, path: &Path) -> Result<DecodingKey, OptionsError> {
    let text = read(path)?;
    let key = match family {
        Family::Rsa => DecodingKey::from_rsa_pem(&text),
        Family::Ec => DecodingKey::from_ec_pem(&text),
        Family::Ed | Family::Shared => DecodingKey::from_ed_pem(&text),
    };
    key.map_err(|_| OptionsError::BadKey(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
    use ring::{
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
            Ed25519KeyPair,
        },
    };
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    const TTL: Duration = Duration::from_secs(300);
    /// What comes before the key in a SubjectPublicKeyInfo (RFC 5480, RFC 8410).
    const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
    const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    /// Files of a new key; a shared one has no public half.
    struct Key {
        dir: TempDir,
        options: JwtOptions,
    }

    impl Key {
        fn new(algorithm: Algorithm) -> Self {
            let chance = SystemRandom::new();
            let ec = |curve, prefix: &[u8]| {
                let key = EcdsaKeyPair::generate_pkcs8(curve, &chance).expect("a key");
                let pair = EcdsaKeyPair::from_pkcs8(curve, key.as_ref(), &chance).expect("its own");
                let public = [prefix, pair.public_key().as_ref()].concat();
                (key.as_ref().to_vec(), public)
            };
            let (private, public) = match algorithm {
                Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING, P256),
                Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING, P384),
                Algorithm::EdDSA => {
                    let key = Ed25519KeyPair::generate_pkcs8(&chance).expect("a key");
                    let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("its own");
                    let public = [ED25519, pair.public_key().as_ref()].concat();
                    (key.as_ref().to_vec(), public)
                }
                _ => {
                    let secret: [u8; 64] = rand::random();
                    return Self::write(algorithm, &secret, None);
                }
            };
            let private = pem("PRIVATE KEY", &private);
            Self::write(
                algorithm,
                private.as_bytes(),
                Some(&pem("PUBLIC KEY", &public)),
            )
        }

        fn write(algorithm: Algorithm, private: &[u8], public: Option<&str>) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("private");
            fs::write(&path, private).expect("a file");
            let public_key = public.map(|text| {
                let path = dir.path().join("public");
                fs::write(&path, text).expect("a file");
                path
            });
            let options = JwtOptions {
                algorithm,
                public_key,
                private_key: Some(path),
                ttl: TTL,
            };
            Self { dir, options }
        }

        fn jwt(&self) -> Jwt {
            Jwt::new(&self.options).expect("a pair of keys")
        }
    }

    const ALGORITHMS: [Algorithm; 5] = [
        Algorithm::HS256,
        Algorithm::HS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("after 1970").as_secs()
    }

    fn signed(jwt: &Jwt, header: &Header, claims: &Value) -> String {
        let sign = jwt.sign.as_ref().expect("a private key");
        jsonwebtoken::encode(header, claims, sign).expect("signed")
    }

    #[test]
    fn a_token_is_known_to_who_has_the_key_and_to_nobody_else() {
        for algorithm in ALGORITHMS {
            let (ours, theirs) = (Key::new(algorithm).jwt(), Key::new(algorithm).jwt());
            let token = ours.sign("alice", 7).expect("signed");
            assert_eq!(ours.verify(&token), Some(("alice".to_owned(), 7)));
            assert_eq!(theirs.verify(&token), None, "{algorithm:?}: another key");
            for end in 0..token.len() {
                assert_eq!(ours.verify(&token[..end]), None, "{algorithm:?}: cut short");
            }
            let (head, signature) = token.rsplit_once('.').expect("three parts");
            let (header, _) = head.split_once('.').expect("three parts");
            let root = json!({"username": "root", "revision": 7, "exp": now() + 60});
            let root = BASE64_URL_SAFE_NO_PAD.encode(root.to_string());
            let forged = format!("{header}.{root}.{signature}");
            assert_eq!(ours.verify(&forged), None, "{algorithm:?}: other claims");
        }
    }

    #[test]
    fn a_token_names_the_algorithm_that_is_configured() {
        let claims = json!({"username": "root", "revision": 1, "exp": now() + 60});
        let body = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        for algorithm in ALGORITHMS {
            let jwt = Key::new(algorithm).jwt();
            for name in ["none", "None", "", "HS384", "RS256"] {
                let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": name}).to_string());
                for signature in ["", "AAAA"] {
                    let token = format!("{header}.{body}.{signature}");
                    assert_eq!(jwt.verify(&token), None, "{algorithm:?}: {name:?}");
                }
            }
        }
        // The public key as a shared secret: the classic confusion.
        let key = Key::new(Algorithm::ES256);
        let public = key.options.public_key.as_ref().expect("a public key");
        let secret = EncodingKey::from_secret(&fs::read(public).expect("read"));
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims, &secret).expect("signed");
        assert_eq!(key.jwt().verify(&token), None);
    }

    #[test]
    fn a_token_ends() {
        for algorithm in ALGORITHMS {
            let jwt = Key::new(algorithm).jwt();
            let header = Header::new(algorithm);
            let good = json!({"username": "u", "revision": 1, "exp": now() + 60});
            assert!(jwt.verify(&signed(&jwt, &header, &good)).is_some());
            for claims in [
                json!({"username": "u", "revision": 1}),
                json!({"username": "u", "revision": 1, "exp": now() - 2}),
                json!({"username": "u", "revision": 1, "exp": "tomorrow"}),
                json!({"username": "u", "exp": now() + 60}),
                json!({"revision": 1, "exp": now() + 60}),
                json!({"username": "u", "revision": -1, "exp": now() + 60}),
                json!([]),
            ] {
                let token = signed(&jwt, &header, &claims);
                assert_eq!(jwt.verify(&token), None, "{algorithm:?}: {claims}");
            }
        }
        let mut key = Key::new(Algorithm::ES256);
        key.options.ttl = Duration::MAX;
        let endless = key.jwt().sign("u", 1);
        assert!(matches!(endless, Err(IssueError::Signing)));
    }

    #[test]
    fn a_member_may_check_without_signing() {
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let key = Key::new(algorithm);
            let token = key.jwt().sign("u", 3).expect("signed");
            let checks = Jwt::new(&JwtOptions {
                private_key: None,
                ..key.options.clone()
            });
            let checks = checks.expect("a public key is enough");
            assert_eq!(checks.verify(&token), Some(("u".to_owned(), 3)));
            assert!(matches!(checks.sign("u", 3), Err(IssueError::VerifyOnly)));
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        let refused = |options: &JwtOptions| match Jwt::new(options) {
            Ok(_) => panic!("{options:?} is taken"),
            Err(error) => error.to_string(),
        };
        let (one, other) = (Key::new(Algorithm::ES256), Key::new(Algorithm::ES256));
        let mixed = JwtOptions {
            public_key: other.options.public_key.clone(),
            ..one.options.clone()
        };
        let text = "auth: public and private keys don't match";
        assert_eq!(refused(&mixed), text);
        let none = JwtOptions {
            public_key: None,
            private_key: None,
            ..one.options.clone()
        };
        assert_eq!(refused(&none), "auth: missing key data");
        let empty = Key::write(Algorithm::HS256, b"", None);
        assert_eq!(refused(&empty.options), "auth: missing key data");
        let path = one.dir.path().join("private");
        let of_another_kind = JwtOptions {
            algorithm: Algorithm::RS256,
            public_key: None,
            ..one.options.clone()
        };
        let text = format!(
            "auth: the key in {} is none for the signature method",
            path.display()
        );
        assert_eq!(refused(&of_another_kind), text);
        fs::remove_file(&path).expect("removed");
        assert!(
            refused(&one.options).contains("private: "),
            "names the file"
        );
    }
}
