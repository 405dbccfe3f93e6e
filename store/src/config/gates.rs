//! etcd's feature gates: which exist in 3.7.3, and which of them mean
//! something here.

use std::collections::BTreeMap;

use super::support::Support;

/// One feature gate.
#[derive(Debug)]
pub struct Gate {
    pub name: &'static str,
    pub default: bool,
    /// Alpha gates follow `AllAlpha`, the others `AllBeta`.
    pub alpha: bool,
    /// What happens when the gate is not at its default.
    pub support: Support,
}

const fn gate(name: &'static str, default: bool, alpha: bool, support: Support) -> Gate {
    Gate {
        name,
        default,
        alpha,
        support,
    }
}

pub const GATES: &[Gate] = &[
    gate(
        "CompactHashCheck",
        false,
        true,
        Support::Refused("members do not compare hashes after compactions yet"),
    ),
    gate(
        "FastLeaseKeepAlive",
        true,
        false,
        Support::Accepted("how a keepalive waits is decided by the lease module alone"),
    ),
    gate(
        "InitialCorruptCheck",
        false,
        true,
        Support::Used(
            "a starting member compares its data with its peers, and stops if it differs",
        ),
    ),
    gate(
        "LeaseCheckpoint",
        false,
        true,
        Support::Accepted("remaining TTLs of leases are always replicated and stored"),
    ),
    gate(
        "LeaseCheckpointPersist",
        false,
        true,
        Support::Accepted("remaining TTLs of leases are always replicated and stored"),
    ),
    gate(
        "PriorityRequest",
        false,
        true,
        Support::Refused("requests are not prioritised yet"),
    ),
    gate(
        "SetMemberLocalAddr",
        false,
        true,
        Support::Refused("the local address of connections to peers cannot be set yet"),
    ),
    gate(
        "StopGRPCServiceOnDefrag",
        false,
        true,
        Support::Accepted("defragmentation never stops the service"),
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        true,
        false,
        Support::Accepted("it tunes etcd's read buffer, which does not exist here"),
    ),
];

/// Reads `Name=true,Name=false` into the state of every gate. The groups
/// `AllAlpha` and `AllBeta` set the gates that are not named themselves.
pub(super) fn parse(text: &str) -> Result<BTreeMap<&'static str, bool>, String> {
    let mut named = BTreeMap::new();
    let mut groups = [None, None];
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (name, value) = item
            .split_once('=')
            .ok_or_else(|| format!("missing bool value for {item}"))?;
        let (name, value) = (name.trim(), value.trim());
        let on = parse_bool(value).ok_or_else(|| format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"))?;
        match name {
            "AllAlpha" => groups[1] = Some(on),
            "AllBeta" => groups[0] = Some(on),
            _ => {
                let gate = GATES
                    .iter()
                    .find(|gate| gate.name == name)
                    .ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
                named.insert(gate.name, on);
            }
        }
    }
    let state = |gate: &Gate| {
        named
            .get(gate.name)
            .copied()
            .or(groups[usize::from(gate.alpha)])
            .unwrap_or(gate.default)
    };
    Ok(GATES.iter().map(|gate| (gate.name, state(gate))).collect())
}

/// As Go reads one.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
