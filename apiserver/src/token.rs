//! Tokens of service accounts: JSON web tokens signed with ECDSA on P-256.
//!
//! Knows the signing key, claims and their encodings. Knows no request and no
//! object. Every server of a cluster must be given the same key, or one does
//! not take what another signed.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Who says so: upstream's usual name of a cluster's own API.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Where the keys are told.
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{0}: not a PEM file of a PKCS #8 key: {1}")]
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
    /// Names the key: a hash of its public half.
    id: String,
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
        let id = BASE64.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Self { key, id, random })
    }

    /// A token; `id` must never be given twice.
    pub fn sign(&self, claims: &Claims, id: &str) -> Result<String, TokenError> {
        let header = json!({"alg": "ES256", "kid": self.id});
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

    /// The keys by which others check tokens, as RFC 7517 has them.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let coordinate =
            |range: std::ops::Range<usize>| BASE64.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.id,
            "x": coordinate(1..33), "y": coordinate(33..65),
        }]})
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
    use ring::signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, UnparsedPublicKey};

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("a key can be made");
        Signer::new(key.as_ref()).expect("it can be read")
    }

    #[test]
    fn a_token_says_who_and_its_keys_check_it() {
        let signer = signer();
        let claims = Claims {
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
        };
        let token = signer.sign(&claims, "1").expect("a token");
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let (_, payload) = signed.split_once('.').expect("three parts");
        let payload: Value =
            serde_json::from_slice(&BASE64.decode(payload).expect("base64")).expect("JSON");
        assert_eq!(payload["sub"], "system:serviceaccount:a:b");
        assert_eq!(payload["exp"], 3_700);
        assert_eq!(payload["kubernetes.io"]["pod"]["uid"], "v");
        let key = &signer.jwks()["keys"][0];
        let mut point = vec![4];
        for axis in ["x", "y"] {
            let text = key[axis].as_str().expect("a coordinate");
            point.extend(BASE64.decode(text).expect("base64"));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(
                signed.as_bytes(),
                &BASE64.decode(signature).expect("base64"),
            )
            .expect("the keys check the token");
    }
}
