//! Tokens of service accounts: JSON web tokens signed with ECDSA on P-256.
//!
//! Knows keys, claims and their encodings. Knows no request and no
//! object. Every server of a cluster must be given the same key, or one does
//! not take what another signed.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Who says so: upstream's usual name of a cluster's own API.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Where the keys are told.
pub const JWKS_PATH: &str = "/openid/v1/jwks";

const ALGORITHM: &str = "ES256";
/// How a public key on P-256 begins, of which only the point differs (RFC 5480).
const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{0}: not a PEM file of such a key: {1}")]
    Pem(std::path::PathBuf, rustls::pki_types::pem::Error),
    #[error("the key of tokens cannot be used: it must be one of ECDSA on P-256")]
    Key,
    #[error("a token cannot be signed")]
    Sign,
}

/// An object that a token ends with.
#[derive(Clone, Debug)]
pub struct Bound {
    /// As the claim is named: `pod`, `secret` or `node`.
    pub claim: &'static str,
    pub name: String,
    pub uid: String,
}

/// What a token says. Times are seconds since 1970.
#[derive(Clone, Debug)]
pub struct Claims {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    pub audiences: Vec<String>,
    pub issued: i64,
    pub expires: i64,
    pub bound: Option<Bound>,
}

impl Claims {
    fn value(&self, id: &str) -> Value {
        let mut private = json!({
            "namespace": self.namespace,
            "serviceaccount": {"name": self.account, "uid": self.account_uid},
        });
        if let Some(bound) = &self.bound {
            private[bound.claim] = json!({"name": bound.name, "uid": bound.uid});
        }
        json!({
            "iss": ISSUER, "aud": self.audiences, "jti": id,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account),
            "iat": self.issued, "nbf": self.issued, "exp": self.expires,
            "kubernetes.io": private,
        })
    }
}

/// Signs tokens with one key.
pub struct Signer {
    key: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

impl Signer {
    /// Reads the key from a PEM file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let der = PrivatePkcs8KeyDer::from_pem_file(path)
            .map_err(|error| TokenError::Pem(path.to_owned(), error))?;
        Self::new(der.secret_pkcs8_der())
    }

    fn new(pkcs8: &[u8]) -> Result<Self, TokenError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|_| TokenError::Key)?;
        let public = PublicKey::new(key.public_key().as_ref());
        Ok(Self {
            key,
            public,
            random,
        })
    }

    /// A token; `id` must never be given twice.
    pub fn sign(&self, claims: &Claims, id: &str) -> Result<String, TokenError> {
        let header = json!({"alg": ALGORITHM, "kid": self.public.id});
        let mut token = format!(
            "{}.{}",
            BASE64.encode(header.to_string()),
            BASE64.encode(claims.value(id).to_string())
        );
        let signature = self
            .key
            .sign(&self.random, token.as_bytes())
            .map_err(|_| TokenError::Sign)?;
        token.push('.');
        token.push_str(&BASE64.encode(signature));
        Ok(token)
    }
}

/// A key by which tokens are checked.
#[derive(Clone, PartialEq, Eq, Debug)]
struct PublicKey {
    /// Names the key: a hash of it, as upstream's servers name it.
    id: String,
    /// An uncompressed point: 4, x, y.
    point: Vec<u8>,
}

impl PublicKey {
    fn new(point: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(SPKI_P256);
        hash.update(point);
        Self {
            id: BASE64.encode(hash.finalize()),
            point: point.to_owned(),
        }
    }

    /// Reads one from a PEM file.
    fn read(path: &Path) -> Result<Self, TokenError> {
        let der = SubjectPublicKeyInfoDer::from_pem_file(path)
            .map_err(|error| TokenError::Pem(path.to_owned(), error))?;
        let point = der.strip_prefix(SPKI_P256);
        let point = point.filter(|point| point.len() == POINT_BYTES);
        point.map(Self::new).ok_or(TokenError::Key)
    }

    fn jwk(&self) -> Value {
        let coordinate = |range: std::ops::Range<usize>| {
            BASE64.encode(self.point.get(range).unwrap_or_default())
        };
        json!({
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": ALGORITHM, "kid": self.id,
            "x": coordinate(1..33), "y": coordinate(33..65),
        })
    }
}

/// All keys by which tokens are checked.
#[derive(Clone, Debug)]
pub struct Keys(Vec<PublicKey>);

impl Keys {
    /// The signer's own, and those of signers that were before or will be, in
    /// PEM files.
    pub fn new(signer: &Signer, others: &[std::path::PathBuf]) -> Result<Self, TokenError> {
        let mut keys = vec![signer.public.clone()];
        for path in others {
            let key = PublicKey::read(path)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(Self(keys))
    }

    /// No token is taken.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// What a token claims; `None` when it is none of this API.
    ///
    /// # Errors
    /// Nobody signed it who may.
    pub fn claims(&self, token: &str) -> Result<Option<Value>, &'static str> {
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return Ok(None);
        };
        let Some((header, payload)) = signed.split_once('.') else {
            return Ok(None);
        };
        let read = |part: &str| BASE64.decode(part).ok();
        let json = |part: &str| serde_json::from_slice::<Value>(&read(part)?).ok();
        let (Some(header), Some(claims), Some(signature)) =
            (json(header), json(payload), read(signature))
        else {
            return Ok(None);
        };
        if claims["iss"] != ISSUER {
            return Ok(None);
        }
        let id = header["kid"].as_str().unwrap_or("");
        let mut keys = self.0.iter();
        let mut named = keys.by_ref().filter(|key| id.is_empty() || key.id == id);
        let Some(first) = named.next() else {
            return Err("invalid signature, no keys found");
        };
        // Extensions that must be understood are not.
        let known = header["alg"] == ALGORITHM && header.get("crit").is_none();
        let checks = |key: &PublicKey| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point);
            key.verify(signed.as_bytes(), &signature).is_ok()
        };
        if known && (checks(first) || named.any(checks)) {
            return Ok(Some(claims));
        }
        Err("go-jose/go-jose: error in cryptographic primitive")
    }

    /// The keys by which others check tokens, as RFC 7517 has them.
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.0.iter().map(PublicKey::jwk).collect();
        json!({"keys": keys})
    }
}

/// `/.well-known/openid-configuration`.
pub fn openid_configuration() -> Value {
    json!({
        "issuer": ISSUER, "jwks_uri": format!("{ISSUER}{JWKS_PATH}"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("a key can be made");
        Signer::new(key.as_ref()).expect("it can be read")
    }

    fn claims() -> Claims {
        Claims {
            namespace: "a".to_owned(),
            account: "b".to_owned(),
            account_uid: "u".to_owned(),
            audiences: vec!["x".to_owned()],
            issued: 100,
            expires: 3_700,
            bound: Some(Bound {
                claim: "pod",
                name: "p".to_owned(),
                uid: "v".to_owned(),
            }),
        }
    }

    #[test]
    fn a_token_says_who_and_its_keys_check_it() {
        let signer = signer();
        let keys = Keys::new(&signer, &[]).expect("keys");
        let token = signer.sign(&claims(), "1").expect("a token");
        let payload = keys.claims(&token).expect("it is signed").expect("ours");
        assert_eq!(payload["sub"], "system:serviceaccount:a:b");
        assert_eq!(payload["exp"], 3_700);
        assert_eq!(payload["kubernetes.io"]["pod"]["uid"], "v");
        let key = &keys.jwks()["keys"][0];
        let mut point = vec![4];
        for axis in ["x", "y"] {
            let text = key[axis].as_str().expect("a coordinate");
            point.extend(BASE64.decode(text).expect("base64"));
        }
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(
                signed.as_bytes(),
                &BASE64.decode(signature).expect("base64"),
            )
            .expect("the keys check the token");
    }

    #[test]
    fn what_nobody_signed_who_may_is_refused() {
        let (ours, theirs) = (signer(), signer());
        let keys = Keys::new(&ours, &[]).expect("keys");
        let foreign = theirs.sign(&claims(), "1").expect("a token");
        assert!(keys.claims(&foreign).is_err());
        let token = ours.sign(&claims(), "1").expect("a token");
        let parts: Vec<&str> = token.split('.').collect();
        let header = |text: &str| {
            let header = BASE64.encode(text);
            keys.claims(&format!("{header}.{}.{}", parts[1], parts[2]))
        };
        for text in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"ES256","crit":["exp"]}"#,
        ] {
            assert!(header(text).is_err(), "{text}");
        }
        // Signed, but with another body.
        let mut other = claims();
        other.account = "admin".to_owned();
        let body = BASE64.encode(other.value("1").to_string());
        assert!(
            keys.claims(&format!("{}.{body}.{}", parts[0], parts[2]))
                .is_err()
        );
        assert!(keys.claims(&format!("{}.{body}.", parts[0])).is_err());
        for text in ["", "a", "a.b", "a.b.c", "..", "abcdef.0123456789abcdef"] {
            assert_eq!(keys.claims(text), Ok(None), "{text}");
        }
    }
}
