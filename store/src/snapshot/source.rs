//! A running etcd, as a client sees it: its snapshot, its changes, and what it says of
//! itself.

use std::{io, path::Path};

use futures::{StreamExt as _, stream};
use mizzen_proto::etcdserverpb::{
    AuthStatusRequest, AuthenticateRequest, HashKvRequest, HashKvResponse, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, RangeRequest, SnapshotRequest, WatchCreateRequest, WatchRequest,
    WatchResponse, auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::io::AsyncWriteExt as _;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::limits;

/// No response of a watch that may be split is much larger than the largest request,
/// and of what is larger nothing could be kept here. Lists of leases are shorter.
const MESSAGE_BYTES: usize = 2 * limits::REQUEST_BYTES_MAX;

pub struct RunningEtcd {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

/// What the other store says of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub revision: i64,
    pub term: u64,
}

/// History from a revision on.
pub type History = Streaming<WatchResponse>;

pub fn failed(what: &str, status: &Status) -> io::Error {
    io::Error::other(format!("{what}: {}", status.message()))
}

impl RunningEtcd {
    /// `user` is a name and a password.
    pub async fn connect(channel: Channel, user: Option<&(String, String)>) -> io::Result<Self> {
        let mut source = Self {
            channel,
            token: None,
        };
        if let Some((name, password)) = user {
            let request = AuthenticateRequest {
                name: name.clone(),
                password: password.clone(),
            };
            let mut client = AuthClient::new(source.channel.clone());
            let reply = client.authenticate(request).await;
            let reply = reply.map_err(|status| failed("authenticate", &status))?;
            let token = reply.into_inner().token.parse();
            source.token = Some(token.map_err(io::Error::other)?);
        }
        Ok(source)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// The newest revision that a quorum confirms.
    pub async fn now(&self) -> io::Result<Moment> {
        let request = RangeRequest {
            key: "mizzen-migrate".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(self.channel.clone());
        let reply = client.range(self.request(request)).await;
        let reply = reply.map_err(|status| failed("range", &status))?;
        let header = reply.into_inner().header.unwrap_or_default();
        Ok(Moment {
            revision: header.revision,
            term: header.raft_term,
        })
    }

    /// The revision of users and roles; 3.4 does not tell.
    pub async fn auth_revision(&self) -> io::Result<Option<u64>> {
        let mut client = AuthClient::new(self.channel.clone());
        let reply = client.auth_status(self.request(AuthStatusRequest {})).await;
        match reply {
            Ok(reply) => Ok(Some(reply.into_inner().auth_revision)),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(failed("auth status", &status)),
        }
    }

    /// Writes a snapshot to a file.
    pub async fn snapshot(&self, path: &Path) -> io::Result<()> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let reply = client.snapshot(self.request(SnapshotRequest {})).await;
        let broken = |status: Status| failed("snapshot", &status);
        let mut pieces = reply.map_err(broken)?.into_inner();
        let mut file = tokio::fs::File::create(path).await?;
        while let Some(piece) = pieces.message().await.map_err(broken)? {
            file.write_all(&piece.blob).await?;
        }
        file.flush().await
    }

    /// All changes from a revision on.
    pub async fn changes(&self, from: i64) -> io::Result<History> {
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: from,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let first = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The stream stays open as long as changes are wanted.
        let requests = stream::iter([first]).chain(stream::pending());
        let mut client =
            WatchClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES);
        let reply = client.watch(self.request(requests)).await;
        let reply = reply.map_err(|status| failed("watch", &status))?;
        Ok(reply.into_inner())
    }

    /// Leases and the seconds that each was granted for.
    pub async fn leases(&self) -> io::Result<Vec<(i64, i64)>> {
        let mut client =
            LeaseClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES);
        let reply = client
            .lease_leases(self.request(LeaseLeasesRequest {}))
            .await;
        let reply = reply.map_err(|status| failed("lease list", &status))?;
        let mut leases = Vec::new();
        for lease in reply.into_inner().leases {
            let request = LeaseTimeToLiveRequest {
                id: lease.id,
                keys: false,
            };
            let reply = client.lease_time_to_live(self.request(request)).await;
            let reply = reply.map_err(|status| failed("lease timetolive", &status))?;
            let reply = reply.into_inner();
            // One that has ended meanwhile has none.
            if reply.ttl >= 0 {
                leases.push((lease.id, reply.granted_ttl));
            }
        }
        Ok(leases)
    }

    /// What it hashes its keys to up to a revision.
    pub async fn hash(&self, revision: i64) -> io::Result<HashKvResponse> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let reply = client
            .hash_kv(self.request(HashKvRequest { revision }))
            .await;
        let reply = reply.map_err(|status| failed("hashkv", &status))?;
        Ok(reply.into_inner())
    }
}
