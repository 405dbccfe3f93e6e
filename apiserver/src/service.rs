//! What the specification of a service says: its type, its ports, its address;
//! and what an update that leaves something out means by that.
//!
//! Source: upstream's `pkg/registry/core/service`. Knows no store.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::object::{self, Json};

/// What a service has of its cluster's addresses.
const ADDRESSES: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];

pub fn kind_of(service: &Json) -> &str {
    match object::str_at(service, &["spec", "type"]) {
        "" => "ClusterIP",
        kind => kind,
    }
}

/// Whether nodes open ports for it.
pub fn has_ports(service: &Json) -> bool {
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => object::at(service, &["spec", "allocateLoadBalancerNodePorts"])
            .is_none_or(|allocate| allocate != false),
        _ => false,
    }
}

/// Whether who balances its load asks nodes for its health, at a port of its own.
pub fn has_health_port(service: &Json) -> bool {
    kind_of(service) == "LoadBalancer"
        && object::str_at(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

pub fn health_port(service: &Json) -> Option<i64> {
    let number = object::at(service, &["spec", "healthCheckNodePort"]).and_then(Value::as_i64);
    number.filter(|number| *number != 0)
}

/// Whether it can be reached from outside.
pub fn is_external(service: &Json) -> bool {
    match kind_of(service) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => object::at(service, &["spec", "externalIPs"])
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty()),
        _ => false,
    }
}

pub fn ports(service: &Json) -> &[Value] {
    object::at(service, &["spec", "ports"])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub fn node_port(port: &Value) -> Option<i64> {
    let number = port.get("nodePort").and_then(Value::as_i64);
    number.filter(|number| *number != 0)
}

/// The address that a service names, empty when it names none.
pub fn named_address(service: &Json) -> &str {
    match object::str_at(service, &["spec", "clusterIP"]) {
        "" => object::at(service, &["spec", "clusterIPs"])
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
            .unwrap_or(""),
        address => address,
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

/// A field of the specification; nothing where it says nothing.
fn said<'a>(service: &'a Json, field: &str) -> Option<&'a Value> {
    object::at(service, &["spec", field]).filter(|value| !is_empty(Some(value)))
}

fn same(one: &Json, other: &Json, field: &str) -> bool {
    said(one, field) == said(other, field)
}

/// One address is both fields' first.
pub fn both_addresses(new: &mut Json) {
    let Some(address) = said(new, "clusterIP").cloned() else {
        return;
    };
    if said(new, "clusterIPs").is_none() {
        new["spec"]["clusterIPs"] = json!([address]);
    }
}

/// What an update leaves out stays as it is, and what the new type does not
/// have goes, unless the client insists.
pub fn carry(new: &mut Json, old: &Json) {
    if !new.get("spec").is_some_and(Value::is_object) {
        return;
    }
    keep(new, old);
    both_in_step(new, old);
    drop_of_other_type(new, old);
}

fn keep(new: &mut Json, old: &Json) {
    let addressed = |service: &Json| kind_of(service) != "ExternalName";
    if addressed(old) && addressed(new) {
        for field in ADDRESSES {
            if let (None, Some(value)) = (said(new, field), said(old, field)) {
                new["spec"][field] = value.clone();
            }
        }
    }
    if has_ports(old) && has_ports(new) {
        let given: BTreeSet<i64> = ports(new).iter().filter_map(node_port).collect();
        let before: BTreeSet<i64> = ports(old).iter().filter_map(node_port).collect();
        let name = |port: &Value| port["name"].as_str().unwrap_or("").to_owned();
        let by_name: BTreeMap<String, i64> = ports(old)
            .iter()
            .filter_map(|port| Some((name(port), node_port(port)?)))
            .collect();
        let list = new["spec"].get_mut("ports").and_then(Value::as_array_mut);
        for port in list.into_iter().flatten() {
            let known = by_name.get(&name(port)).copied();
            // One that another port says is that port's.
            let known = known.filter(|known| !(given.contains(known) && before.contains(known)));
            if let (None, Some(known)) = (node_port(port), known) {
                port["nodePort"] = known.into();
            }
        }
    }
    if has_health_port(old)
        && has_health_port(new)
        && let (None, Some(port)) = (health_port(new), health_port(old))
    {
        new["spec"]["healthCheckNodePort"] = port.into();
    }
}

/// A client that knows one field of addresses changes both.
fn both_in_step(new: &mut Json, old: &Json) {
    let (before, after) = (said(old, "clusterIP"), said(new, "clusterIP"));
    if before == after || !same(new, old, "clusterIPs") {
        return;
    }
    new["spec"]["clusterIPs"] = match after {
        Some(address) => json!([address]),
        None => Value::Null,
    };
}

fn drop_of_other_type(new: &mut Json, old: &Json) {
    let (was, is) = (kind_of(old).to_owned(), kind_of(new).to_owned());
    let mut gone: Vec<&str> = Vec::new();
    if was != "ExternalName" && is == "ExternalName" {
        if same(new, old, "clusterIP") && same(new, old, "clusterIPs") {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        let others = ["ipFamilies", "ipFamilyPolicy"].into_iter();
        gone.extend(others.filter(|field| same(new, old, field)));
        gone.push("internalTrafficPolicy");
    }
    if has_health_port(old) && !has_health_port(new) && health_port(new) == health_port(old) {
        gone.push("healthCheckNodePort");
    }
    if was == "LoadBalancer" && is != "LoadBalancer" {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"].into_iter();
        gone.extend(fields.filter(|field| same(new, old, field)));
    }
    if is_external(old) && !is_external(new) && same(new, old, "externalTrafficPolicy") {
        gone.push("externalTrafficPolicy");
    }
    let opens = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let before: BTreeSet<i64> = ports(old).iter().filter_map(node_port).collect();
    let added = ports(new).iter().filter_map(node_port);
    let closes = opens(&was) && !opens(&is) && added.into_iter().all(|one| before.contains(&one));
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in gone {
        spec.remove(field);
    }
    if closes {
        let list = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    let status = new.get_mut("status").and_then(Value::as_object_mut);
    if let Some(status) = status.filter(|_| is != "LoadBalancer") {
        status.insert("loadBalancer".to_owned(), json!({}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(value: Value) -> Json {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn what_an_update_leaves_out_stays() {
        let old = service(
            json!({"spec": {"type": "NodePort", "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"],
            "ports": [{"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30_080}]}}),
        );
        let mut new = service(json!({"spec": {"type": "NodePort", "clusterIP": "",
            "ports": [{"name": "b", "port": 80, "protocol": "TCP"}, {"name": "a", "port": 81, "protocol": "TCP"}]}}));
        carry(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.96.1.1");
        let found: Vec<_> = ports(&new).iter().map(node_port).collect();
        assert_eq!(found, [None, Some(30_080)]);
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        carry(&mut new, &old);
        assert_eq!(node_port(&ports(&new)[0]), None);
        let mut new = old.clone();
        new["spec"]["type"] = "ExternalName".into();
        carry(&mut new, &old);
        assert_eq!(named_address(&new), "");
    }

    #[test]
    fn who_names_another_address_means_both_fields() {
        let old = service(json!({"spec": {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"]}}));
        let mut new = old.clone();
        new["spec"]["clusterIP"] = "10.96.1.2".into();
        carry(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.1.2"]));
    }
}
