//! The kinds of the group `certificates.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&CERTIFICATE_SIGNING_REQUEST];

const CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    version: "v1",
    plural: "certificatesigningrequests",
    kind: "CertificateSigningRequest",
    namespaced: false,
    place: "certificatesigningrequests",
    short: &["csr"],
    categories: &[],
    subs: &[Sub::Approval, Sub::Status],
    selectable: &[field("spec.signerName", &["spec", "signerName"], "")],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::Reported(Metadata::Given),
    on_create: None,
    on_update: Some(strategy::keep_spec),
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: None,
    validate_change: None,
    columns: &[AGE],
};
