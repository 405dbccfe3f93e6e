//! `CertificateApproval`, `CertificateSigning` and `CertificateSubjectRestriction`:
//! who approves and signs needs the right to do so for the signer, and nobody
//! gets a client certificate of an administrator by asking for one.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::future::BoxFuture;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest, X509Name};

use super::{Asked, Plugin, Verdict};
use crate::{authn::MASTERS, authz::Attributes, kind::Sub, object};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &[(&str, &str)] = &[(GROUP, "certificatesigningrequests")];
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateApproval;
pub struct CertificateSigning;
pub struct CertificateSubjectRestriction;

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        REQUESTS
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let verdict = match asked.updates(Some(Sub::Approval)) {
            true => may(asked, "approve"),
            false => Ok(()),
        };
        Box::pin(async { verdict })
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        REQUESTS
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let verdict = match asked.updates(Some(Sub::Status)) && signs(asked) {
            true => may(asked, "sign"),
            false => Ok(()),
        };
        Box::pin(async { verdict })
    }
}

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        REQUESTS
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let verdict = match asked.creates() {
            true => restricted(asked),
            false => Ok(()),
        };
        Box::pin(async { verdict })
    }
}

/// Whether a report changes the certificate or the conditions.
fn signs(asked: &Asked<'_>) -> bool {
    ["certificate", "conditions"].iter().any(|field| {
        let path = ["status", field];
        let new = object::at(asked.object(), &path);
        new != asked.old().and_then(|old| object::at(old, &path))
    })
}

/// Whether who asks has a right for the signer, or for all of its domain.
fn may(asked: &Asked<'_>, verb: &str) -> Verdict {
    let old = asked.old().unwrap_or(asked.object());
    let signer = object::str_at(old, &["spec", "signerName"]);
    let domain = signer.split('/').next().unwrap_or(signer);
    let has = |name: &str| {
        asked.may(&Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            version: "*",
            resource: "signers",
            name: name.into(),
            ..Attributes::default()
        })
    };
    if has(signer) || has(&format!("{domain}/*")) {
        return Ok(());
    }
    Err(asked.forbidden(&format!(
        "user not permitted to {verb} requests with signerName {signer:?}"
    )))
}

fn restricted(asked: &Asked<'_>) -> Verdict {
    let spec = |field| object::str_at(asked.object(), &["spec", field]);
    if spec("signerName") != CLIENTS {
        return Ok(());
    }
    // What is no request at all was refused before.
    let organizations = organizations(spec("request")).unwrap_or_default();
    if organizations.iter().any(|one| one == MASTERS) {
        return Err(asked.forbidden(&format!(
            "use of {CLIENTS} signer with {MASTERS} group is not allowed"
        )));
    }
    Ok(())
}

/// The organizations that a request in PEM, in base64, asks a certificate for.
fn organizations(request: &str) -> Option<Vec<String>> {
    subject(request, |name| {
        let names = name.iter_organization();
        names
            .filter_map(|name| name.as_str().ok().map(str::to_owned))
            .collect()
    })
}

/// The common name of such a request.
pub fn common_name(request: &str) -> Option<String> {
    subject(request, |name| {
        let mut names = name.iter_common_name();
        let text = names.next().and_then(|name| name.as_str().ok());
        text.unwrap_or("").to_owned()
    })
}

fn subject<T>(request: &str, of: impl Fn(&X509Name<'_>) -> T) -> Option<T> {
    let text = BASE64.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    Some(of(&request.certification_request_info.subject))
}
