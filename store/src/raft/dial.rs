//! Connections to other members, and what is written on every message to one.

use std::io;

use mizzen_proto::peer::peer_client::PeerClient;
use tonic::transport::Channel;

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
        let endpoint = tonic::transport::Endpoint::from_shared(peer_url.to_owned())
            .map_err(io::Error::other)?;
        Ok(endpoint
            .connect_timeout(limits::PEER_CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .connect_lazy())
    }
}

/// Identifies the cluster to its members: a message of another cluster is
/// refused before it is read.
pub const CLUSTER_ID_HEADER: &str = "mizzen-cluster-id";
/// The member a message is meant for.
pub const TO_HEADER: &str = "mizzen-to";

/// A connection to one member, which marks what it sends.
pub type PeerChannel = tonic::service::interceptor::InterceptedService<Channel, Stamp>;

pub type Client = PeerClient<PeerChannel>;

pub fn client(channel: PeerChannel) -> Client {
    PeerClient::new(channel)
        .max_decoding_message_size(limits::PEER_MESSAGE_BYTES)
        .max_encoding_message_size(limits::PEER_MESSAGE_BYTES)
}

/// Puts the cluster id and the addressee on every message.
#[derive(Clone)]
pub struct Stamp {
    pub(super) cluster_id: tonic::metadata::AsciiMetadataValue,
    pub(super) to: tonic::metadata::AsciiMetadataValue,
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
        Ok(request)
    }
}
