//! Certificates that a member makes for itself (`--auto-tls`,
//! `--peer-auto-tls`). They encrypt; nobody has said whose they are.

use std::{
    io,
    path::{Path, PathBuf},
};

use mizzen_certs::{Subject, write};

use crate::config::AutoTls;

/// The files in `dir`, made unless both are there. Kept, as etcd keeps them: a
/// client may have been told to trust one.
pub(super) fn certificate(dir: &Path, auto: &AutoTls) -> io::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let days = i64::try_from(auto.years.saturating_mul(365)).unwrap_or(i64::MAX);
    let made = Subject {
        common_name: "mizzen".to_owned(),
        hosts: auto.hosts.clone(),
        days: Some(days),
        ..Subject::default()
    }
    .self_signed()?;
    write(&key, made.key.as_bytes())?;
    write(&certificate, made.certificate.as_bytes())?;
    tracing::warn!(
        path = %certificate.display(),
        certificate_validity_days = days,
        "automatically generate certificates"
    );
    Ok((certificate, key))
}
