//! TLS to the store: upstream's flags `--etcd-cafile`, `--etcd-certfile` and
//! `--etcd-keyfile`.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::StoreError;

/// Files of PEM: whom to believe, and what to show.
#[derive(Clone, Debug)]
pub struct Tls {
    pub authority: PathBuf,
    /// A certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// # Errors
    /// A file is not what it should be, by its name.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, StoreError> {
        let other = |path: &PathBuf, error: &dyn std::fmt::Display| {
            StoreError::Other(format!("{}: {error}", path.display()))
        };
        let certificates = |path: &PathBuf| -> Result<Vec<_>, StoreError> {
            let certificates = CertificateDer::pem_file_iter(path);
            certificates
                .and_then(Iterator::collect)
                .map_err(|error| other(path, &error))
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            roots
                .add(certificate)
                .map_err(|error| other(&self.authority, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::Other(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &self.own {
            Some((certificate, key)) => {
                let secret =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| other(key, &error))?;
                config
                    .with_client_auth_cert(certificates(certificate)?, secret)
                    .map_err(|error| other(key, &error))?
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
