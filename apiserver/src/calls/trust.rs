//! Whom a webhook may prove to be: by the authorities of its configuration, or by
//! those of the machine.
//!
//! A certificate that is itself among the authorities is believed as Go believes
//! it, though it says that it is an authority.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How a webhook is connected to.
///
/// # Errors
/// The authorities cannot be read, or there are none.
pub fn config(authorities: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let (roots, given) = match authorities {
        [] => (machines()?, Vec::new()),
        pem => read(pem)?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    let inner = verifier.map_err(|error| error.to_string())?;
    let verifier = Verifier { inner, given };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn read(pem: &[u8]) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| format!("caBundle: {error}"))?;
    for certificate in &certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("caBundle: {error}"))?;
    }
    if roots.is_empty() {
        return Err("unable to load root certificates: no certificate in caBundle".to_owned());
    }
    Ok((Arc::new(roots), certificates))
}

/// The authorities that the machine trusts, read once.
fn machines() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err("x509: certificate signed by unknown authority".to_owned()),
        false => Ok(roots.clone()),
    }
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The authorities of a configuration.
    given: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Whether a certificate is one of those given, is of that name, and in time.
    fn is_given(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        if !self.given.iter().any(|one| one == certificate) {
            return false;
        }
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
            return false;
        };
        let Ok((_, read)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (from, to) = (read.validity().not_before, read.validity().not_after);
        let in_time = from.timestamp() <= now && now <= to.timestamp();
        in_time && verify_server_name(&parsed, name).is_ok()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(_) if self.is_given(end_entity, server_name, now) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
