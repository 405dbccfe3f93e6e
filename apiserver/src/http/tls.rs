//! The server's certificate: the files given, or one made at the first start.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0}: not a PEM file of the expected kind: {1}")]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

/// Where certificate, key and authority lie.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// Makes a key on P-256, unless there is one: for tokens of service accounts.
pub fn make_key(path: &Path) -> Result<(), TlsError> {
    if path.exists() {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| TlsError::File(dir.to_owned(), error))?;
    }
    write(path, &KeyPair::generate()?.serialize_pem(), true)
}

impl Files {
    /// The files in a directory of certificates.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            cert: dir.join("apiserver.crt"),
            key: dir.join("apiserver.key"),
            ca: dir.join("ca.crt"),
        }
    }

    /// Makes an authority and a certificate of it, unless they are there.
    pub fn make(&self, names: &[String]) -> Result<(), TlsError> {
        if self.cert.exists() && self.key.exists() && self.ca.exists() {
            return Ok(());
        }
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(DnType::CommonName, "mizzen-ca");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let ca_cert = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "mizzen-apiserver");
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let cert = params.signed_by(&key, &issuer)?;
        if let Some(dir) = self.cert.parent() {
            fs::create_dir_all(dir).map_err(|error| TlsError::File(dir.to_owned(), error))?;
        }
        write(&self.key, &key.serialize_pem(), true)?;
        write(&self.cert, &cert.pem(), false)?;
        write(&self.ca, &ca_cert.pem(), false)
    }

    /// The configuration of a server with this certificate.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.cert)
            .map_err(|error| TlsError::Pem(self.cert.clone(), error))?
            .collect();
        let certs = certs.map_err(|error| TlsError::Pem(self.cert.clone(), error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| TlsError::Pem(self.key.clone(), error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certs, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Writes a file whole; a secret one for its owner only.
fn write(path: &Path, text: &str, secret: bool) -> Result<(), TlsError> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mode = if secret { 0o600 } else { 0o644 };
    let failed = |error| TlsError::File(path.to_owned(), error);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}
