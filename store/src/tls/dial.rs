//! Connections to peers: by TLS where the URL says so.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::{Credentials, credentials};
use crate::{
    config::TlsInfo,
    limits,
    raft::{Dial, PlainDial},
    url::{Scheme, Url},
};

/// Dials peers with the credentials there are.
#[derive(Clone)]
pub struct PeerDial {
    pub credentials: Option<Arc<Credentials>>,
}

impl Dial for PeerDial {
    fn dial(&self, peer_url: &str) -> io::Result<Channel> {
        let credentials = self.credentials.clone();
        dial(peer_url, move || {
            let credentials = credentials.as_ref();
            credentials
                .and_then(|credentials| credentials.client())
                .ok_or_else(|| {
                    io::Error::other("there is no certificate to connect to a peer with")
                })
        })
    }
}

/// Dials as a client of somebody else does, which need not have a certificate.
pub struct ClientDial(Arc<ClientConfig>);

impl ClientDial {
    /// `any`: whoever answers is believed.
    ///
    /// # Errors
    /// A file that cannot be read or used, in etcd's words.
    pub fn load(info: &TlsInfo, any: bool) -> io::Result<Self> {
        Ok(Self(Arc::new(credentials::of_client(info, any)?)))
    }
}

impl Dial for ClientDial {
    fn dial(&self, url: &str) -> io::Result<Channel> {
        let config = self.0.clone();
        dial(url, move || Ok(config.clone()))
    }
}

fn dial(
    given: &str,
    config: impl Fn() -> io::Result<Arc<ClientConfig>> + Send + 'static,
) -> io::Result<Channel> {
    let url = Url::parse(given).map_err(io::Error::other)?;
    match url.scheme() {
        Scheme::Http => PlainDial.dial(given),
        Scheme::Https => secure(&url, config),
        // As in etcd no TLS is spoken on one machine.
        Scheme::Unix | Scheme::Unixs => {
            let path: Arc<str> = url.host_and_port().into();
            let connect = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(&*path).await.map(TokioIo::new) }
            });
            Ok(Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect))
        }
    }
}

/// `config` is asked at each connection, because certificates change.
fn secure(
    url: &Url,
    config: impl Fn() -> io::Result<Arc<ClientConfig>> + Send + 'static,
) -> io::Result<Channel> {
    let name = ServerName::try_from(url.host().to_owned()).map_err(io::Error::other)?;
    // The connector below speaks TLS; tonic is not to.
    let plain: Uri = format!("http://{}", url.host_and_port())
        .parse()
        .map_err(io::Error::other)?;
    let connect = tower::service_fn(move |to: Uri| {
        let (config, name) = (config(), name.clone());
        async move {
            let connected = connect(config?, name, to);
            tokio::time::timeout(limits::TLS_CONNECT_TIMEOUT, connected).await?
        }
    });
    Ok(Endpoint::from(plain).connect_with_connector_lazy(connect))
}

async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    to: Uri,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let mut connector: HttpConnector = crate::raft::connector();
    let stream = tower::Service::call(&mut connector, to)
        .await
        .map_err(io::Error::other)?
        .into_inner();
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(TokioIo::new(stream))
}
