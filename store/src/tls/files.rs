//! The files that the flags name: read whole, and parsed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _,
};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{certificate::without_zeros, reason};
use crate::{config::TlsInfo, limits};

/// Contents of the files of one [`TlsInfo`].
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Contents {
    pub server: Option<Pair>,
    pub client: Option<Pair>,
    pub authorities: Option<File>,
    pub revoked: Option<File>,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub certificate: File,
    pub key: File,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl File {
    fn read(path: &Path) -> io::Result<Self> {
        let named = |error| io::Error::other(reason::of_file(path, &error));
        let length = fs::metadata(path).map_err(named)?.len();
        if length > limits::TLS_FILE_BYTES {
            return Err(io::Error::other(format!(
                "{}: larger than {} bytes",
                path.display(),
                limits::TLS_FILE_BYTES
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: fs::read(path).map_err(named)?,
        })
    }

    /// One that is on no disk.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            path: PathBuf::new(),
            bytes: bytes.to_vec(),
        }
    }

    pub fn error(&self, text: impl std::fmt::Display) -> io::Error {
        io::Error::other(format!("{}: {text}", self.path.display()))
    }

    /// All certificates of a PEM file; what else is in it is left out.
    pub fn certificates(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let certificates = certificates.map_err(|error| self.error(error))?;
        if certificates.is_empty() {
            return Err(self.error("tls: failed to find any PEM data in certificate input"));
        }
        Ok(certificates)
    }

    pub fn key(&self) -> io::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.bytes)
            .map_err(|_| self.error("tls: failed to find any PEM data in key input"))
    }

    /// Serial numbers of one list in DER, as etcd reads it, or of all lists of
    /// a PEM file. As in etcd the lists' signatures are not looked at: who can
    /// write the file is trusted.
    pub fn serials(&self) -> io::Result<Vec<Vec<u8>>> {
        let lists: Vec<_> = if self.bytes.starts_with(b"-----BEGIN") {
            CertificateRevocationListDer::pem_slice_iter(&self.bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| self.error(error))?
        } else {
            vec![CertificateRevocationListDer::from(self.bytes.clone())]
        };
        if lists.is_empty() {
            return Err(self.error("no certificate revocation list in it"));
        }
        let mut serials = Vec::new();
        for list in &lists {
            let (_, list) = CertificateRevocationList::from_der(list)
                .map_err(|error| self.error(format!("x509: malformed crl: {error}")))?;
            let revoked = list.iter_revoked_certificates();
            serials.extend(revoked.map(|revoked| without_zeros(revoked.raw_serial())));
        }
        Ok(serials)
    }
}

fn pair(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> io::Result<Option<Pair>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(Pair {
            certificate: File::read(certificate)?,
            key: File::read(key)?,
        })),
        _ => Ok(None),
    }
}

impl Contents {
    /// # Errors
    /// A file that cannot be read, by its name.
    pub fn read(info: &TlsInfo) -> io::Result<Self> {
        let file = |path: &Option<PathBuf>| path.as_deref().map(File::read).transpose();
        Ok(Self {
            server: pair(info.cert_file.as_ref(), info.key_file.as_ref())?,
            client: pair(
                info.client_cert_file.as_ref(),
                info.client_key_file.as_ref(),
            )?,
            authorities: file(&info.trusted_ca_file)?,
            revoked: file(&info.crl_file)?,
        })
    }
}
