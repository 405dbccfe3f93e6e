//! What a certificate says, as far as the checks ask for it: by the rules of
//! Go's `crypto/x509`, which the certificates of an etcd cluster were made for.

use std::net::IpAddr;

use rustls::pki_types::UnixTime;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Empty if there is none; the last one if there are several.
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Without leading zeros.
    pub serial: Vec<u8>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let common_name = parsed.subject().iter_common_name().last();
        let mut certificate = Self {
            common_name: common_name
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            serial: without_zeros(parsed.raw_serial()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| error.to_string())?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => certificate.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    certificate.addresses.extend(address(bytes));
                }
                _ => {}
            }
        }
        Ok(certificate)
    }

    pub fn is_current(&self, now: UnixTime) -> bool {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether `host`, a name or an address, is one of those in it.
    pub fn is_valid_for(&self, host: &str) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address.to_canonical()),
            Err(_) => self.dns_names.iter().any(|name| matches(name, host)),
        }
    }
}

/// A name matches itself; `*` stands for exactly the first label.
fn matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if pattern.is_empty() || host.is_empty() {
        return false;
    }
    match pattern.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(label, host)| !label.is_empty() && host == rest),
        None => pattern == host,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(sixteen).to_canonical())
}

/// A serial number is a number: as bytes it may begin with zeros.
pub(super) fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0);
    bytes[start.unwrap_or(bytes.len())..].to_vec()
}
