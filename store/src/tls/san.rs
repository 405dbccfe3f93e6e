//! Whether who connects to the peers' port does so from where its certificate
//! says: etcd's check, with etcd's texts.

use std::{io, net::IpAddr};

use super::certificate::Certificate;
use crate::{limits, workers::Workers};

/// Fails if the certificate names machines and `remote` is none of them. One
/// without names is for any machine.
pub(super) async fn check(certificate: &Certificate, remote: IpAddr) -> Result<(), String> {
    let remote = remote.to_canonical();
    if certificate.addresses.is_empty() && certificate.dns_names.is_empty() {
        return Ok(());
    }
    if certificate.addresses.contains(&remote) {
        return Ok(());
    }
    if certificate.dns_names.is_empty() {
        let listed: Vec<String> = certificate
            .addresses
            .iter()
            .map(IpAddr::to_string)
            .collect();
        return Err(format!(
            "x509: certificate is valid for {}, not {remote}",
            listed.join(", ")
        ));
    }
    let names = certificate.dns_names.clone();
    // The name service may be slow, and the library for it blocks.
    let found = Workers::Threads.run(move || is_one_of(remote, &names));
    let reason = match tokio::time::timeout(limits::TLS_HANDSHAKE_TIMEOUT, found).await {
        Ok(Ok(Ok(true))) => return Ok(()),
        Ok(Ok(Err(error))) => format!(" ({error})"),
        Ok(Ok(Ok(false))) => String::new(),
        Ok(Err(_)) | Err(_) => " (the name service does not answer)".to_owned(),
    };
    Err(format!(
        "tls: \"{remote}\" does not match any of DNSNames {:?}{reason}",
        certificate.dns_names
    ))
}

/// By the name of the address, and by the addresses of the names.
fn is_one_of(remote: IpAddr, names: &[String]) -> io::Result<bool> {
    if let Ok(found) = dns_lookup::lookup_addr(&remote) {
        let found = found.trim_end_matches('.');
        let is_its = |name: &String| match name.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => found.ends_with(rest),
            _ => name == found,
        };
        if names.iter().any(is_its) {
            return Ok(true);
        }
    }
    let mut failed = None;
    for name in names.iter().filter(|name| !name.starts_with("*.")) {
        match dns_lookup::lookup_host(name) {
            Ok(addresses) => {
                let mut addresses = addresses.into_iter().map(|found| found.to_canonical());
                if addresses.any(|found| found == remote) {
                    return Ok(true);
                }
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(false), Err)
}
