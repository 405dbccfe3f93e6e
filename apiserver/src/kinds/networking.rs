//! The kinds of the group `networking.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[
    &INGRESS,
    &NETWORK_POLICY,
    &INGRESS_CLASS,
    &IP_ADDRESS,
    &SERVICE_CIDR,
];

const INGRESS: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ingresses",
    kind: "Ingress",
    namespaced: true,
    place: "ingress",
    short: &["ing"],
    categories: &[],
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(validate::kinds::ingress),
    validate_change: None,
    columns: &[
        Column("Class", false, |value| {
            text(value, &["spec", "ingressClassName"])
        }),
        Column("Hosts", false, |value| {
            let hosts = list(value, &["spec", "rules"])
                .iter()
                .map(|rule| member(rule, "host"))
                .filter(|host| !host.is_empty());
            let hosts: Vec<_> = hosts.map(str::to_owned).collect();
            if hosts.is_empty() {
                "*".into()
            } else {
                joined(hosts)
            }
        }),
        AGE,
    ],
};

const NETWORK_POLICY: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    plural: "networkpolicies",
    kind: "NetworkPolicy",
    namespaced: true,
    place: "networkpolicies",
    short: &["netpol"],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::network_policy),
    validate: None,
    validate_change: None,
    columns: &[AGE],
};

const INGRESS_CLASS: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ingressclasses",
    kind: "IngressClass",
    namespaced: false,
    place: "ingressclasses",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: None,
    validate_change: None,
    columns: &[AGE],
};

const IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ipaddresses",
    kind: "IPAddress",
    namespaced: false,
    place: "ipaddresses",
    short: &["ip"],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: None,
    validate_change: None,
    columns: &[AGE],
};

const SERVICE_CIDR: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    plural: "servicecidrs",
    kind: "ServiceCIDR",
    namespaced: false,
    place: "servicecidrs",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::Reported(Metadata::KEPT),
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: None,
    validate_change: None,
    columns: &[AGE],
};
