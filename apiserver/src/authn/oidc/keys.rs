//! An issuer's keys: where it says they are, and which one signed a token.

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::IssuerConfig;
use crate::{
    calls::{Callee, Calls, Host},
    limits,
};

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Keys as an issuer last told them.
pub struct IssuerKeys(Vec<(Option<String>, DecodingKey)>);

/// Why a token's signature is not believed.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// No key that is known here made it; a newer one may have.
    Unknown,
    Wrong(String),
}

impl IssuerKeys {
    /// Asks an issuer.
    ///
    /// # Errors
    /// It does not answer, or as somebody else.
    pub async fn fetch(calls: &Calls, issuer: &IssuerConfig) -> Result<Self, String> {
        let callee = Callee {
            host: Host::Named,
            authorities: issuer.certificate_authority.clone().into_bytes(),
        };
        let url = match &*issuer.discovery_url {
            "" => format!(
                "{}/.well-known/openid-configuration",
                issuer.url.trim_end_matches('/')
            ),
            url => url.to_owned(),
        };
        let text = calls.get(&callee, &url, limits::OIDC_CALL).await?;
        let discovery: Discovery = serde_json::from_slice(&text).map_err(|error| {
            format!("oidc: failed to decode provider discovery object: {error}")
        })?;
        if discovery.issuer != issuer.url {
            return Err(format!(
                "oidc: issuer URL provided to client ({:?}) did not match the issuer URL returned by provider ({:?})",
                issuer.url, discovery.issuer
            ));
        }
        let text = calls.get(&callee, &discovery.jwks_uri, limits::OIDC_CALL);
        Self::read(&text.await?)
    }

    /// # Errors
    /// There is no key among them that can be used.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        // One key of another kind must not make the others useless.
        let set: Value = serde_json::from_slice(text)
            .map_err(|error| format!("oidc: failed to decode keys: {error}"))?;
        let keys = set["keys"].as_array().into_iter().flatten();
        let keys = keys.filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let set = JwkSet {
            keys: keys.collect(),
        };
        let keys = set.keys.iter().filter_map(|key| {
            let read = DecodingKey::from_jwk(key).ok()?;
            Some((key.common.key_id.clone(), read))
        });
        let keys: Vec<_> = keys.collect();
        match keys.is_empty() {
            true => Err("oidc: the issuer has no key that can be used".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    /// The claims of a token, if one of the keys signed it.
    ///
    /// # Errors
    /// None did, or it is no token.
    pub fn claims(
        &self,
        token: &str,
        algorithms: &[Algorithm],
    ) -> Result<Map<String, Value>, Unsigned> {
        let header = decode_header(token).map_err(|error| Unsigned::Wrong(error.to_string()))?;
        if !algorithms.contains(&header.alg) {
            return Err(Unsigned::Wrong(format!(
                "oidc: id token signed with unsupported algorithm, expected {algorithms:?} got {:?}",
                header.alg
            )));
        }
        let mut validation = Validation::new(header.alg);
        // Times and audiences are looked at where claims are.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        for (id, key) in &self.0 {
            if header.kid.is_some() && *id != header.kid {
                continue;
            }
            if let Ok(decoded) = decode(token, key, &validation) {
                return Ok(decoded.claims);
            }
        }
        Err(Unsigned::Unknown)
    }
}
