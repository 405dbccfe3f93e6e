//! The server's certificate, and the authority of its clients': files that are
//! given, or made at the first start. When they change, the next handshake uses
//! the new ones.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use mizzen_certs::{Authority, Subject, write};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::{
    authn::{AuthnError, MASTERS, Trust},
    limits,
};

/// The administrator that is made with an authority of clients.
const ADMIN: &str = "kubernetes-admin";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0}: not a PEM file of the expected kind: {1}")]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] io::Error),
    #[error("the certificate cannot be used: {0}")]
    Use(#[from] Error),
    #[error(transparent)]
    Clients(#[from] AuthnError),
}

/// Where certificate and key lie, and the authority of clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
}

/// Makes a key on P-256, unless there is one: for tokens of service accounts.
pub fn make_key(path: &Path) -> Result<(), TlsError> {
    if path.exists() {
        return Ok(());
    }
    let made = Subject::default().self_signed()?;
    Ok(write(path, made.key.as_bytes())?)
}

/// Makes an authority and a certificate of it, unless they are there.
pub fn make_server(dir: &Path, hosts: &[String]) -> Result<(), TlsError> {
    let there = |name: &str| dir.join(name).exists();
    if there("apiserver.crt") && there("apiserver.key") && there("ca.crt") {
        return Ok(());
    }
    let authority = Authority::new("mizzen-ca")?;
    let subject = Subject {
        common_name: "mizzen-apiserver".to_owned(),
        hosts: hosts.to_owned(),
        ..Subject::default()
    };
    authority.sign(&subject)?.write(dir, "apiserver")?;
    Ok(write(&dir.join("ca.crt"), authority.pem().as_bytes())?)
}

/// Makes an authority of clients and the certificate of an administrator, who
/// may do everything, unless they are there. The authority is another than the
/// server's: who has its key makes whom he likes.
pub fn make_clients(dir: &Path) -> Result<(), TlsError> {
    let path = |name: &str| dir.join(name);
    let (cert, key) = (path("client-ca.crt"), path("client-ca.key"));
    if !cert.exists() || !key.exists() {
        let authority = Authority::new("mizzen-client-ca")?;
        write(&key, authority.key_pem().as_bytes())?;
        write(&cert, authority.pem().as_bytes())?;
    }
    if path("admin.crt").exists() && path("admin.key").exists() {
        return Ok(());
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| TlsError::File(path.to_owned(), error))
    };
    let subject = Subject {
        common_name: ADMIN.to_owned(),
        organization: Some(MASTERS.to_owned()),
        ..Subject::default()
    };
    let authority = Authority::from_pem(&read(&cert)?, &read(&key)?)?;
    Ok(authority.sign(&subject)?.write(dir, "admin")?)
}

/// What the files hold.
pub type Contents = [Vec<u8>; 3];

/// The files as they are now.
pub struct Credentials {
    files: Files,
    config: ArcSwap<ServerConfig>,
    /// Whose certificates are believed.
    trust: Arc<ArcSwap<Trust>>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read or used.
    pub fn load(files: Files) -> Result<(Self, Contents), TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| TlsError::File(path.clone(), error))
        };
        let contents = [
            read(&files.cert)?,
            read(&files.key)?,
            read(&files.client_ca)?,
        ];
        let (config, trust) = built(&files, &contents)?;
        let credentials = Self {
            files,
            config: ArcSwap::new(config),
            trust: Arc::new(ArcSwap::from_pointee(trust)),
        };
        Ok((credentials, contents))
    }

    pub fn trust(&self) -> Arc<ArcSwap<Trust>> {
        self.trust.clone()
    }

    /// For the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Looks at the files again and again. What has changed and can be used is
    /// used from then on, all files together; what cannot is logged once.
    pub async fn keep(&self, mut seen: Contents) {
        loop {
            tokio::time::sleep(limits::CERTIFICATES).await;
            let Ok(contents) = self.contents().await else {
                // Being replaced, or gone: the old ones are used on.
                continue;
            };
            if contents == seen {
                continue;
            }
            match built(&self.files, &contents) {
                Ok((config, trust)) => {
                    self.config.store(config);
                    self.trust.store(Arc::new(trust));
                    tracing::info!("certificates have changed and are used from now on");
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificates cannot be used: the old ones stay");
                }
            }
            seen = contents;
        }
    }

    async fn contents(&self) -> io::Result<Contents> {
        Ok([
            tokio::fs::read(&self.files.cert).await?,
            tokio::fs::read(&self.files.key).await?,
            tokio::fs::read(&self.files.client_ca).await?,
        ])
    }
}

fn built(
    files: &Files,
    [cert, key, client_ca]: &Contents,
) -> Result<(Arc<ServerConfig>, Trust), TlsError> {
    let pem = |path: &Path, error| TlsError::Pem(path.to_owned(), error);
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let certs = certs.map_err(|error| pem(&files.cert, error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| pem(&files.key, error))?;
    let trust = Trust::new(&files.client_ca, client_ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = AnyClient::new(&trust, &provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(clients))
        .with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), trust))
}

/// Takes any certificate whose key the client has, and none: requests are
/// refused, not handshakes, as with upstream.
#[derive(Debug)]
struct AnyClient {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClient {
    fn new(trust: &Trust, provider: &CryptoProvider) -> Self {
        Self {
            hints: trust.hints().to_vec(),
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

type Signed = rustls::client::danger::HandshakeSignatureValid;

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<Signed, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<Signed, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
