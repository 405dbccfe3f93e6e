//! Columns of kinds whose cells are more than a field. Source: upstream's
//! `pkg/printers/internalversion`.

use serde_json::Value;

use crate::{
    kind::Column,
    object::{self, Json},
    table::{AGE, containers_of, joined, list, member},
};

/// A field as it is, empty without one.
fn plain(value: &Json, path: &[&str]) -> Value {
    object::str_at(value, path).into()
}

/// A field, or a word that stands for its absence.
fn or(value: &Json, path: &[&str], absent: &str) -> Value {
    match object::at(value, path).and_then(Value::as_str) {
        Some(text) => text.into(),
        None => absent.into(),
    }
}

/// The first few of many.
fn few(all: &[String]) -> Value {
    const SHOWN: usize = 3;
    match all.len().checked_sub(SHOWN) {
        _ if all.is_empty() => "<unset>".into(),
        None | Some(0) => all.join(",").into(),
        Some(more) => format!("{} + {more} more...", all[..SHOWN].join(",")).into(),
    }
}

pub const INGRESSES: &[Column] = &[
    Column("Class", false, |value| {
        or(value, &["spec", "ingressClassName"], "<none>")
    }),
    Column("Hosts", false, |value| {
        let hosts = list(value, &["spec", "rules"]).iter();
        let hosts = hosts.map(|rule| member(rule, "host"));
        let hosts: Vec<_> = hosts
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect();
        if hosts.is_empty() {
            return "*".into();
        }
        few(&hosts)
    }),
    Column("Address", false, |value| {
        let all = list(value, &["status", "loadBalancer", "ingress"]).iter();
        let mut all: Vec<_> = all
            .map(|one| match member(one, "ip") {
                "" => member(one, "hostname"),
                address => address,
            })
            .filter(|one| !one.is_empty())
            .collect();
        all.sort_unstable();
        all.dedup();
        all.join(",").into()
    }),
    Column("Ports", false, |value| {
        let secured = !list(value, &["spec", "tls"]).is_empty();
        if secured { "80, 443" } else { "80" }.into()
    }),
    AGE,
];

pub const INGRESS_CLASSES: &[Column] = &[
    Column("Controller", false, |value| {
        plain(value, &["spec", "controller"])
    }),
    Column("Parameters", false, |value| {
        let Some(parameters) = object::at(value, &["spec", "parameters"]) else {
            return "<none>".into();
        };
        let (kind, name) = (member(parameters, "kind"), member(parameters, "name"));
        match member(parameters, "apiGroup") {
            "" => format!("{kind}/{name}"),
            group => format!("{kind}.{group}/{name}"),
        }
        .into()
    }),
    AGE,
];

pub const ENDPOINTS: &[Column] = &[
    Column("Endpoints", false, |value| {
        let mut all = Vec::new();
        for subset in list(value, &["subsets"]) {
            let of = |field: &str| subset.get(field).and_then(Value::as_array);
            let addresses = of("addresses").into_iter().flatten();
            let addresses: Vec<_> = addresses.map(|one| member(one, "ip")).collect();
            match of("ports") {
                None => all.extend(addresses.iter().map(|one| (*one).to_owned())),
                Some(ports) => {
                    for port in ports {
                        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
                        all.extend(addresses.iter().map(|one| match one.contains(':') {
                            true => format!("[{one}]:{number}"),
                            false => format!("{one}:{number}"),
                        }));
                    }
                }
            }
        }
        match list(value, &["subsets"]).is_empty() {
            true => "<none>".into(),
            false if all.is_empty() => "".into(),
            false => few(&all),
        }
    }),
    AGE,
];

pub const ENDPOINT_SLICES: &[Column] = &[
    Column("AddressType", false, |value| plain(value, &["addressType"])),
    Column("Ports", false, |value| {
        let ports = list(value, &["ports"]).iter().map(|port| {
            match port.get("port").and_then(Value::as_i64) {
                Some(number) => number.to_string(),
                None => port
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or("*")
                    .to_owned(),
            }
        });
        few(&ports.collect::<Vec<_>>())
    }),
    Column("Endpoints", false, |value| {
        let all = list(value, &["endpoints"]).iter();
        let all = all.filter_map(|one| one.get("addresses")?.as_array());
        let all = all.flatten().filter_map(Value::as_str).map(str::to_owned);
        few(&all.collect::<Vec<_>>())
    }),
    AGE,
];

/// The ways to use a volume, in upstream's short words.
fn modes(value: &Json, path: &[&str]) -> Value {
    let given = list(value, path);
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let short = known
        .iter()
        .filter(|(mode, _)| given.iter().any(|one| one == mode));
    let short: Vec<_> = short.map(|(_, short)| *short).collect();
    short.join(",").into()
}

fn phase(value: &Json) -> Value {
    match object::is_deleting(value) {
        true => "Terminating".into(),
        false => plain(value, &["status", "phase"]),
    }
}

/// The class of a volume or a claim; long ago it was an annotation.
fn storage_class(value: &Json) -> Value {
    let old = &[
        "metadata",
        "annotations",
        "volume.beta.kubernetes.io/storage-class",
    ];
    match object::str_at(value, old) {
        "" => plain(value, &["spec", "storageClassName"]),
        class => class.into(),
    }
}

const ATTRIBUTES: Column = Column("VolumeAttributesClass", false, |value| {
    or(value, &["spec", "volumeAttributesClassName"], "<unset>")
});
const VOLUME_MODE: Column = Column("VolumeMode", true, |value| {
    or(value, &["spec", "volumeMode"], "<unset>")
});

pub const VOLUMES: &[Column] = &[
    Column("Capacity", false, |value| {
        or(value, &["spec", "capacity", "storage"], "0")
    }),
    Column("Access Modes", false, |value| {
        modes(value, &["spec", "accessModes"])
    }),
    Column("Reclaim Policy", false, |value| {
        plain(value, &["spec", "persistentVolumeReclaimPolicy"])
    }),
    Column("Status", false, phase),
    Column("Claim", false, |value| {
        match object::at(value, &["spec", "claimRef"]) {
            None => "".into(),
            Some(claim) => {
                format!("{}/{}", member(claim, "namespace"), member(claim, "name")).into()
            }
        }
    }),
    Column("StorageClass", false, storage_class),
    ATTRIBUTES,
    Column("Reason", false, |value| plain(value, &["status", "reason"])),
    AGE,
    VOLUME_MODE,
];

fn bound(value: &Json) -> bool {
    !object::str_at(value, &["spec", "volumeName"]).is_empty()
}

pub const CLAIMS: &[Column] = &[
    Column("Status", false, phase),
    Column("Volume", false, |value| {
        plain(value, &["spec", "volumeName"])
    }),
    Column("Capacity", false, |value| match bound(value) {
        true => or(value, &["status", "capacity", "storage"], "0"),
        false => "".into(),
    }),
    Column("Access Modes", false, |value| match bound(value) {
        true => modes(value, &["status", "accessModes"]),
        false => "".into(),
    }),
    Column("StorageClass", false, storage_class),
    ATTRIBUTES,
    AGE,
    VOLUME_MODE,
];

pub const ATTACHMENTS: &[Column] = &[
    Column("Attacher", false, |value| {
        plain(value, &["spec", "attacher"])
    }),
    Column("PV", false, |value| {
        plain(value, &["spec", "source", "persistentVolumeName"])
    }),
    Column("Node", false, |value| plain(value, &["spec", "nodeName"])),
    Column("Attached", false, |value| {
        let attached = object::at(value, &["status", "attached"]);
        (attached == Some(&Value::Bool(true))).into()
    }),
    AGE,
];

pub const CSI_NODES: &[Column] = &[
    Column("Drivers", false, |value| {
        list(value, &["spec", "drivers"]).len().into()
    }),
    AGE,
];

pub const RUNTIME_CLASSES: &[Column] = &[
    Column("Handler", false, |value| plain(value, &["handler"])),
    AGE,
];

pub const ATTRIBUTES_CLASSES: &[Column] = &[
    Column("DriverName", false, |value| plain(value, &["driverName"])),
    AGE,
];

pub const WEBHOOKS: &[Column] = &[
    Column("Webhooks", false, |value| {
        list(value, &["webhooks"]).len().into()
    }),
    AGE,
];

pub const POD_TEMPLATES: &[Column] = &[
    Column("Containers", false, |value| {
        containers_of(value, &["template", "spec", "containers"], "name")
    }),
    Column("Images", false, |value| {
        containers_of(value, &["template", "spec", "containers"], "image")
    }),
    Column("Pod Labels", false, |value| {
        let labels = object::at(value, &["template", "metadata", "labels"]);
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let pairs = labels.filter_map(|(key, one)| Some(format!("{key}={}", one.as_str()?)));
        joined(pairs.collect())
    }),
];

pub const FLOW_SCHEMAS: &[Column] = &[
    Column("PriorityLevel", false, |value| {
        plain(value, &["spec", "priorityLevelConfiguration", "name"])
    }),
    Column("MatchingPrecedence", false, |value| {
        let precedence = object::at(value, &["spec", "matchingPrecedence"]);
        precedence.cloned().unwrap_or_else(|| "".into())
    }),
    Column("DistinguisherMethod", false, |value| {
        or(value, &["spec", "distinguisherMethod", "type"], "<none>")
    }),
    AGE,
    Column("MissingPL", false, |value| {
        let conditions = list(value, &["status", "conditions"]).iter();
        let mut dangling = conditions.filter(|one| member(one, "type") == "Dangling");
        dangling
            .next()
            .map_or("?", |one| member(one, "status"))
            .into()
    }),
];

pub const SERVICE_CIDRS: &[Column] = &[
    Column("CIDRs", false, |value| {
        let all = list(value, &["spec", "cidrs"])
            .iter()
            .filter_map(Value::as_str);
        all.collect::<Vec<_>>().join(",").into()
    }),
    AGE,
];

pub const ADDRESSES: &[Column] = &[
    Column("ParentRef", false, |value| {
        let Some(parent) = object::at(value, &["spec", "parentRef"]) else {
            return "<none>".into();
        };
        let mut shown = member(parent, "resource").to_ascii_lowercase();
        for (before, part) in [(".", "group"), ("/", "namespace"), ("/", "name")] {
            let part = member(parent, part);
            if !part.is_empty() {
                shown = format!("{shown}{before}{part}");
            }
        }
        shown.into()
    }),
    AGE,
];

pub const RESOURCE_SLICES: &[Column] = &[
    Column("Node", false, |value| plain(value, &["spec", "nodeName"])),
    Column("Driver", false, |value| plain(value, &["spec", "driver"])),
    Column("Pool", false, |value| {
        plain(value, &["spec", "pool", "name"])
    }),
    AGE,
];

pub const TRUST_BUNDLES: &[Column] = &[Column("SignerName", false, |value| {
    or(value, &["spec", "signerName"], "<none>")
})];
