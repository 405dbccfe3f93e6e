//! Who is let in, and whom this member connects to: the chain as webpki checks
//! it, and then what the flags ask for besides.

use std::{collections::HashSet, io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{certificate::Certificate, files::Contents};
use crate::config::TlsInfo;

/// Serial numbers that are let in no more.
pub(super) type Revoked = HashSet<Vec<u8>>;

/// Whom certificates are believed.
#[derive(Debug)]
pub(super) struct Trust {
    roots: Arc<RootCertStore>,
    /// As they are in the file: a certificate that is one of them needs no
    /// signature of another, as in Go.
    listed: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// The authorities of the file, or of the system if none is given.
    pub fn new(contents: &Contents) -> io::Result<Self> {
        let listed = match &contents.authorities {
            Some(file) => file.certificates()?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        let (added, left_out) = roots.add_parsable_certificates(listed.iter().cloned());
        if contents.authorities.is_some() && added == 0 {
            return Err(io::Error::other(
                "no certificate of the trusted CA file can be used",
            ));
        }
        if contents.authorities.is_some() && left_out > 0 {
            tracing::warn!(
                left_out,
                "some certificates of the trusted CA file cannot be used"
            );
        }
        Ok(Self {
            roots: Arc::new(roots),
            listed,
        })
    }
}

/// What is asked of a certificate besides its chain.
#[derive(Debug)]
pub(super) struct Checks {
    trust: Trust,
    common_names: Vec<String>,
    hostnames: Vec<String>,
    revoked: Arc<Revoked>,
    algorithms: WebPkiSupportedAlgorithms,
}

fn invalid(reason: CertificateError) -> Error {
    Error::InvalidCertificate(reason)
}

impl Checks {
    pub fn new(
        info: &TlsInfo,
        trust: Trust,
        revoked: Arc<Revoked>,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            trust,
            common_names: info.allowed_common_names.clone(),
            hostnames: info.allowed_hostnames.clone(),
            revoked,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn listed(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trust.listed.iter().any(|listed| listed == certificate)
    }

    /// The names that are let in, and what was revoked.
    fn check(&self, leaf: &Certificate, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !self.common_names.is_empty() && !self.common_names.contains(&leaf.common_name)
            || !self.hostnames.is_empty()
                && !self.hostnames.iter().any(|host| leaf.is_valid_for(host))
        {
            return Err(invalid(CertificateError::NotValidForName));
        }
        if self.revoked.is_empty() {
            return Ok(());
        }
        if self.revoked.contains(&leaf.serial) {
            return Err(invalid(CertificateError::Revoked));
        }
        for other in others {
            if self.revoked.contains(&parse(other)?.serial) {
                return Err(invalid(CertificateError::Revoked));
            }
        }
        Ok(())
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::parse(certificate).map_err(|_| invalid(CertificateError::BadEncoding))
}

/// Both traits ask for these: signatures of the handshake, as webpki checks them.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.checks.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.checks.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.checks.algorithms.supported_schemes()
        }
    };
}

/// Checks who connects to this member.
#[derive(Debug)]
pub(super) struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    checks: Checks,
}

impl Clients {
    pub fn new(checks: Checks, provider: Arc<CryptoProvider>) -> io::Result<Self> {
        let roots = checks.trust.roots.clone();
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { chain, checks })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let leaf = parse(end_entity)?;
        if let Err(error) = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            && !(self.checks.listed(end_entity) && leaf.is_current(now))
        {
            return Err(match error {
                // Another authority of the same name: to Go, and to the client
                // that is to understand it, an unknown one.
                Error::InvalidCertificate(CertificateError::BadSignature) => {
                    invalid(CertificateError::UnknownIssuer)
                }
                other => other,
            });
        }
        self.checks.check(&leaf, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

/// Checks to whom this member connects.
#[derive(Debug)]
pub(super) struct Servers {
    chain: Chain,
    checks: Checks,
}

#[derive(Debug)]
enum Chain {
    /// Every certificate is believed: its owner has made it for itself.
    Any,
    To(Arc<WebPkiServerVerifier>),
    /// No file names authorities, and the system has none.
    NoAuthority,
}

impl Servers {
    /// `any`: whoever answers is believed.
    pub fn new(checks: Checks, provider: Arc<CryptoProvider>, any: bool) -> io::Result<Self> {
        let roots = checks.trust.roots.clone();
        let chain = if any {
            Chain::Any
        } else if roots.is_empty() {
            Chain::NoAuthority
        } else {
            let chain = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Chain::To(chain.map_err(io::Error::other)?)
        };
        Ok(Self { chain, checks })
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = parse(end_entity)?;
        let chain = match &self.chain {
            Chain::Any => Ok(()),
            Chain::NoAuthority => Err(invalid(CertificateError::UnknownIssuer)),
            Chain::To(chain) => chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(|_| ()),
        };
        if let Err(error) = chain
            && !(self.checks.listed(end_entity)
                && leaf.is_current(now)
                && leaf.is_valid_for(&server_name.to_str()))
        {
            return Err(error);
        }
        self.checks.check(&leaf, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}
