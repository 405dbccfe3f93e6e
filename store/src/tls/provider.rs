//! Suites and versions that the flags name, as rustls wants them.

use std::{io, sync::Arc};

use rustls::{
    CipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use crate::config::{TlsInfo, TlsVersions};

const RSA: &str = "TLS_ECDHE_RSA_WITH_";
const ECDSA: &str = "TLS_ECDHE_ECDSA_WITH_";

/// Names Go knows besides those that are implemented here: suites without
/// forward secrecy or without authenticated encryption, which rustls leaves
/// out. HTTP/2 forbids them (RFC 9113, appendix A).
const WEAK: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Always there when TLS 1.3 is, as in Go.
const OF_TLS13: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

fn suite(name: &str) -> Option<CipherSuite> {
    use CipherSuite as S;
    let (rsa, rest) = match (name.strip_prefix(RSA), name.strip_prefix(ECDSA)) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return None,
    };
    Some(match (rsa, rest) {
        (true, "AES_128_GCM_SHA256") => S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        (true, "AES_256_GCM_SHA384") => S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        (true, "CHACHA20_POLY1305_SHA256" | "CHACHA20_POLY1305") => {
            S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        (false, "AES_128_GCM_SHA256") => S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        (false, "AES_256_GCM_SHA384") => S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        (false, "CHACHA20_POLY1305_SHA256" | "CHACHA20_POLY1305") => {
            S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ => return None,
    })
}

/// The suites to speak.
///
/// # Errors
/// A name that Go does not know either, or none left to speak TLS with.
pub(super) fn provider(info: &TlsInfo) -> io::Result<Arc<CryptoProvider>> {
    let mut provider = ring::default_provider();
    if info.cipher_suites.is_empty() {
        return Ok(Arc::new(provider));
    }
    let mut wanted = Vec::new();
    for name in &info.cipher_suites {
        match suite(name) {
            Some(suite) => wanted.push(suite),
            None if OF_TLS13.contains(&name.as_str()) => {}
            None if WEAK.contains(&name.as_str()) => {
                tracing::warn!(cipher_suite = name, "cipher suite left out: it is not safe");
            }
            None => {
                return Err(io::Error::other(format!(
                    "unexpected TLS cipher suite {name:?}"
                )));
            }
        }
    }
    if wanted.is_empty() && !info.versions.tls13 {
        return Err(io::Error::other(format!(
            "none of the cipher suites {:?} is supported",
            info.cipher_suites
        )));
    }
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()));
    Ok(Arc::new(provider))
}

pub(super) fn versions(versions: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    let tls12 = versions.tls12.then_some(&TLS12);
    let tls13 = versions.tls13.then_some(&TLS13);
    tls12.into_iter().chain(tls13).collect()
}
