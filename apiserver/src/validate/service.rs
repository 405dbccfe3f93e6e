//! What a service must be.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::{
    Errors,
    check::{self, At, all},
    names, network, pod,
};
use crate::{
    field::FieldError,
    object::{self, Json},
    service::{has_health_port, health_port, is_external, kind_of, node_port},
};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

fn is_headless(spec: &At<'_>) -> bool {
    let addresses = spec.items("clusterIPs");
    addresses.len() == 1 && addresses[0].as_text() == "None"
}

/// A service.
pub fn service(value: &Json, errors: &mut Errors) {
    let mut value = value.clone();
    crate::service::both_addresses(&mut value);
    let none = json!({});
    let spec = At::new(value.get("spec").unwrap_or(&none), "spec");
    let kind = kind_of(&value);
    if kind != "ExternalName" {
        // Addresses are given before anything else is looked at.
        let mut found = Errors::new();
        addresses(&spec, &mut found);
        if found.is_empty() {
            families(&spec, &mut found);
        }
        if !found.is_empty() {
            *errors = found;
            return;
        }
    }
    by_type(&spec, kind, errors);
    let mut names = BTreeSet::new();
    let ports = spec.items("ports");
    for one in &ports {
        port(one, ports.len() > 1, &mut names, errors);
    }
    super::meta::labels(spec.value.get("selector"), "spec.selector", errors);
    affinity(&spec, errors);
    for one in spec.items("externalIPs") {
        let before = errors.len();
        check::address(&one.path, one.as_text(), errors);
        if errors.len() == before {
            network::endpoint_address(&one.path, one.as_text(), errors);
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    spec.one_of("type", &kinds, errors);
    numbers(&ports, kind, errors);
    balancer(&value, &spec, kind, errors);
    outside(&value, &spec, errors);
    spec.one_of("internalTrafficPolicy", &["Cluster", "Local"], errors);
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.one_of("trafficDistribution", &known, errors);
}

/// What only some types may say.
fn by_type(spec: &At<'_>, kind: &str, errors: &mut Errors) {
    if spec.items("ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if matches!(kind, "LoadBalancer" | "NodePort") && is_headless(spec) {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &"None".into(),
            &why,
        ));
    }
    if kind != "ExternalName" {
        return;
    }
    let why = "may not be set for ExternalName services";
    for list in ["clusterIPs", "ipFamilies"] {
        if !spec.items(list).is_empty() {
            errors.push(FieldError::forbidden(spec.child(list), why));
        }
    }
    if spec.get("ipFamilyPolicy").is_some() {
        errors.push(FieldError::forbidden(spec.child("ipFamilyPolicy"), why));
    }
    let given = spec.text("externalName");
    let name = given.strip_suffix('.').unwrap_or(given);
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else {
        all("spec.externalName", name, names::subdomain(name), errors);
    }
}

fn port<'a>(at: &At<'a>, named: bool, seen: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    let name = at.text("name");
    if name.is_empty() {
        if named {
            errors.push(FieldError::required(at.child("name"), ""));
        }
    } else {
        at.named("name", names::LABEL_RULE, errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at.child("name"), &name.into()));
        }
    }
    pod::port(at.number("port").unwrap_or(0), at.child("port"), errors);
    at.word("protocol", &PROTOCOLS, errors);
    at.port("targetPort", errors);
    if at.get("appProtocol").is_some() {
        at.named("appProtocol", names::qualified, errors);
    }
}

fn affinity(spec: &At<'_>, errors: &mut Errors) {
    spec.word("sessionAffinity", &["ClientIP", "None"], errors);
    if spec.text("sessionAffinity") != "ClientIP" {
        return;
    }
    let seconds = spec.get("sessionAffinityConfig");
    let seconds = seconds.and_then(|config| config.get("clientIP"));
    if let Some(client) = seconds {
        let why = "must be greater than 0 and less than 86400";
        client.within("timeoutSeconds", 1, 86_400, why, errors);
    }
}

/// The addresses that it names.
fn addresses(spec: &At<'_>, errors: &mut Errors) {
    let path = spec.child("clusterIPs");
    let given = spec.items("clusterIPs");
    let shown = spec.value.get("clusterIPs").unwrap_or(&Value::Null);
    let first = spec.text("clusterIP");
    if first.is_empty() {
        if !given.is_empty() {
            let why = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&path, shown, why));
        }
    } else if given.first().is_some_and(|one| one.as_text() != first) {
        let why = "first value must match `clusterIP`";
        errors.push(FieldError::invalid(&path, shown, why));
    }
    let mut seen = BTreeSet::new();
    for family in spec.items("ipFamilies") {
        let text = family.as_text();
        if !FAMILIES.contains(&text) {
            errors.push(FieldError::unsupported(&family.path, text, &FAMILIES));
        }
        if !seen.insert(text) {
            errors.push(FieldError::duplicate(&family.path, family.value));
        }
    }
    spec.one_of("ipFamilyPolicy", &POLICIES, errors);
    let mut broken = false;
    for (index, one) in given.iter().enumerate() {
        if index == 0 && one.as_text() == "None" {
            if given.len() > 1 {
                broken = true;
                let why = "'None' must be the first and only value";
                errors.push(FieldError::invalid(&path, shown, why));
            }
            continue;
        }
        let before = errors.len();
        check::address(&one.path, one.as_text(), errors);
        broken |= errors.len() > before;
    }
    if given.len() > 2 {
        let why = "may only hold up to 2 values";
        errors.push(FieldError::invalid(&path, shown, why));
    }
    if broken {
        return;
    }
    let is_six = |one: &At<'_>| {
        one.as_text()
            .parse::<IpAddr>()
            .is_ok_and(|one| one.is_ipv6())
    };
    let six = given.iter().filter(|one| is_six(one)).count();
    if given.len() > 1 && (six == 0 || six == given.len()) {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&path, shown, why));
    }
    if is_headless(spec) {
        return;
    }
    for (index, (one, family)) in given.iter().zip(spec.items("ipFamilies")).enumerate() {
        let wanted = family.as_text();
        if FAMILIES.contains(&wanted) && is_six(one) != (wanted == "IPv6") {
            let why = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&one.path, one.value, &why));
        }
    }
}

/// Whether the cluster, whose addresses are of one family, has what it asks for.
fn families(spec: &At<'_>, errors: &mut Errors) {
    let headless = spec.text("clusterIP") == "None";
    let unselecting = spec.entries("selector").next().is_none();
    let policy = match spec.text("ipFamilyPolicy") {
        "" if headless && unselecting => "RequireDualStack",
        "" => "SingleStack",
        policy => policy,
    };
    let path = spec.child("ipFamilyPolicy");
    let given = spec.items("ipFamilies");
    let addresses = spec.items("clusterIPs");
    if policy == "SingleStack" {
        for (list, of) in [(&addresses, "cluster IPs"), (&given, "IP families")] {
            if list.len() == 2 {
                let why = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {of} are specified"
                );
                errors.push(FieldError::invalid(&path, &policy.into(), &why));
            }
        }
    }
    for one in addresses.iter().skip(given.len()) {
        if one
            .as_text()
            .parse::<IpAddr>()
            .is_ok_and(|one| one.is_ipv6())
        {
            let shown = spec.value.get("clusterIPs").unwrap_or(&Value::Null);
            let why = "IPv6 is not configured on this cluster";
            errors.push(FieldError::invalid(&one.path, shown, why));
        }
    }
    if !errors.is_empty() || headless && unselecting {
        return;
    }
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&path, &policy.into(), why));
    }
    for family in given.iter().filter(|family| family.as_text() == "IPv6") {
        let why = "not configured on this cluster";
        errors.push(FieldError::invalid(&family.path, family.value, why));
    }
}

/// Numbers of ports: of its own and of nodes.
fn numbers(ports: &[At<'_>], kind: &str, errors: &mut Errors) {
    if kind == "ClusterIP" {
        for port in ports.iter().filter(|port| node_port(port.value).is_some()) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(port.child("nodePort"), why));
        }
    }
    let mut seen = BTreeSet::new();
    for port in ports {
        let Some(number) = node_port(port.value) else {
            continue;
        };
        if !seen.insert((port.text("protocol"), number)) {
            errors.push(FieldError::duplicate(
                port.child("nodePort"),
                &number.into(),
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for port in ports {
        let (protocol, number) = (port.text("protocol"), port.number("port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            // As Go shows it.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}",
                Value::from(protocol)
            );
            errors.push(FieldError::duplicate_shown(&port.path, &shown));
        }
    }
}

/// Where a list of ranges may also stand.
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// What is for those who balance its load.
fn balancer(value: &Json, spec: &At<'_>, kind: &str, errors: &mut Errors) {
    let why = "may only be used when `type` is 'LoadBalancer'";
    let balanced = kind == "LoadBalancer";
    let ranges = spec.items("loadBalancerSourceRanges");
    let path = spec.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() {
        if !balanced {
            errors.push(FieldError::forbidden(&path, why));
        }
        for (index, range) in ranges.iter().enumerate() {
            let path = format!("{path}[{index}]");
            network::legacy_range(&path, range.as_text().trim(), errors);
        }
    } else if let Some(text) = object::at(value, &["metadata", "annotations", RANGES]) {
        let path = format!("metadata.annotations[{RANGES}]");
        if !balanced {
            errors.push(FieldError::forbidden(&path, why));
        }
        let text = text.as_str().unwrap_or("").trim();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            network::legacy_range(&path, range.trim(), errors);
        }
    }
    let field = "allocateLoadBalancerNodePorts";
    if !balanced && spec.get(field).is_some() {
        errors.push(FieldError::forbidden(spec.child(field), why));
    }
    let field = "loadBalancerClass";
    match (spec.get(field), balanced) {
        (Some(_), true) => spec.named(field, names::qualified, errors),
        (Some(_), false) => errors.push(FieldError::forbidden(spec.child(field), why)),
        (None, _) => {}
    }
}

/// How those outside reach it.
fn outside(value: &Json, spec: &At<'_>, errors: &mut Errors) {
    let field = "externalTrafficPolicy";
    let given = spec.text(field);
    if is_external(value) {
        spec.word(field, &["Cluster", "Local"], errors);
    } else if !given.is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(spec.child(field), &given.into(), why));
    }
    let Some(port) = health_port(value) else {
        return;
    };
    let path = spec.child("healthCheckNodePort");
    if has_health_port(value) {
        pod::port(port, path, errors);
    } else {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(path, &port.into(), why));
    }
}

/// What of a service stays while its type does.
pub fn kept(value: &Json, current: &Json, errors: &mut Errors) {
    let (was, is) = (kind_of(current), kind_of(value));
    let mut found = Errors::new();
    let balanced = was == "LoadBalancer" && is == "LoadBalancer";
    let class = |value: &Json| object::at(value, &["spec", "loadBalancerClass"]).cloned();
    if balanced && class(value) != class(current) {
        let shown = class(value).unwrap_or(Value::Null);
        let why = "may not change once set";
        found.push(FieldError::invalid("spec.loadBalancerClass", &shown, why));
    }
    let asked = has_health_port(value) && has_health_port(current);
    if asked && health_port(value) != health_port(current) {
        let path = "spec.healthCheckNodePort";
        found.push(FieldError::forbidden(path, "field is immutable"));
    }
    super::before(errors, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(spec: Value) -> Vec<String> {
        let mut value = Json::new();
        value.insert("spec".to_owned(), spec);
        let mut errors = Errors::new();
        service(&value, &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn addresses_come_first_and_alone() {
        let spec = json!({"type": "ClusterIP", "clusterIP": "x", "sessionAffinity": "Odd"});
        assert_eq!(wrong(spec), ["spec.clusterIPs[0]"]);
        let spec = json!({"type": "ClusterIP", "clusterIPs": [""]});
        assert_eq!(wrong(spec), ["spec.clusterIPs", "spec.clusterIPs[0]"]);
        let spec = json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"});
        assert_eq!(wrong(spec), ["spec.ipFamilyPolicy"]);
    }

    #[test]
    fn what_is_for_others_is_refused() {
        let port = json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]);
        let spec = json!({"type": "ClusterIP", "sessionAffinity": "None", "ports": port,
            "loadBalancerClass": "a/b", "allocateLoadBalancerNodePorts": true,
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_000});
        let expected = [
            "spec.allocateLoadBalancerNodePorts",
            "spec.loadBalancerClass",
            "spec.externalTrafficPolicy",
            "spec.healthCheckNodePort",
        ];
        assert_eq!(wrong(spec), expected);
    }
}
