//! Certificates of a run whose members speak mutual TLS, and connections that
//! show them.

use anyhow::Result;
use hyper_util::rt::TokioIo;
use mizzen_certs::{Authority, Signed, Subject, write};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Whose certificate a client shows. By its common name the members know the
/// user, unless a token says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Root,
    /// Of a name that no user has.
    Stranger,
}

#[derive(Clone)]
pub struct Certificates {
    dir: PathBuf,
    root: Arc<ClientConfig>,
    stranger: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes an authority and what it signs, below `dir`.
    pub fn new(dir: &Path) -> Result<Certificates> {
        let authority = Authority::new("jepsen")?;
        write(&dir.join("ca.crt"), authority.pem().as_bytes())?;
        authority.sign(&local("member"))?.write(dir, "member")?;
        let holder = |name| -> Result<Arc<ClientConfig>> {
            config(authority.pem(), &authority.sign(&local(name))?)
        };
        Ok(Certificates {
            dir: dir.to_path_buf(),
            root: holder("root")?,
            stranger: holder("stranger")?,
        })
    }

    /// What members are started with.
    pub fn flags(&self) -> Vec<String> {
        let path = |flag: &str, name: &str| format!("--{flag}={}", self.dir.join(name).display());
        let of = |prefix: &str| {
            [
                path(&format!("{prefix}cert-file"), "member.crt"),
                path(&format!("{prefix}key-file"), "member.key"),
                path(&format!("{prefix}trusted-ca-file"), "ca.crt"),
                format!("--{prefix}client-cert-auth"),
            ]
        };
        [of(""), of("peer-")].concat()
    }

    /// A connection that is opened when it is first used.
    pub fn connect(&self, endpoint: &Endpoint, holder: Holder) -> Channel {
        let config = match holder {
            Holder::Root => &self.root,
            Holder::Stranger => &self.stranger,
        };
        let tls = TlsConnector::from(Arc::clone(config));
        endpoint.connect_with_connector_lazy(tower::service_fn(move |to: http::Uri| {
            let tls = tls.clone();
            async move {
                let host = to.host().unwrap_or_default().to_owned();
                let address = (host.as_str(), to.port_u16().unwrap_or_default());
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                io::Result::Ok(TokioIo::new(tls.connect(name, stream).await?))
            }
        }))
    }
}

fn local(common_name: &str) -> Subject {
    Subject {
        common_name: common_name.into(),
        hosts: vec!["127.0.0.1".into(), "localhost".into()],
        ..Subject::default()
    }
}

fn config(authority: &str, shows: &Signed) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(
                shows.certificate.as_bytes(),
            )?],
            PrivateKeyDer::from_pem_slice(shows.key.as_bytes())?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
