//! Why a connection was refused, in the words of Go's `crypto/tls`, which are
//! what operators and etcd's tests look for in the log.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// etcd's own, for a certificate of another common name or host name.
pub(super) const NOT_ALLOWED: &str = "client certificate authentication failed";

/// Not even the first byte is TLS.
pub(super) const NO_TLS: &str = "tls: first record does not look like a TLS handshake";

/// The text of a handshake that failed.
pub(super) fn text(error: &io::Error) -> String {
    if is_gone(error) {
        return "EOF".to_owned();
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(error) => of_tls(error),
        None => error.to_string(),
    }
}

/// Whether the other side has left in the middle.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(reason) => of_certificate(reason),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::AlertReceived(alert) => format!("remote error: tls: {}", of_alert(*alert)),
        Error::InvalidMessage(_) => NO_TLS.to_owned(),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "tls: client offered only unsupported versions".to_owned(),
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
        ) => "tls: no cipher suite supported by both client and server".to_owned(),
        other => format!("tls: {other}"),
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    let why = match reason {
        // The verifiers here use it for nothing else on the side of a server.
        CertificateError::NotValidForName => return NOT_ALLOWED.to_owned(),
        CertificateError::Revoked => return "transport: certificate revoked".to_owned(),
        CertificateError::UnknownIssuer => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".to_owned()
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecryptError => "error decrypting message",
        other => return format!("{other:?}"),
    }
    .to_owned()
}

/// As Go says it when a file cannot be opened.
pub(super) fn of_file(path: &std::path::Path, error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let text: String = first.into_iter().chain(letters).collect();
    format!("open {}: {text}", path.display())
}
