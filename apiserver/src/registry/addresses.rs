//! Cluster addresses and node ports of services: given and taken back in the
//! very transaction that writes the service, so that no two services have the
//! same one, however many servers there are, and none is lost when a server
//! dies.
//!
//! Upstream's records are kept: an `IPAddress` for every address, one bitmap
//! for all node ports.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{Registry, strategy};
use crate::{
    catalog::Resource,
    codec::{
        json::{self, Source},
        proto::{self, Envelope},
    },
    error::{ApiError, FieldError},
    object::{self, Json},
    schema::{MessageId, schema},
    service::{has_health_port, has_ports, health_port, kind_of, named_address, node_port, ports},
    store::Write,
};

/// Where addresses of services lie: what kubeadm chooses, 10.96.0.0/12.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const NETWORK_BITS: u32 = 12;
/// The first address of the network is that of the API itself.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// As upstream, the first addresses are left to those who name one.
const NAMED_ADDRESSES: u32 = 256;
/// Upstream's range of node ports.
const PORT_FIRST: i64 = 30_000;
const PORT_LAST: i64 = 32_767;
const PORTS_KEY: &str = "/registry/ranges/servicenodeports";
/// Random tries before the free ports are searched in their order.
const TRIES: usize = 16;

/// What a service has of its cluster.
#[derive(Default, PartialEq, Eq, Debug)]
struct Held {
    address: Option<String>,
    ports: BTreeSet<i64>,
}

fn held(service: &Json) -> Held {
    let address = object::str_at(service, &["spec", "clusterIP"]);
    let all = ports(service).iter().filter_map(node_port);
    // What other types say of ports of nodes is not given to them.
    let opens = matches!(kind_of(service), "NodePort" | "LoadBalancer");
    Held {
        address: (!address.is_empty() && address != "None").then(|| address.to_owned()),
        ports: all.chain(health_port(service)).filter(|_| opens).collect(),
    }
}

fn spec(service: &mut Json) -> Option<&mut Json> {
    service.get_mut("spec").and_then(Value::as_object_mut)
}

fn range() -> std::ops::Range<u32> {
    let first = u32::from(NETWORK);
    first..first + (1 << (32 - NETWORK_BITS))
}

/// An address that nobody asked for by name.
fn any_address() -> Ipv4Addr {
    let range = range();
    // The last one is the broadcast address.
    let chosen = rand::rng().random_range(range.start + NAMED_ADDRESSES..range.end - 1);
    Ipv4Addr::from(chosen)
}

/// Whether a service can have this address.
fn check_address(text: &str) -> Result<(), FieldError> {
    let range = range();
    let parsed = text.parse::<Ipv4Addr>();
    let within = parsed.is_ok_and(|address| {
        (range.start + 1..range.end - 1).contains(&u32::from(address))
            && address.to_string() == text
    });
    if within {
        return Ok(());
    }
    Err(FieldError::invalid(
        "spec.clusterIPs",
        &json!([text]),
        &format!(
            "failed to allocate IP {text}: the provided IP is not in the valid range. The range of valid IPs is {NETWORK}/{NETWORK_BITS}"
        ),
    ))
}

/// The node ports that are given, one bit for each, the first one's lowest.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Bitmap(Vec<u8>);

impl Bitmap {
    /// From the bytes of a number, the highest first, as Go writes one.
    fn of_number(bytes: &[u8]) -> Self {
        Self(bytes.iter().rev().copied().collect())
    }

    fn number(&self) -> Vec<u8> {
        let bytes = self.0.iter().rev().copied();
        bytes.skip_while(|byte| *byte == 0).collect()
    }

    /// Where a port's bit stands; nowhere for one outside the range.
    fn at(port: i64) -> Option<(usize, u8)> {
        if !(PORT_FIRST..=PORT_LAST).contains(&port) {
            return None;
        }
        let bit = usize::try_from(port - PORT_FIRST).ok()?;
        Some((bit / 8, 1 << (bit % 8)))
    }

    fn has(&self, port: i64) -> bool {
        Self::at(port)
            .is_some_and(|(byte, bit)| self.0.get(byte).is_some_and(|found| found & bit != 0))
    }

    fn set(&mut self, port: i64, to: bool) {
        let Some((byte, bit)) = Self::at(port) else {
            return;
        };
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        if to {
            self.0[byte] |= bit;
        } else {
            self.0[byte] &= !bit;
        }
    }

    fn any_free(&self) -> Option<i64> {
        let mut rng = rand::rng();
        (0..TRIES)
            .map(|_| rng.random_range(PORT_FIRST..=PORT_LAST))
            .chain(PORT_FIRST..=PORT_LAST)
            .find(|port| !self.has(*port))
    }
}

fn allocation() -> MessageId {
    schema()
        .find("io.k8s.api.core.v1.RangeAllocation")
        .expect("a kind of the table")
}

fn broken(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the record of node ports: {error}"))
}

impl Registry {
    fn addresses(&self) -> Arc<Resource> {
        let catalog = self.catalog();
        catalog
            .own("networking.k8s.io", "v1", "ipaddresses")
            .clone()
    }

    /// Completes what a service is to be and gives the writes that must take
    /// effect with its own. `old` is `None` for one that is created, `new` for
    /// one that goes.
    pub(super) async fn claims(
        &self,
        resource: &Resource,
        old: Option<&Json>,
        new: Option<&mut Json>,
    ) -> Result<Vec<Write>, ApiError> {
        if !resource.rules.addresses {
            return Ok(Vec::new());
        }
        let before = old.map(held).unwrap_or_default();
        let mut writes = Vec::new();
        let after = match new {
            None => Held::default(),
            Some(new) => {
                let name = object::meta_str(new, "name").to_owned();
                let invalid = |error: FieldError| ApiError::invalid(resource, &name, &[error]);
                self.address(old, new, &before, &mut writes, &invalid)
                    .await?;
                self.node_ports(new, &before, &mut writes, &invalid).await?;
                held(new)
            }
        };
        if let Some(gone) = before
            .address
            .filter(|one| after.address.as_ref() != Some(one))
        {
            let key = self.addresses().key("", &gone);
            if let (Some(pair), _) = self.store.get(&key).await? {
                writes.push(Write::delete(key, pair.revision));
            }
        }
        let gone: Vec<i64> = before.ports.difference(&after.ports).copied().collect();
        if !gone.is_empty() && !writes.iter().any(|write| write.key == PORTS_KEY) {
            let (mut bitmap, revision) = self.given_ports().await?;
            for port in gone {
                bitmap.set(port, false);
            }
            writes.push(ports_write(&bitmap, revision)?);
        }
        Ok(writes)
    }

    async fn address(
        &self,
        old: Option<&Json>,
        new: &mut Json,
        before: &Held,
        writes: &mut Vec<Write>,
        invalid: &(impl Fn(FieldError) -> ApiError + Sync),
    ) -> Result<(), ApiError> {
        let given = named_address(new).to_owned();
        let listed = object::at(new, &["spec", "clusterIPs"]).and_then(|list| list.get(0));
        if listed.is_some_and(|first| *first != given) {
            return Err(invalid(FieldError::invalid(
                "spec.clusterIPs[0]",
                &json!([listed]),
                "first value must match `clusterIP`",
            )));
        }
        if kind_of(new) == "ExternalName" {
            if given.is_empty() {
                return Ok(());
            }
            let why = "may not be set when `type` is 'ExternalName'";
            return Err(invalid(FieldError::forbidden("spec.clusterIPs", why)));
        }
        let fixed = old.filter(|old| kind_of(old) != "ExternalName");
        let fixed = fixed.map_or("", |old| object::str_at(old, &["spec", "clusterIP"]));
        if !fixed.is_empty() && fixed != given {
            return Err(invalid(FieldError::invalid(
                "spec.clusterIPs[0]",
                &json!([given]),
                "may not change once set",
            )));
        }
        let address = if given.is_empty() {
            any_address().to_string()
        } else {
            given.clone()
        };
        if address != "None" && before.address.as_ref() != Some(&address) {
            check_address(&address).map_err(invalid)?;
            let key = self.addresses().key("", &address);
            // One that was chosen here and is taken is found out by the write.
            if !given.is_empty() && self.store.get(&key).await?.0.is_some() {
                return Err(invalid(FieldError::invalid(
                    "spec.clusterIPs",
                    &json!([address]),
                    &format!("failed to allocate IP {address}: provided IP is already allocated"),
                )));
            }
            writes.push(Write::put(
                key,
                record(&self.addresses(), &address, new)?,
                0,
            ));
        }
        let unselecting = object::at(new, &["spec", "selector"])
            .and_then(Value::as_object)
            .is_none_or(Json::is_empty);
        // Whoever fills in its endpoints may use both families.
        let open = address == "None" && unselecting;
        if let Some(spec) = spec(new) {
            let all = json!([address]);
            spec.insert("clusterIP".to_owned(), address.into());
            spec.insert("clusterIPs".to_owned(), all);
            let mut fill = |field: &str, value: Value| {
                if spec.get(field).is_none_or(Value::is_null) {
                    spec.insert(field.to_owned(), value);
                }
            };
            let policy = if open {
                "RequireDualStack"
            } else {
                "SingleStack"
            };
            fill("ipFamilyPolicy", policy.into());
            let single = spec
                .get("ipFamilyPolicy")
                .is_some_and(|one| one == "SingleStack");
            let families = if open && !single {
                json!(["IPv4", "IPv6"])
            } else {
                json!(["IPv4"])
            };
            if spec.get("ipFamilies").is_none_or(Value::is_null) {
                spec.insert("ipFamilies".to_owned(), families);
            }
        }
        Ok(())
    }

    async fn node_ports(
        &self,
        new: &mut Json,
        before: &Held,
        writes: &mut Vec<Write>,
        invalid: &(impl Fn(FieldError) -> ApiError + Sync),
    ) -> Result<(), ApiError> {
        let wanted = has_ports(new);
        let given = held(new).ports;
        let health = has_health_port(new) && health_port(new).is_none();
        let lacks = wanted && ports(new).iter().any(lacks_port) || health;
        if given.is_subset(&before.ports) && !lacks {
            return Ok(());
        }
        let (mut bitmap, revision) = self.given_ports().await?;
        for port in before.ports.difference(&given) {
            bitmap.set(*port, false);
        }
        let list = spec(new)
            .and_then(|spec| spec.get_mut("ports"))
            .and_then(Value::as_array_mut);
        let mut mine: BTreeSet<i64> = before.ports.intersection(&given).copied().collect();
        let list: Vec<&mut Value> = list.into_iter().flatten().collect();
        // First what is named, so that nothing chosen stands in its way.
        for (index, port) in list.iter().enumerate() {
            let Some(number) = node_port(port).filter(|number| !mine.contains(number)) else {
                continue;
            };
            let refused = |why: &str| {
                let field = format!("spec.ports[{index}].nodePort");
                invalid(FieldError::invalid(field, &number.into(), why))
            };
            if !(PORT_FIRST..=PORT_LAST).contains(&number) {
                return Err(refused(&format!(
                    "provided port is not in the valid range. The range of valid ports is {PORT_FIRST}-{PORT_LAST}"
                )));
            }
            if bitmap.has(number) {
                return Err(refused("provided port is already allocated"));
            }
            bitmap.set(number, true);
            mine.insert(number);
        }
        for port in list.into_iter().filter(|port| wanted && lacks_port(port)) {
            let free = bitmap
                .any_free()
                .ok_or_else(|| ApiError::unavailable("no node port is free"))?;
            bitmap.set(free, true);
            port["nodePort"] = free.into();
        }
        self::health(new, &mut bitmap, &mine)?;
        writes.push(ports_write(&bitmap, revision)?);
        Ok(())
    }

    /// The node ports that are given, and the revision of their record.
    async fn given_ports(&self) -> Result<(Bitmap, i64), ApiError> {
        let (Some(pair), _) = self.store.get(PORTS_KEY).await? else {
            return Ok((Bitmap::default(), 0));
        };
        let envelope = Envelope::open(&pair.value).map_err(broken)?;
        let text = proto::to_plain_json(allocation(), envelope.raw).map_err(broken)?;
        let value: Json = serde_json::from_slice(&text).map_err(broken)?;
        let data = BASE64
            .decode(object::str_at(&value, &["data"]))
            .map_err(broken)?;
        Ok((Bitmap::of_number(&data), pair.revision))
    }
}

/// Gives the port at which nodes tell of the health of a service, where it has one.
fn health(service: &mut Json, bitmap: &mut Bitmap, mine: &BTreeSet<i64>) -> Result<(), ApiError> {
    if !has_health_port(service) {
        return Ok(());
    }
    let Some(port) = health_port(service) else {
        let free = bitmap
            .any_free()
            .ok_or_else(|| ApiError::unavailable("no node port is free"))?;
        bitmap.set(free, true);
        service["spec"]["healthCheckNodePort"] = free.into();
        return Ok(());
    };
    let refused = |why: &str| {
        let why = format!("failed to allocate requested HealthCheck NodePort {port}: {why}");
        Err(ApiError::internal(why))
    };
    if mine.contains(&port) {
        return Ok(());
    }
    if Bitmap::at(port).is_none() {
        let range = format!("The range of valid ports is {PORT_FIRST}-{PORT_LAST}");
        return refused(&format!("provided port is not in the valid range. {range}"));
    }
    if bitmap.has(port) {
        return refused("provided port is already allocated");
    }
    bitmap.set(port, true);
    Ok(())
}

fn lacks_port(port: &Value) -> bool {
    node_port(port).is_none()
}

/// The record of an address, as upstream's allocator makes it.
fn record(resource: &Resource, address: &str, service: &Json) -> Result<Bytes, ApiError> {
    let value = json!({
        "metadata": {"name": address, "labels": {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {
            "resource": "services",
            "namespace": object::meta_str(service, "namespace"),
            "name": object::meta_str(service, "name"),
        }},
    });
    let mut value = json::conform(value, resource.message, Source::Client)
        .map_err(|error| ApiError::internal(error.to_string()))?
        .value;
    strategy::prepare_create(resource, &mut value);
    Ok(object::to_store(resource, &mut value))
}

fn ports_write(bitmap: &Bitmap, revision: i64) -> Result<Write, ApiError> {
    let value = json!({
        "metadata": {}, "range": format!("{PORT_FIRST}-{PORT_LAST}"),
        "data": BASE64.encode(bitmap.number()),
    });
    let value = json::conform(value, allocation(), Source::Client)
        .map_err(broken)?
        .value;
    let bytes = proto::seal("v1", "RangeAllocation", allocation(), &value);
    Ok(Write::put(PORTS_KEY.to_owned(), bytes.into(), revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_is_gos_number() {
        let mut bitmap = Bitmap::default();
        bitmap.set(PORT_FIRST, true);
        bitmap.set(PORT_FIRST + 9, true);
        for outside in [-1, 0, 80, PORT_LAST + 1, i64::MAX] {
            bitmap.set(outside, true);
            assert!(!bitmap.has(outside));
        }
        assert_eq!(bitmap.number(), [2, 1]);
        assert_eq!(Bitmap::of_number(&[2, 1]), bitmap);
        bitmap.set(PORT_FIRST + 9, false);
        assert_eq!(bitmap.number(), [1]);
        for port in PORT_FIRST..=PORT_LAST {
            bitmap.set(port, port != 31_234);
        }
        assert_eq!(bitmap.any_free(), Some(31_234));
        bitmap.set(31_234, true);
        assert_eq!(bitmap.any_free(), None);
    }

    #[test]
    fn addresses_lie_in_the_range() {
        for _ in 0..1_000 {
            assert!(check_address(&any_address().to_string()).is_ok());
        }
        for (text, fits) in [
            ("10.96.0.1", true),
            ("10.96.0.0", false),
            ("10.111.255.254", true),
            ("10.111.255.255", false),
            ("10.112.0.1", false),
            ("10.096.0.1", false),
            ("fd00::1", false),
            ("x", false),
        ] {
            assert_eq!(check_address(text).is_ok(), fits, "{text}");
        }
    }
}
