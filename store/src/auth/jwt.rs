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
        let claims = Claims {
            username: user.to_owned(),
            revision,
            exp: (now + self.ttl).as_secs(),
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
