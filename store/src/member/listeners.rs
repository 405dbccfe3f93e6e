//! The addresses a member listens on, each with its handshake; bound before the
//! member has its data, so that what is taken is said at once.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use mizzen_descriptors::Places;
use tokio::runtime::Handle;

use crate::{
    config,
    listen::Listener,
    tls::{Bound, Credentials, Door},
    url::Scheme,
};

/// Listeners that serve so many connections together. Every URL has one of its
/// own, as in etcd, which speaks no TLS on Unix sockets between peers.
pub async fn bind_peers(
    urls: &[config::Url],
    credentials: Option<&Arc<Credentials>>,
    places: &Places,
    clients: &Handle,
) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(urls.len());
    for url in urls {
        let credentials = credentials.filter(|_| url.scheme() == Scheme::Https);
        // Handshakes are computed where clients are served: whoever asks for
        // them must not hold up what members say to each other.
        let door = Door::new(
            credentials.is_none(),
            credentials.cloned(),
            Some(clients.clone()),
        );
        listeners.push(Listener::new(bound(url).await?, door, places));
    }
    Ok(listeners)
}

/// One address may be given with TLS and without: then the first byte that a
/// client sends decides, as in etcd.
pub async fn bind_clients(
    urls: &[config::Url],
    credentials: Option<&Arc<Credentials>>,
    places: &Places,
) -> io::Result<Vec<Listener>> {
    let mut addresses: BTreeMap<&str, Vec<&config::Url>> = BTreeMap::new();
    for url in urls {
        addresses.entry(url.host_and_port()).or_default().push(url);
    }
    let mut listeners = Vec::with_capacity(addresses.len());
    for urls in addresses.values() {
        let plain = urls.iter().any(|url| !url.is_secure());
        let secure = urls.iter().any(|url| url.is_secure());
        let credentials = credentials.filter(|_| secure).cloned();
        listeners.push(Listener::new(
            bound(urls[0]).await?,
            Door::new(plain, credentials, None),
            places,
        ));
    }
    Ok(listeners)
}

async fn bound(url: &config::Url) -> io::Result<Bound> {
    if url.is_unix() {
        Bound::unix(url.host_and_port().as_ref())
    } else {
        Bound::tcp(address(url)?).await
    }
}

fn address(url: &config::Url) -> io::Result<SocketAddr> {
    let host = url.host_and_port();
    let mut addresses = host
        .to_socket_addrs()
        .map_err(|error| io::Error::new(error.kind(), format!("{host}: {error}")))?;
    addresses
        .next()
        .ok_or_else(|| io::Error::other(format!("{host} has no address")))
}
