//! Certificates of a cluster that speaks TLS: an authority for clients and one
//! for peers, and a certificate of each that all members share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use hyper_util::rt::TokioIo;
use mizzen_certs::{Authority, Signed, Subject, write};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Files below one folder: `ca.crt`, `server.*`, `client.*`, `crl.der` for
/// clients, and `peer-ca.crt`, `peer.*`, `peer-crl.der` for peers.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// A certificate for loopback.
pub fn local(common_name: &str) -> Subject {
    Subject {
        common_name: common_name.to_owned(),
        hosts: ["127.0.0.1", "localhost"].map(str::to_owned).to_vec(),
        ..Subject::default()
    }
}

impl Pki {
    /// Makes all of it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let pki = Self {
            dir: dir.to_owned(),
        };
        pki.renew("ca", &["server", "client"])?;
        pki.renew("peer-ca", &["peer"])?;
        Ok(pki)
    }

    /// A new authority in place of the one before, and new certificates of it.
    fn renew(&self, authority: &str, names: &[&str]) -> Result<()> {
        let made = Authority::new(authority)?;
        self.write(&format!("{authority}.key"), made.key_pem().as_bytes())?;
        self.write(&format!("{authority}.crt"), made.pem().as_bytes())?;
        for name in names {
            made.sign(&local(name))?.write(&self.dir, name)?;
        }
        let list = authority.replace("ca", "crl");
        self.write(&format!("{list}.der"), &made.revoke(&[])?)
    }

    /// A client's certificate that names nobody, in the place of the one before.
    ///
    /// # Errors
    /// Files cannot be read or written.
    pub fn name_no_client(&self) -> Result<()> {
        let client = self.authority("ca")?.sign(&local(""))?;
        Ok(client.write(&self.dir, "client")?)
    }

    /// Puts a file in the place of the one before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(write(&self.path(name), bytes)?)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `ca` or `peer-ca`.
    ///
    /// # Errors
    /// Its files are gone.
    pub fn authority(&self, name: &str) -> Result<Authority> {
        let read = |end: &str| std::fs::read_to_string(self.path(&format!("{name}.{end}")));
        Ok(Authority::from_pem(&read("crt")?, &read("key")?)?)
    }

    /// What members are started with.
    pub fn flags(&self) -> Vec<String> {
        let path = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        vec![
            path("cert-file", "server.crt"),
            path("key-file", "server.key"),
            path("trusted-ca-file", "ca.crt"),
            "--client-cert-auth".to_owned(),
            path("client-crl-file", "crl.der"),
            path("peer-cert-file", "peer.crt"),
            path("peer-key-file", "peer.key"),
            path("peer-trusted-ca-file", "peer-ca.crt"),
            "--peer-client-cert-auth".to_owned(),
            path("peer-crl-file", "peer-crl.der"),
        ]
    }

    /// The TLS of a client that members let in.
    ///
    /// # Errors
    /// The files are gone.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let read = |end: &str| std::fs::read_to_string(self.path(&format!("client.{end}")));
        let shows = Signed {
            certificate: read("crt")?,
            key: read("key")?,
        };
        client_config(&self.path("ca.crt"), Some(&shows))
    }
}

/// The TLS of a client that trusts the authorities in a file.
///
/// # Errors
/// The file, or what the client shows, is not in PEM.
pub fn client_config(authorities: &Path, shows: Option<&Signed>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match shows {
        Some(shows) => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(
                shows.certificate.as_bytes(),
            )?],
            PrivateKeyDer::from_pem_slice(shows.key.as_bytes())?,
        )?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// A connection to `host:port`, opened by its first call.
///
/// # Errors
/// The address is none.
pub fn secure_channel(address: &str, config: Arc<ClientConfig>) -> Result<Channel> {
    let connect = tower::service_fn(move |to: http::Uri| {
        let tls = TlsConnector::from(config.clone());
        async move {
            let host = to.host().unwrap_or_default().to_owned();
            let address = (host.as_str(), to.port_u16().unwrap_or_default());
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            io::Result::Ok(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_with_connector_lazy(connect))
}
