//! The endpoints of the Service `kubernetes`: which servers live, as upstream's
//! reconciler by leases keeps them.
//!
//! Each server keeps a key of its own with a time to live below `PREFIX`, and all
//! of them write what they find there into the `Endpoints` and the
//! `EndpointSlice`. Upstream's servers over the same store do the same with the same
//! keys. Other than they, which look once in an interval, each watches the keys: a
//! server that died is gone when its key is.
//!
//! Must not know what is served at the addresses.

use std::net::{IpAddr, UdpSocket};

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::decoded;
use crate::{
    error::ApiError,
    limits,
    object::{self, Json},
    registry::{DeleteOptions, Registry, Target, WriteOptions},
    store::{Outcome, Watch, Write},
};

/// Upstream's keys of servers that live, by their addresses.
const PREFIX: &str = "/registry/masterleases/";
const NAME: &str = "kubernetes";
/// The controller that makes slices of endpoints is to leave these alone: their
/// slice is written here.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// What keeps one server among the endpoints.
#[derive(Clone, Debug)]
pub struct Reconciler {
    address: IpAddr,
    port: u16,
}

impl Reconciler {
    /// # Errors
    /// The address cannot be one of endpoints.
    pub fn new(address: IpAddr, port: u16) -> Result<Self, String> {
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let link_local_multicast = match address {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        };
        let why = if address.is_unspecified() {
            "may not be unspecified"
        } else if address.is_loopback() {
            "may not be in the loopback range (127.0.0.0/8, ::1/128)"
        } else if link_local {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        } else if link_local_multicast {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        } else {
            return Ok(Self { address, port });
        };
        Err(format!(
            "cannot use {address} as the address of an endpoint: {why}"
        ))
    }

    /// Keeps the server among the endpoints, and the endpoints as the servers that
    /// live; for ever.
    pub async fn keep(&self, registry: &Registry) {
        let mut renewals = tokio::time::interval(limits::ENDPOINT_RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = None;
        loop {
            let due = tokio::select! {
                _ = renewals.tick() => true,
                () = changed(registry, &mut watch) => false,
            };
            let renewed = if due {
                self.renew(registry).await
            } else {
                Ok(())
            };
            let done = match renewed {
                Ok(()) => self.reconcile(registry, false).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(%error.message, "the endpoints of the service kubernetes are not kept");
            }
        }
    }

    /// Takes the server from the endpoints, at its start too: one that was killed
    /// left itself there.
    pub async fn leave(&self, registry: &Registry) {
        let left = tokio::time::timeout(limits::ENDPOINT_LEAVE, self.remove(registry)).await;
        let why = match left {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.message,
            Err(_) => "the store does not answer in time".to_owned(),
        };
        tracing::warn!(%why, "this server stays among the endpoints of the service kubernetes for a while");
    }

    fn key(&self) -> String {
        format!("{PREFIX}{}", self.address)
    }

    /// Writes this server's key anew, which lives on for its time.
    async fn renew(&self, registry: &Registry) -> Result<(), ApiError> {
        let target = target(registry, "", "endpoints");
        for _ in 0..limits::UPDATE_TRIES {
            let (present, _) = registry.store().get(&self.key()).await?;
            let (expected, generation) = match &present {
                None => (0, 0),
                Some(pair) => {
                    let object = object::from_store(&target.resource, pair)?;
                    let generation = object::at(&object, &["metadata", "generation"]);
                    (
                        pair.revision,
                        generation.and_then(Value::as_i64).unwrap_or(0),
                    )
                }
            };
            let body = json!({"metadata": {"generation": generation + 1},
                "subsets": [{"addresses": [{"ip": self.address.to_string()}]}]});
            let mut object = body.as_object().cloned().unwrap_or_default();
            let value = object::to_store(&target.resource, &mut object);
            let lease = registry.store().grant(limits::ENDPOINT_LIFETIME).await?;
            let write = Write::put(self.key(), value, expected).under(lease);
            if let Outcome::Done(_) = registry.store().commit(&write, &[]).await? {
                return Ok(());
            }
        }
        Err(ApiError::internal(
            "another server has the address of this one",
        ))
    }

    async fn remove(&self, registry: &Registry) -> Result<(), ApiError> {
        loop {
            let (Some(pair), _) = registry.store().get(&self.key()).await? else {
                return Ok(());
            };
            let write = Write::delete(self.key(), pair.revision);
            if let Outcome::Done(_) = registry.store().commit(&write, &[]).await? {
                return self.reconcile(registry, true).await;
            }
        }
    }

    /// Makes the endpoints those of the servers that live. Another server may do so
    /// at the same time: then again.
    async fn reconcile(&self, registry: &Registry, leaving: bool) -> Result<(), ApiError> {
        let mut done = Ok(());
        for _ in 0..limits::UPDATE_TRIES {
            let living = living(registry).await?;
            if living.is_empty() && !leaving {
                // This server's own key is not there: something is wrong with what
                // was read, and no reason to take all from the endpoints.
                return Err(ApiError::internal("no server has a key in the store"));
            }
            done = self.write(registry, &living).await;
            match &done {
                Err(error) if matches!(error.code, 404 | 409) => {}
                _ => break,
            }
        }
        done
    }

    async fn write(&self, registry: &Registry, living: &[String]) -> Result<(), ApiError> {
        let target_of_endpoints = target(registry, "", "endpoints");
        let held = registry.held(&target_of_endpoints).await?;
        let endpoints = match held {
            None => {
                let made = self.endpoints(None, living);
                put(registry, &target_of_endpoints, &made, None).await?;
                made
            }
            Some((present, revision)) => {
                let wanted = self.endpoints(Some(&present), living);
                if wanted != present {
                    tracing::info!(?living, "the endpoints of the service kubernetes change");
                    put(registry, &target_of_endpoints, &wanted, Some(revision)).await?;
                }
                wanted
            }
        };
        let target_of_slice = target(registry, "discovery.k8s.io", "endpointslices");
        let wanted = slice(&endpoints);
        match registry.held(&target_of_slice).await? {
            None => put(registry, &target_of_slice, &wanted, None).await,
            Some((present, _)) if present.get("addressType") != wanted.get("addressType") => {
                registry
                    .delete(&target_of_slice, &DeleteOptions::default())
                    .await?;
                put(registry, &target_of_slice, &wanted, None).await
            }
            Some((present, revision)) => {
                let same = ["endpoints", "ports"].iter().all(|field| {
                    let filled =
                        |value: Option<&Value>| value.filter(|value| **value != json!([])).cloned();
                    filled(present.get(*field)) == filled(wanted.get(*field))
                });
                if same && object::at(&present, LABELS) == object::at(&wanted, LABELS) {
                    return Ok(());
                }
                put(registry, &target_of_slice, &wanted, Some(revision)).await
            }
        }
    }

    /// The endpoints as they are to be; those that are so already stay as they are.
    fn endpoints(&self, present: Option<&Json>, living: &[String]) -> Json {
        let mut wanted = present.cloned().unwrap_or_default();
        let mut labels = match object::at(&wanted, LABELS) {
            Some(Value::Object(labels)) => labels.clone(),
            _ => Json::new(),
        };
        labels.insert(SKIP_MIRROR.to_owned(), "true".into());
        object::set_meta(&mut wanted, "labels", Some(Value::Object(labels)));
        let subset = match wanted.get("subsets").and_then(Value::as_array) {
            Some(subsets) if subsets.len() == 1 => subsets.first().cloned(),
            _ => None,
        };
        let mut addresses = addresses(subset.as_ref());
        addresses.sort_unstable();
        if subset.is_some() && addresses == living {
            return wanted;
        }
        // Ports stay those that are there, as with upstream: servers may differ.
        let own = json!([{"name": "https", "port": self.port, "protocol": "TCP"}]);
        let ports = subset.and_then(|mut subset| subset.get_mut("ports").map(Value::take));
        let ips: Vec<Value> = living.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = match living {
            [] => None,
            _ => Some(json!([{"addresses": ips, "ports": ports.unwrap_or(own)}])),
        };
        match subsets {
            Some(subsets) => wanted.insert("subsets".to_owned(), subsets),
            None => wanted.remove("subsets"),
        };
        wanted
    }
}

const LABELS: &[&str] = &["metadata", "labels"];

/// The address that the route to elsewhere begins with, if there is one. Nothing
/// is sent to find it.
pub fn routed() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address of documentation's.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn addresses(subset: Option<&Value>) -> Vec<String> {
    let list = subset.and_then(|subset| subset.get("addresses")?.as_array());
    let ips = list.into_iter().flatten().map(|one| &one["ip"]);
    ips.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The addresses of the servers that live, in order.
async fn living(registry: &Registry) -> Result<Vec<String>, ApiError> {
    let resource = registry.catalog().own("", "v1", "endpoints").clone();
    let (mut living, mut start) = (Vec::new(), PREFIX.to_owned());
    loop {
        let page = registry
            .store()
            .page(PREFIX, &start, limits::PAGE_OBJECTS, 0)
            .await?;
        for pair in &page.pairs {
            let object = object::from_store(&resource, pair)?;
            let subsets = object.get("subsets").and_then(Value::as_array);
            let first = subsets.and_then(|subsets| subsets.first());
            living.extend(addresses(first).into_iter().next());
        }
        match page.pairs.last() {
            Some(last) if (page.pairs.len() as i64) < page.count => {
                start = format!("{}\0", String::from_utf8_lossy(&last.key));
            }
            _ => break,
        }
    }
    living.sort_unstable();
    Ok(living)
}

/// Waits until a server came or went. Dropping the future loses nothing.
async fn changed(registry: &Registry, watch: &mut Option<Watch>) {
    loop {
        let opened = match watch {
            Some(opened) => opened,
            None => match registry.store().watch(PREFIX, 0).await {
                Ok(opened) => watch.insert(opened),
                Err(error) => {
                    tracing::debug!(%error, "the keys of servers are not watched: again");
                    tokio::time::sleep(limits::STORE_PAUSE).await;
                    continue;
                }
            },
        };
        match opened.next().await {
            Ok(batch) if batch.changes.is_empty() => {}
            Ok(_) => return,
            Err(_) => *watch = None,
        }
    }
}

fn target(registry: &Registry, group: &str, plural: &str) -> Target {
    Target {
        resource: registry.catalog().own(group, "v1", plural).clone(),
        namespace: "default".to_owned(),
        name: NAME.to_owned(),
        sub: None,
    }
}

/// Upstream's slice of such endpoints, which have one set of ports.
fn slice(endpoints: &Json) -> Json {
    let subsets = endpoints.get("subsets").and_then(Value::as_array);
    let subset = subsets.and_then(|subsets| subsets.first());
    let ips = addresses(subset);
    let sixth = !ips.is_empty() && ips.iter().all(|ip| ip.contains(':'));
    let of_type = ips.iter().filter(|ip| ip.contains(':') == sixth);
    let endpoints: Vec<Value> = of_type
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    let mut slice = json!({
        "metadata": {"labels": {"kubernetes.io/service-name": NAME}},
        "addressType": if sixth { "IPv6" } else { "IPv4" },
        "endpoints": endpoints,
    });
    if let Some(ports) = subset.and_then(|subset| subset.get("ports")) {
        slice["ports"] = ports.clone();
    }
    slice.as_object().cloned().unwrap_or_default()
}

/// Creates an object, or replaces the version of it that was read.
async fn put(
    registry: &Registry,
    target: &Target,
    object: &Json,
    revision: Option<i64>,
) -> Result<(), ApiError> {
    let mut object = object.clone();
    object::set_meta(&mut object, "name", Some(target.name.clone().into()));
    object::set_meta(&mut object, "namespace", Some("default".into()));
    let version = revision.map(|revision| revision.to_string().into());
    object::set_meta(&mut object, "resourceVersion", version);
    let body = decoded(target, &object)?;
    let options = WriteOptions::default();
    let done = match revision {
        Some(_) => registry.update(target, body, options).await,
        None => registry.create(target, body, options).await,
    };
    done.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reconciler() -> Reconciler {
        Reconciler::new("192.0.2.1".parse().expect("an address"), 6443).expect("it may be")
    }

    fn living(ips: &[&str]) -> Vec<String> {
        ips.iter().map(|ip| (*ip).to_owned()).collect()
    }

    #[test]
    fn some_addresses_are_none_of_endpoints() {
        for text in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
        ] {
            let address = text.parse().expect("an address");
            assert!(Reconciler::new(address, 6443).is_err(), "{text}");
        }
        assert!(Reconciler::new("2001:db8::1".parse().expect("one"), 6443).is_ok());
    }

    #[test]
    fn endpoints_are_the_servers_that_live_and_stay_as_they_are_otherwise() {
        let made = reconciler().endpoints(None, &living(&["192.0.2.1", "192.0.2.2"]));
        assert_eq!(
            Value::Object(made.clone()),
            json!({"metadata": {"labels": {SKIP_MIRROR: "true"}}, "subsets": [{
                "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}],
                "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}]})
        );
        let same = reconciler().endpoints(Some(&made), &living(&["192.0.2.1", "192.0.2.2"]));
        assert_eq!(same, made);
        // Another server's port stays, what has no form is made anew.
        let mut other = made.clone();
        other["subsets"][0]["ports"][0]["port"] = 443.into();
        let one = reconciler().endpoints(Some(&other), &living(&["192.0.2.1"]));
        assert_eq!(one["subsets"][0]["ports"][0]["port"], 443);
        other["subsets"] = json!([{}, {}]);
        let anew = reconciler().endpoints(Some(&other), &living(&["192.0.2.1"]));
        assert_eq!(anew["subsets"][0]["ports"][0]["port"], 6443);
        let none = reconciler().endpoints(Some(&made), &[]);
        assert!(!none.contains_key("subsets"));
    }

    #[test]
    fn a_slice_is_of_one_family() {
        let made = reconciler().endpoints(None, &living(&["192.0.2.1", "2001:db8::1"]));
        let mixed = slice(&made);
        assert_eq!(mixed["addressType"], "IPv4");
        assert_eq!(
            mixed["endpoints"],
            json!([{"addresses": ["192.0.2.1"], "conditions": {"ready": true}}])
        );
        let sixth = slice(&reconciler().endpoints(None, &living(&["2001:db8::1"])));
        assert_eq!(sixth["addressType"], "IPv6");
        assert_eq!(
            sixth["ports"],
            json!([{"name": "https", "port": 6443, "protocol": "TCP"}])
        );
    }
}
