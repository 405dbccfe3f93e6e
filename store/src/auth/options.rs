//! What `--auth-token` says, in etcd's words.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use jsonwebtoken::Algorithm;

/// The kind of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOptions {
    Simple,
    Jwt(JwtOptions),
    /// The empty value: nobody gets a token.
    None,
}

/// How signed tokens are made and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    pub algorithm: Algorithm,
    pub public_key: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    pub ttl: Duration,
}

/// Why tokens cannot be made as asked for. The first texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("auth: invalid auth options")]
    Invalid,
    #[error("auth: missing key data")]
    MissingKey,
    #[error("auth: public and private keys don't match")]
    KeyMismatch,
    #[error("auth: the key in {0} is none for the signature method")]
    BadKey(PathBuf),
    #[error("auth: ES512 is not supported, use ES256 or ES384")]
    Unsupported,
    #[error("auth: {0}: {1}")]
    Unreadable(PathBuf, io::Error),
}

/// etcd's default time to live.
const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);

impl TokenOptions {
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options = BTreeMap::new();
        for part in parts {
            let mut pair = part.split('=');
            let (Some(key), Some(value), None) = (pair.next(), pair.next(), pair.next()) else {
                return Err(OptionsError::Invalid);
            };
            if options.insert(key, value).is_some() {
                return Err(OptionsError::Invalid);
            }
        }
        match kind {
            "simple" => Ok(Self::Simple),
            "jwt" => JwtOptions::new(&options).map(Self::Jwt),
            "" => Ok(Self::None),
            _ => Err(OptionsError::Invalid),
        }
    }
}

impl JwtOptions {
    /// Options that etcd does not know are passed over, as there.
    fn new(options: &BTreeMap<&str, &str>) -> Result<Self, OptionsError> {
        let given = |name| options.get(name).copied().filter(|value| !value.is_empty());
        let ttl = match given("ttl") {
            Some(text) => go_duration(text).ok_or(OptionsError::Invalid)?,
            None => DEFAULT_TTL,
        };
        let method = options.get("sign-method").copied().unwrap_or_default();
        Ok(Self {
            algorithm: algorithm(method)?,
            public_key: given("pub-key").map(PathBuf::from),
            private_key: given("priv-key").map(PathBuf::from),
            ttl,
        })
    }
}

fn algorithm(method: &str) -> Result<Algorithm, OptionsError> {
    Ok(match method {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        "ES512" => return Err(OptionsError::Unsupported),
        _ => return Err(OptionsError::Invalid),
    })
}

/// A duration as Go writes it: numbers with units, `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_etcd_reads_them() {
        let jwt = |text: &str| TokenOptions::parse(text).expect(text);
        assert_eq!(jwt("simple"), TokenOptions::Simple);
        assert_eq!(jwt(""), TokenOptions::None);
        let expected = JwtOptions {
            algorithm: Algorithm::RS256,
            public_key: Some("a.pub".into()),
            private_key: Some("a.key".into()),
            ttl: Duration::from_secs(90),
        };
        let text = "jwt,pub-key=a.pub,priv-key=a.key,sign-method=RS256,ttl=1m30s,unknown=1";
        assert_eq!(jwt(text), TokenOptions::Jwt(expected));
        for text in [
            "jwt",
            "jwt,sign-method=none",
            "jwt,sign-method=RS256,ttl=x",
            "jwt,sign-method=RS256,ttl=1m,ttl=1m",
            "jwt,sign-method",
            "jwt,a=b=c",
            "other",
        ] {
            let refused = TokenOptions::parse(text).expect_err(text);
            assert_eq!(refused.to_string(), "auth: invalid auth options", "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("1s", 1_000),
            ("1h2m3s", 3_723_000),
            ("1.5s", 1_500),
            ("0", 0),
        ] {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)));
        }
        for text in ["", "1", "s", "-1s", "1x", "1..5s"] {
            assert_eq!(go_duration(text), None, "{text:?}");
        }
    }
}
