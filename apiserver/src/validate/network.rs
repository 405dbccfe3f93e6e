//! What network policies, ingresses, addresses and endpoints must be.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use super::{
    Errors,
    check::{self, At, all, label_selector},
    names, pod,
};
use crate::{field::FieldError, object::Json};

fn spec(value: &Json) -> At<'_> {
    At::new(value.get("spec").unwrap_or(&Value::Null), "spec")
}

/// A network policy.
pub fn policy(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let mut declared = Errors::new();
    if let Some(selector) = spec.get("podSelector") {
        label_selector(&selector, errors);
    }
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.items(rules) {
            for port in rule.items("ports") {
                policy_port(&port, errors);
            }
            for peer in rule.items(peers) {
                self::peer(&peer, errors, &mut declared);
            }
        }
    }
    let kinds = spec.items("policyTypes");
    if kinds.len() > 2 {
        let shown = spec.value.get("policyTypes").unwrap_or(&Value::Null);
        let why = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(spec.child("policyTypes"), shown, why));
    } else {
        for kind in kinds {
            let known = ["Ingress", "Egress"];
            if !known.contains(&kind.as_text()) {
                errors.push(FieldError::unsupported(
                    kind.path.clone(),
                    kind.as_text(),
                    &known,
                ));
            }
        }
    }
    errors.extend(declared);
}

fn policy_port(at: &At<'_>, errors: &mut Errors) {
    at.one_of("protocol", &["TCP", "UDP", "SCTP"], errors);
    let end = at.number("endPort");
    let mut wrong_end = |end: i64, why: &str| {
        errors.push(FieldError::invalid(at.child("endPort"), &end.into(), why));
    };
    match (at.value.get("port"), end) {
        (Some(Value::Number(first)), end) => {
            let first = first.as_i64().unwrap_or(0);
            pod::port(first, at.child("port"), errors);
            if let Some(end) = end {
                if end < first {
                    let why = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(at.child("endPort"), &end.into(), why));
                }
                pod::port(end, at.child("endPort"), errors);
            }
        }
        (Some(Value::String(name)), end) => {
            if let Some(end) = end {
                wrong_end(end, "may not be specified when `port` is non-numeric");
            }
            all(&at.child("port"), name, check::port_name(name), errors);
        }
        (_, Some(end)) => wrong_end(end, "may not be specified when `port` is not specified"),
        _ => {}
    }
}

fn peer(at: &At<'_>, errors: &mut Errors, declared: &mut Errors) {
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = at.get(field) {
            peers += 1;
            label_selector(&selector, errors);
        }
    }
    let block = at.get("ipBlock");
    if let Some(block) = &block {
        ip_block(block, errors, declared);
    }
    if peers == 0 && block.is_none() {
        errors.push(FieldError::required(&at.path, "must specify a peer"));
    } else if peers > 0 && block.is_some() {
        let why = "may not specify both ipBlock and another peer";
        errors.push(FieldError::forbidden(&at.path, why));
    }
}

/// An address and the length of its prefix.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u32 = length.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (length <= most).then_some((address, length))
}

const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A range of addresses, in any form.
pub fn legacy_range(path: &str, text: &str, errors: &mut Errors) {
    valid_range(path, text, errors);
}

fn valid_range(path: &str, text: &str, errors: &mut Errors) -> Option<(IpAddr, u32)> {
    let range = range(text);
    if range.is_none() {
        errors.push(FieldError::invalid(path, &text.into(), RANGE));
    }
    range
}

fn ip_block(at: &At<'_>, errors: &mut Errors, declared: &mut Errors) {
    let text = at.text("cidr");
    if text.is_empty() {
        declared.push(FieldError::required(at.child("cidr"), ""));
        return;
    }
    let Some(outer) = valid_range(&at.child("cidr"), text, errors) else {
        return;
    };
    for except in at.items("except") {
        let Some(inner) = valid_range(&except.path, except.as_text(), errors) else {
            continue;
        };
        if !contains(outer, inner.0) || outer.1 >= inner.1 {
            let why = "must be a strict subset of `cidr`";
            errors.push(FieldError::invalid(&except.path, except.value, why));
        }
    }
}

fn contains((network, length): (IpAddr, u32), address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 4),
        IpAddr::V6(address) => (u128::from(address), 6),
    };
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    let ((one, family), (other, other_family)) = (bits(network), bits(address));
    let mask = if family == 4 {
        u128::MAX.checked_shl(128 - length.min(32)).unwrap_or(0)
    } else {
        mask
    };
    family == other_family && one & mask == other & mask
}

/// An ingress.
pub fn ingress(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let rules = spec.items("rules");
    let backend = spec.get("defaultBackend");
    if rules.is_empty() && backend.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid("spec", &Value::Null, why));
    }
    if let Some(backend) = backend {
        self::backend(&backend, errors);
    }
    for rule in rules {
        host(&rule.child("host"), rule.text("host"), true, errors);
        let Some(http) = rule.get("http") else {
            continue;
        };
        let paths = http.items("paths");
        if paths.is_empty() {
            errors.push(FieldError::required(http.child("paths"), ""));
        }
        for path in paths {
            self::path(&path, errors);
        }
    }
    for tls in spec.items("tls") {
        for one in tls.items("hosts") {
            host(&one.path, one.as_text(), false, errors);
        }
        if !tls.text("secretName").is_empty() {
            tls.named("secretName", names::SUBDOMAIN_RULE, errors);
        }
    }
    if spec.get("ingressClassName").is_some() {
        spec.named("ingressClassName", names::SUBDOMAIN_RULE, errors);
    }
}

/// A name of a host, perhaps with `*` for its first part.
fn host(path: &str, text: &str, optional: bool, errors: &mut Errors) {
    if optional && text.is_empty() {
        return;
    }
    if optional && text.parse::<IpAddr>().is_ok() {
        let why = "must be a DNS name, not an IP address";
        errors.push(FieldError::invalid(path, &text.into(), why));
    }
    if !text.contains('*') {
        return all(path, text, names::subdomain(text), errors);
    }
    let good = text.strip_prefix("*.").is_some_and(names::is_subdomain);
    if !good {
        errors.push(FieldError::invalid(path, &text.into(), WILDCARD));
    }
}

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

fn path(at: &At<'_>, errors: &mut Errors) {
    if at.get("pathType").is_none() {
        let why = "pathType must be specified";
        errors.push(FieldError::required(at.child("pathType"), why));
        return;
    }
    let text = at.text("path");
    let mut wrong = |why: &str| {
        errors.push(FieldError::invalid(at.child("path"), &text.into(), why));
    };
    match at.text("pathType") {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                wrong("must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(part) {
                    wrong(&format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if text.ends_with(end) {
                    wrong(&format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                wrong("must be an absolute path");
            }
        }
        other => {
            let path = at.child("pathType");
            errors.push(FieldError::unsupported(path, other, &PATH_TYPES));
        }
    }
    let none = Value::Null;
    let backend = at.value.get("backend").unwrap_or(&none);
    self::backend(&At::new(backend, at.child("backend")), errors);
}

fn backend(at: &At<'_>, errors: &mut Errors) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid(&at.path, &"".into(), why));
    match (at.get("service"), at.get("resource")) {
        (None, None) => wrong("resource or service backend is required"),
        (Some(_), Some(_)) => wrong("cannot set both resource and service backends"),
        (Some(service), None) => {
            if service.text("name").is_empty() {
                errors.push(FieldError::required(service.child("name"), ""));
            } else {
                service.named("name", names::LABEL_RULE, errors);
            }
            service_port(&service, at, errors);
        }
        (None, Some(resource)) => reference(&resource, errors),
    }
}

/// A port of a service, by name or by number.
fn service_port(service: &At<'_>, backend: &At<'_>, errors: &mut Errors) {
    let none = Value::Null;
    let port = service.value.get("port").unwrap_or(&none);
    let port = At::new(port, service.child("port"));
    let name = port.text("name");
    match (name.is_empty(), port.number("number").unwrap_or(0)) {
        (true, 0) => {
            let why = "port name or number is required";
            errors.push(FieldError::required(&backend.path, why));
        }
        (false, 0) => port.named("name", check::port_name, errors),
        (true, number) => pod::port(number, port.child("number"), errors),
        (false, _) => {
            let why = "cannot set both port name & port number";
            errors.push(FieldError::invalid(&backend.path, &"".into(), why));
        }
    }
}

/// A reference to an object of the same namespace.
fn reference(at: &At<'_>, errors: &mut Errors) {
    if at.get("apiGroup").is_some() {
        at.named("apiGroup", names::SUBDOMAIN_RULE, errors);
    }
    for field in ["kind", "name"] {
        at.required(field, errors);
        at.named(field, names::PATH_SEGMENT_RULE, errors);
    }
}

/// A class of ingresses.
pub fn ingress_class(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let controller = spec.text("controller");
    if controller.len() > 250 {
        errors.push(FieldError::too_long(spec.child("controller"), 250));
    }
    prefixed_path(&spec.child("controller"), controller, errors);
    let Some(parameters) = spec.get("parameters") else {
        return;
    };
    let mut declared = Errors::new();
    if parameters.get("apiGroup").is_some() {
        parameters.named("apiGroup", names::SUBDOMAIN_RULE, errors);
    }
    for field in ["kind", "name"] {
        parameters.required(field, &mut declared);
        parameters.named(field, names::PATH_SEGMENT_RULE, errors);
    }
    parameters.one_of("scope", &["Cluster", "Namespace"], errors);
    match (parameters.text("scope"), parameters.get("namespace")) {
        ("Namespace", None) => {
            let why = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(parameters.child("namespace"), why));
        }
        ("Namespace", Some(_)) => parameters.named("namespace", names::LABEL_RULE, errors),
        ("Cluster", Some(_)) => {
            let why = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(parameters.child("namespace"), why));
        }
        _ => {}
    }
    errors.extend(declared);
}

/// A path that begins with a domain.
pub fn prefixed_path(path: &str, text: &str, errors: &mut Errors) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path, &text.into(), why));
    let Some((domain, rest)) = text.split_once('/') else {
        if text.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else {
            wrong("must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
        return;
    };
    if domain.is_empty() || rest.is_empty() {
        return wrong("must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    for why in names::subdomain(domain) {
        wrong(&why);
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte);
    if !rest.bytes().all(letter) {
        wrong("Invalid path");
    }
}

/// What is wrong with the name of an address: it is the address.
pub fn address_name(name: &str) -> Vec<String> {
    let good = name.parse::<IpAddr>().is_ok();
    (!good).then(|| ADDRESS.to_owned()).into_iter().collect()
}

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address that something holds.
pub fn ip_address(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let Some(parent) = spec.get("parentRef") else {
        errors.push(FieldError::required(spec.child("parentRef"), ""));
        return;
    };
    let mut declared = Errors::new();
    if !parent.text("group").is_empty() {
        parent.named("group", names::SUBDOMAIN_RULE, errors);
    }
    for field in ["resource", "name"] {
        parent.required(field, &mut declared);
        parent.named(field, names::PATH_SEGMENT_RULE, errors);
    }
    parent.named("namespace", names::PATH_SEGMENT_RULE, errors);
    errors.extend(declared);
}

/// A range of cluster addresses.
pub fn service_ranges(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let ranges = spec.items("cidrs");
    let path = spec.child("cidrs");
    match ranges.len() {
        0 => errors.push(FieldError::required(path, "at least one CIDR required")),
        1 | 2 => {
            let found: Vec<_> = ranges
                .iter()
                .map(|one| strict_range(&one.path, one.as_text(), errors))
                .collect();
            if let [Some(one), Some(other)] = found[..]
                && one.is_ipv4() == other.is_ipv4()
            {
                let shown = spec.value.get("cidrs").unwrap_or(&Value::Null);
                let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.push(FieldError::invalid(path, shown, why));
            }
        }
        _ => {
            let why = "may only hold up to 2 values";
            errors.push(FieldError::invalid(path, spec.value, why));
        }
    }
}

/// A range in canonical form.
fn strict_range(path: &str, text: &str, errors: &mut Errors) -> Option<IpAddr> {
    let (address, length) = valid_range(path, text, errors)?;
    let mask =
        |bits: u128, width: u32| bits >> (width - length).min(127) << (width - length).min(127);
    let first: IpAddr = match address {
        IpAddr::V4(one) => {
            let bits = u128::from(u32::from(one));
            std::net::Ipv4Addr::from(u32::try_from(mask(bits, 32)).unwrap_or(0)).into()
        }
        IpAddr::V6(one) if length > 0 => std::net::Ipv6Addr::from(mask(one.into(), 128)).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let canonical = format!("{first}/{length}");
    if first != address {
        let why = "must not have bits set beyond the prefix length";
        errors.push(FieldError::invalid(path, &text.into(), why));
    } else if canonical != text {
        let why = format!("must be in canonical form ({canonical:?})");
        errors.push(FieldError::invalid(path, &text.into(), &why));
    }
    Some(address)
}

/// What of a range of cluster addresses an update may change: one of the other
/// family may be added.
pub fn service_ranges_kept(value: &Json, current: &Json, errors: &mut Errors) {
    // Nothing else is looked at.
    errors.retain(|error| error.field.starts_with("metadata"));
    let (new, old) = (spec(value), spec(current));
    let (ranges, before) = (new.items("cidrs"), old.items("cidrs"));
    let why = "field is immutable";
    let added = before.len() == 1 && ranges.len() == 2;
    if ranges.len() == before.len() || added {
        let pairs = ranges.iter().zip(&before);
        for (one, _) in pairs.filter(|(one, old)| one.value != old.value) {
            errors.push(FieldError::invalid(&one.path, one.value, why));
        }
    } else {
        let shown = new.value.get("cidrs").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid(new.child("cidrs"), shown, why));
    }
}

/// An address of an endpoint: no node's own and no group's.
pub fn endpoint_address(path: &str, text: &str, errors: &mut Errors) {
    let Ok(address) = text.parse::<IpAddr>() else {
        let why = "must be a valid IP address";
        errors.push(FieldError::invalid(path, &text.into(), why));
        return;
    };
    let (link_local, link_multicast) = match address {
        IpAddr::V4(one) => (one.is_link_local(), one.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(one) => (
            one.segments()[0] & 0xffc0 == 0xfe80,
            one.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    for (wrong, why) in [
        (
            address.is_unspecified(),
            format!("may not be unspecified ({text})"),
        ),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            link_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ] {
        if wrong {
            errors.push(FieldError::invalid(path, &text.into(), &why));
        }
    }
}

/// Endpoints of a service.
pub fn endpoints(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    for subset in At::new(&whole, "").items("subsets") {
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| subset.items(list).is_empty()) {
            let why = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(&subset.path, why));
        }
        for one in lists.iter().flat_map(|list| subset.items(list)) {
            let text = one.text("ip");
            check::address(&one.child("ip"), text, errors);
            if !one.text("hostname").is_empty() {
                one.named("hostname", names::LABEL_RULE, errors);
            }
            if one.get("nodeName").is_some() {
                one.named("nodeName", names::SUBDOMAIN_RULE, errors);
            }
            endpoint_address(&one.child("ip"), text, errors);
        }
        let ports = subset.items("ports");
        for port in &ports {
            if ports.len() > 1 && port.text("name").is_empty() {
                errors.push(FieldError::required(port.child("name"), ""));
            } else if !port.text("name").is_empty() {
                port.named("name", names::LABEL_RULE, errors);
            }
            pod::port(port.number("port").unwrap_or(0), port.child("port"), errors);
            port.word("protocol", &["SCTP", "TCP", "UDP"], errors);
            if port.get("appProtocol").is_some() {
                port.named("appProtocol", names::qualified, errors);
            }
        }
    }
}

/// A slice of the endpoints of a service.
pub fn endpoint_slice(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let slice = At::new(&whole, "");
    let mut declared = Errors::new();
    slice.word("addressType", &["FQDN", "IPv4", "IPv6"], &mut declared);
    let ports = slice.items("ports");
    if ports.len() > 20_000 {
        errors.push(FieldError::too_many("ports", ports.len(), 20_000));
    } else {
        slice_ports(&ports, errors);
    }
    let endpoints = slice.items("endpoints");
    if endpoints.len() > 1_000 {
        errors.push(FieldError::too_many("endpoints", endpoints.len(), 1_000));
    } else {
        for one in endpoints {
            endpoint(&one, slice.text("addressType"), errors, &mut declared);
        }
    }
    errors.extend(declared);
}

fn slice_ports(ports: &[At<'_>], errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in ports {
        let name = port.text("name");
        if !name.is_empty() {
            port.named("name", names::LABEL_RULE, errors);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(port.child("name"), &name.into()));
        }
        if port.get("protocol").is_none() {
            errors.push(FieldError::required(port.child("protocol"), ""));
        }
        port.one_of("protocol", &["SCTP", "TCP", "UDP"], errors);
        if port.get("appProtocol").is_some() {
            port.named("appProtocol", names::qualified, errors);
        }
    }
}

fn endpoint(at: &At<'_>, kind: &str, errors: &mut Errors, declared: &mut Errors) {
    let addresses = at.items("addresses");
    let path = at.child("addresses");
    if addresses.is_empty() {
        declared.push(FieldError::required(&path, ""));
    } else if addresses.len() > 100 {
        declared.push(FieldError::too_many(&path, addresses.len(), 100));
    }
    for one in &addresses {
        slice_address(one, &path, kind, errors);
    }
    if at.get("nodeName").is_some() {
        at.named("nodeName", names::SUBDOMAIN_RULE, errors);
    }
    if at.get("hostname").is_some() {
        at.named("hostname", names::LABEL_RULE, errors);
    }
    let Some(hints) = at.get("hints") else {
        return;
    };
    for (field, rule) in [
        ("forZones", names::label_value as crate::kind::NameRule),
        ("forNodes", names::SUBDOMAIN_RULE),
    ] {
        let given = hints.items(field);
        if given.len() > 8 {
            errors.push(FieldError::too_many(hints.child(field), given.len(), 8));
            return;
        }
        let mut seen = BTreeSet::new();
        for one in given {
            let name = one.text("name");
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(one.child("name"), &name.into()));
            }
            one.named("name", rule, errors);
        }
    }
}

fn slice_address(at: &At<'_>, list: &str, kind: &str, errors: &mut Errors) {
    let text = at.as_text();
    let parsed = text.parse::<IpAddr>();
    match (kind, parsed) {
        ("IPv4" | "IPv6", Err(_)) => check::address(&at.path, text, errors),
        ("IPv4" | "IPv6", Ok(address)) => {
            if address.is_ipv4() != (kind == "IPv4") {
                let why = format!("must be an {kind} address");
                errors.push(FieldError::invalid(list, &text.into(), &why));
            }
            endpoint_address(&at.path, text, errors);
        }
        ("FQDN", _) => {
            let name = text.strip_suffix('.').unwrap_or(text);
            let wrong = names::subdomain(name);
            if text.is_empty() {
                errors.push(FieldError::required(&at.path, ""));
            } else if !wrong.is_empty() {
                errors.push(FieldError::invalid(
                    &at.path,
                    &name.into(),
                    &wrong.join(","),
                ));
            } else if name.split('.').count() < 2 {
                let why = "should be a domain with at least two segments separated by dots";
                errors.push(FieldError::invalid(&at.path, &name.into(), why));
            } else if let Some(label) = name.split('.').find(|label| label.len() > 63) {
                let why = "label must be no more than 63 characters";
                errors.push(FieldError::invalid(&at.path, &label.into(), why));
            }
        }
        _ => {}
    }
}
