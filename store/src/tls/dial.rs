//! Connections to peers: by TLS where the URL says so.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use super::Credentials;
use crate::{
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
        let url = Url::parse(peer_url).map_err(io::Error::other)?;
        match url.scheme() {
            Scheme::Http => PlainDial.dial(peer_url),
            Scheme::Https => self.secure(&url),
            // As in etcd no TLS is spoken between peers on one machine.
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
}

impl PeerDial {
    fn secure(&self, url: &Url) -> io::Result<Channel> {
        let credentials = self.credentials.clone();
        let name = ServerName::try_from(url.host().to_owned()).map_err(io::Error::other)?;
        // The connector below speaks TLS; tonic is not to.
        let plain: Uri = format!("http://{}", url.host_and_port())
            .parse()
            .map_err(io::Error::other)?;
        let connect = tower::service_fn(move |to: Uri| {
            let (credentials, name) = (credentials.clone(), name.clone());
            async move {
                let connected = connect(credentials, name, to);
                tokio::time::timeout(limits::TLS_CONNECT_TIMEOUT, connected).await?
            }
        });
        Ok(Endpoint::from(plain).connect_with_connector_lazy(connect))
    }
}

async fn connect(
    credentials: Option<Arc<Credentials>>,
    name: ServerName<'static>,
    to: Uri,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let config = credentials
        .and_then(|credentials| credentials.client())
        .ok_or_else(|| io::Error::other("there is no certificate to connect to a peer with"))?;
    let mut connector: HttpConnector = crate::raft::connector();
    let stream = tower::Service::call(&mut connector, to)
        .await
        .map_err(io::Error::other)?
        .into_inner();
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(TokioIo::new(stream))
}
