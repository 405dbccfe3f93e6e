//! Certificates of clients: the common name is the user, organizations are its
//! groups.
//!
//! A handshake takes any certificate whose key the client has. Whether it is
//! believed is asked with its requests, as authorities change and certificates
//! end while connections stay.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustls::{
    DistinguishedName, RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{AuthnError, CREDENTIAL, Identity};
use crate::limits;

/// Whose certificates are believed.
#[derive(Debug)]
pub struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    /// Reads the authorities of a PEM file, whose bytes are given.
    ///
    /// # Errors
    /// There is none that can be used.
    pub fn new(path: &Path, pem: &[u8]) -> Result<Self, AuthnError> {
        let wrong = |why: String| AuthnError::Authority(path.to_owned(), why);
        let listed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let listed = listed.map_err(|error| wrong(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        let (added, left_out) = roots.add_parsable_certificates(listed);
        if added == 0 {
            return Err(AuthnError::NoAuthority(path.to_owned()));
        }
        if left_out > 0 {
            tracing::warn!(path = %path.display(), left_out, "some certificates of authorities cannot be used");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { verifier })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or as [`new`](Self::new).
    pub fn read(path: &Path) -> Result<Self, AuthnError> {
        Self::new(path, &super::read(path)?)
    }

    /// The authorities' names, for clients that have several certificates.
    pub fn hints(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn shown(&self, chain: &[CertificateDer<'static>]) -> Shown {
        let Some((leaf, others)) = chain.split_first() else {
            return Shown::Nothing;
        };
        let checked = self
            .verifier
            .verify_client_cert(leaf, others, UnixTime::now());
        if let Err(error) = checked {
            tracing::debug!(%error, "a client's certificate is not believed");
            return Shown::Wrong;
        }
        match identity(leaf) {
            Ok(Some(identity)) => Shown::Identity(Arc::new(identity)),
            Ok(None) => Shown::Nothing,
            Err(why) => {
                tracing::debug!(why, "a client's certificate cannot be read");
                Shown::Wrong
            }
        }
    }
}

/// Whom a certificate names, if anybody.
fn identity(der: &[u8]) -> Result<Option<Identity>, String> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let subject = parsed.subject();
    // Of several names Go takes the last.
    let name = subject
        .iter_common_name()
        .last()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let groups = subject.iter_organization();
    let groups = groups.filter_map(|group| group.as_str().ok());
    let mut id = "X509SHA256=".to_owned();
    id.extend(Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")));
    let identity = Identity {
        user: name.to_owned(),
        groups: groups.map(str::to_owned).collect(),
        extra: [(CREDENTIAL.to_owned(), vec![id])].into(),
        ..Identity::default()
    };
    Ok(Some(identity.authenticated()))
}

/// What a certificate shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    Identity(Arc<Identity>),
    /// Nobody: it has no name.
    Nothing,
    /// It is not believed.
    Wrong,
}

/// What was found, by whom and when.
struct Found {
    by: Arc<Trust>,
    until: Instant,
    shown: Shown,
}

/// The other end of a connection that showed a certificate.
pub struct Peer {
    /// Its own first.
    chain: Vec<CertificateDer<'static>>,
    found: Mutex<Option<Found>>,
}

impl Peer {
    /// `None`: it showed none.
    pub fn new(chain: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let chain = chain.filter(|chain| !chain.is_empty())?;
        let chain = chain.iter().map(|one| one.clone().into_owned());
        Some(Self {
            chain: chain.collect(),
            found: Mutex::new(None),
        })
    }

    /// What it shows to whom these are believed, checked again when they change
    /// and after a while, as certificates end.
    pub fn shows(&self, trust: &Arc<Trust>) -> Shown {
        let mut found = self.found.lock();
        let now = Instant::now();
        if let Some(found) = &*found
            && found.until > now
            && Arc::ptr_eq(&found.by, trust)
        {
            return found.shown.clone();
        }
        let shown = trust.shown(&self.chain);
        *found = Some(Found {
            by: trust.clone(),
            until: now + self.believed(),
            shown: shown.clone(),
        });
        shown
    }

    /// No longer than the certificates last.
    fn believed(&self) -> Duration {
        let ends = self.chain.iter().filter_map(|der| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            u64::try_from(parsed.validity().not_after.timestamp()).ok()
        });
        let now = UnixTime::now().as_secs();
        let left = ends.map(|end| end.saturating_sub(now)).min().unwrap_or(0);
        Duration::from_secs(left).min(limits::CERTIFICATE_BELIEVED)
    }
}

#[cfg(test)]
mod tests {
    use mizzen_certs::{Authority, Subject};
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn trusting(authority: &Authority) -> Arc<Trust> {
        let path = Path::new("ca.crt");
        Arc::new(Trust::new(path, authority.pem().as_bytes()).expect("an authority"))
    }

    fn peer(authority: &Authority, subject: &Subject) -> Peer {
        let signed = authority.sign(subject).expect("a certificate");
        let der = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).expect("PEM");
        Peer::new(Some(&[der])).expect("it shows one")
    }

    #[test]
    fn a_certificate_names_a_user_and_a_group() {
        let authority = Authority::new("ours").expect("an authority");
        let subject = Subject {
            common_name: "alice".to_owned(),
            organization: Some("devs".to_owned()),
            ..Subject::default()
        };
        let peer = peer(&authority, &subject);
        let Shown::Identity(identity) = peer.shows(&trusting(&authority)) else {
            panic!("not believed");
        };
        assert_eq!(identity.user, "alice");
        assert_eq!(identity.groups, ["devs", "system:authenticated"]);
        assert!(identity.extra[CREDENTIAL][0].starts_with("X509SHA256="));
        // Another authority, as after a reload, on the same connection.
        let other = Authority::new("ours").expect("an authority");
        assert_eq!(peer.shows(&trusting(&other)), Shown::Wrong);
    }

    #[test]
    fn what_ended_or_names_nobody_shows_nobody() {
        let authority = Authority::new("ours").expect("an authority");
        let trust = trusting(&authority);
        let ended = Subject {
            common_name: "alice".to_owned(),
            days: Some(-1),
            ..Subject::default()
        };
        assert_eq!(peer(&authority, &ended).shows(&trust), Shown::Wrong);
        let nobody = Subject::default();
        assert_eq!(peer(&authority, &nobody).shows(&trust), Shown::Nothing);
        assert!(Peer::new(None).is_none() && Peer::new(Some(&[])).is_none());
    }
}
