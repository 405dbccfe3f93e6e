//! Certificates made here: by an authority for a cluster that is tried out, by a
//! member for itself, and by tests, which need bad ones too.
//!
//! Knows files and what a certificate says. Must not know who uses it for what.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// Clocks of machines differ: certificates are valid a little earlier.
const EARLIER: Duration = Duration::minutes(5);

/// Days that certificates of an authority last if nothing else is said.
const DAYS: u64 = 10 * 365;

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key_pem: String,
}

/// What a certificate is to say.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Empty: it says none.
    pub common_name: String,
    /// What Kubernetes takes for a group.
    pub organization: Option<String>,
    /// Names and addresses.
    pub hosts: Vec<String>,
    /// Days that it lasts, from now; negative: it ended so many days ago.
    /// `None` for ten years.
    pub days: Option<i64>,
    pub serial: Option<u64>,
}

impl Subject {
    fn params(&self) -> io::Result<CertificateParams> {
        let mut params = CertificateParams::new(self.hosts.clone()).map_err(io::Error::other)?;
        match self.days {
            Some(days) if days < 0 => {
                let now = OffsetDateTime::now_utc();
                params.not_before = now + Duration::days(days - 1);
                params.not_after = now + Duration::days(days);
            }
            days => lasting(&mut params, days.map_or(DAYS, i64::unsigned_abs)),
        }
        params.serial_number = self.serial.map(SerialNumber::from);
        params.distinguished_name = DistinguishedName::new();
        if !self.common_name.is_empty() {
            params
                .distinguished_name
                .push(DnType::CommonName, self.common_name.clone());
        }
        if let Some(organization) = &self.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization.clone());
        }
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(params)
    }

    /// A certificate that nobody else has signed. It is no authority's: then all
    /// clients take it that were told to trust it.
    ///
    /// # Errors
    /// A name that cannot be in a certificate.
    pub fn self_signed(&self) -> io::Result<Signed> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = self.params()?.self_signed(&key);
        Ok(Signed {
            certificate: signed.map_err(io::Error::other)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// A certificate and its key in PEM.
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl Signed {
    /// Writes `NAME.crt` and `NAME.key` into a directory, the key first: who
    /// looks at the certificate finds its key.
    ///
    /// # Errors
    /// With the name of the file.
    pub fn write(&self, dir: &Path, name: &str) -> io::Result<()> {
        write(&dir.join(format!("{name}.key")), self.key.as_bytes())?;
        write(
            &dir.join(format!("{name}.crt")),
            self.certificate.as_bytes(),
        )
    }
}

impl Authority {
    /// # Errors
    /// No key can be made.
    pub fn new(common_name: &str) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::default();
        lasting(&mut params, DAYS);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        let key_pem = key.serialize_pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            key_pem,
        })
    }

    /// One that was made before.
    ///
    /// # Errors
    /// The texts are not its certificate and its key.
    pub fn from_pem(certificate: &str, key: &str) -> io::Result<Self> {
        let pair = KeyPair::from_pem(key).map_err(io::Error::other)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, pair).map_err(io::Error::other)?,
            pem: certificate.to_owned(),
            key_pem: key.to_owned(),
        })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key, PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Signs a certificate for a server and a client in one, as members need it.
    ///
    /// # Errors
    /// A name that cannot be in a certificate.
    pub fn sign(&self, subject: &Subject) -> io::Result<Signed> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let params = subject.params()?;
        let signed = params.signed_by(&key, &self.issuer);
        Ok(Signed {
            certificate: signed.map_err(io::Error::other)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A list that revokes certificates by their serial numbers, DER.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn revoke(&self, serials: &[u64]) -> io::Result<Vec<u8>> {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - EARLIER,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - EARLIER,
            next_update: now + Duration::days(30),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).map_err(io::Error::other)?;
        Ok(list.der().to_vec())
    }
}

fn lasting(params: &mut CertificateParams, days: u64) {
    let days = Duration::days(i64::try_from(days).unwrap_or(i64::MAX));
    let now = OffsetDateTime::now_utc();
    params.not_before = now - EARLIER;
    // The last day that a certificate can name is far enough.
    let last = OffsetDateTime::new_utc(
        time::Date::from_calendar_date(9999, time::Month::December, 31).unwrap_or(time::Date::MAX),
        time::Time::MIDNIGHT,
    );
    params.not_after = now.checked_add(days).map_or(last, |end| end.min(last));
}

/// Writes a file for its owner only, whole or not at all, and makes its
/// directory if need be.
///
/// # Errors
/// With the name of the file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Some(dir) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(named)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(named)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path))
        .map_err(named)
}
