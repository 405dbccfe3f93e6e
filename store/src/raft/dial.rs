//! Connections to other members, and what is written on every message to one.

use std::io;

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint};

use crate::limits;

/// How a peer's address becomes a connection. TLS and tests put theirs here.
pub trait Dial: Send + Sync + 'static {
    /// A channel that connects when it is first used and again when it broke.
    fn dial(&self, peer_url: &str) -> io::Result<Channel>;
}

/// Plain TCP.
pub struct PlainDial;

impl Dial for PlainDial {
    fn dial(&self, peer_url: &str) -> io::Result<Channel> {
        let endpoint = Endpoint::from_shared(peer_url.to_owned()).map_err(io::Error::other)?;
        Ok(endpoint.connect_with_connector_lazy(connector()))
    }
}

/// Connects to a peer by TCP.
pub fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(limits::PEER_CONNECT_TIMEOUT));
    connector.set_tcp_user_timeout(Some(limits::PEER_ACKNOWLEDGES));
    connector
}

/// Whether no connection could be made, so that nothing can have arrived.
pub fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Identifies the cluster to its members: a message of another cluster is
/// refused before it is read.
pub const CLUSTER_ID_HEADER: &str = "mizzen-cluster-id";
/// The member a message is meant for.
pub const TO_HEADER: &str = "mizzen-to";
/// The member that sends it.
pub const FROM_HEADER: &str = "mizzen-from";

/// Puts the cluster id, the addressee and the sender on every message.
#[derive(Clone)]
pub struct Stamp {
    pub(super) cluster_id: tonic::metadata::AsciiMetadataValue,
    pub(super) to: tonic::metadata::AsciiMetadataValue,
    pub(super) from: tonic::metadata::AsciiMetadataValue,
}

impl tonic::service::Interceptor for Stamp {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        request
            .metadata_mut()
            .insert(CLUSTER_ID_HEADER, self.cluster_id.clone());
        request.metadata_mut().insert(TO_HEADER, self.to.clone());
        request
            .metadata_mut()
            .insert(FROM_HEADER, self.from.clone());
        Ok(request)
    }
}
