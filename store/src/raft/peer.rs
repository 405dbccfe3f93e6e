//! This member as a server to its peers.

use std::sync::Arc;

use futures::{Stream, StreamExt, future};
use mizzen_proto::peer::{self as wire, peer_server};
use mizzen_wal as wal;
use tonic::{Request, Response, Status, Streaming};

use super::{CLUSTER_ID_HEADER, Group, Submitted, TO_HEADER, convert, snapshot, types::Payload};
use crate::limits;

/// The peer protocol's service of one member.
pub struct PeerService {
    group: Arc<Group>,
}

type BoxStream<T> = std::pin::Pin<Box<dyn Stream<Item = T> + Send>>;

fn malformed() -> Status {
    Status::invalid_argument("malformed message of a peer")
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this member has stopped: {error}"))
}

impl PeerService {
    pub fn server(group: Arc<Group>) -> peer_server::PeerServer<Self> {
        peer_server::PeerServer::new(Self { group })
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES)
            .max_encoding_message_size(limits::PEER_MESSAGE_BYTES)
    }

    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.group.check_addressee(request.metadata())
    }
}

impl Group {
    /// Refuses messages of another cluster, and those meant for a member that
    /// was at this address before.
    pub fn check_addressee(&self, headers: &tonic::metadata::MetadataMap) -> Result<(), Status> {
        let header = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.parse::<u64>().ok())
        };
        if header(CLUSTER_ID_HEADER) != Some(self.cluster_id()) {
            return Err(Status::failed_precondition(
                "the message is of another cluster",
            ));
        }
        if header(TO_HEADER) != Some(self.id()) {
            return Err(Status::failed_precondition(
                "the message is for another member",
            ));
        }
        Ok(())
    }
}

/// Waits while the log has more to write than it should: the leader's stream is
/// read no further meanwhile, so its connection holds the rest.
async fn log_has_room(wal: &wal::Wal) {
    while wal.queued_bytes() >= limits::LOG_QUEUE_BYTES {
        let (done, written) = tokio::sync::oneshot::channel();
        let barrier = wal.barrier(Box::new(move |_| {
            // Whoever waited may be gone.
            let _ = done.send(());
        }));
        // A log that has failed ends the member; openraft finds out by itself.
        if barrier.is_err() || written.await.is_err() {
            return;
        }
    }
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type StreamAppendStream = BoxStream<Result<wire::AppendResponse, Status>>;

    async fn stream_append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        self.check(&request)?;
        // A broken or malformed stream simply ends: the leader opens another.
        let wal = self.group.wal.clone();
        let requests = request
            .into_inner()
            .then(move |message| {
                let wal = wal.clone();
                async move {
                    log_has_room(&wal).await;
                    message.ok().and_then(convert::append_from_wire)
                }
            })
            .take_while(|message| future::ready(message.is_some()))
            .filter_map(future::ready);
        let answers = self.group.raft().stream_append(requests);
        Ok(Response::new(Box::pin(answers.map(|answer| {
            answer.map(convert::append_result_to_wire).map_err(stopped)
        }))))
    }

    async fn append(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendResponse>, Status> {
        self.check(&request)?;
        let rpc = convert::append_from_wire(request.into_inner()).ok_or_else(malformed)?;
        let prev = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
        let answer = self
            .group
            .raft()
            .append_entries(rpc)
            .await
            .map_err(stopped)?;
        if answer.is_conflict() && prev.is_none() {
            return Err(Status::internal("a conflict without a previous log id"));
        }
        Ok(Response::new(convert::append_result_to_wire(
            answer.into_stream_result(prev, last),
        )))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        self.check(&request)?;
        let rpc = convert::vote_request_from_wire(request.into_inner()).ok_or_else(malformed)?;
        let answer = self.group.raft().vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(convert::vote_response_to_wire(answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        self.check(&request)?;
        let rpc = convert::vote_request_from_wire(request.into_inner()).ok_or_else(malformed)?;
        let answer = self.group.raft().pre_vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(convert::vote_response_to_wire(answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        self.check(&request)?;
        let rpc = convert::transfer_from_wire(request.into_inner()).ok_or_else(malformed)?;
        let refused = match self
            .group
            .raft()
            .handle_transfer_leader(rpc)
            .await
            .map_err(stopped)?
        {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        Ok(Response::new(wire::TransferLeaderResponse { refused }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        self.check(&request)?;
        let answer = snapshot::receive(&self.group, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        self.check(&request)?;
        match self.group.read_index().await {
            Ok(index) => Ok(Response::new(wire::ReadIndexResponse { index })),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    async fn propose(
        &self,
        request: Request<wire::ProposeRequest>,
    ) -> Result<Response<wire::ProposeResponse>, Status> {
        self.check(&request)?;
        let payloads = request.into_inner().payloads;
        if payloads.len() > limits::FORWARD_BATCH {
            return Err(malformed());
        }
        let payloads: Vec<Payload> = payloads
            .into_iter()
            .map(|payload| Payload::from_wire(&payload))
            .collect::<Option<_>>()
            .ok_or_else(malformed)?;
        let outcomes = future::join_all(
            payloads
                .into_iter()
                .map(|payload| self.group.propose(payload)),
        )
        .await;
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Submitted::Done => wire::ProposeOutcome::Done,
                Submitted::Refused => wire::ProposeOutcome::Refused,
                Submitted::Busy => wire::ProposeOutcome::Busy,
                Submitted::Unknown => wire::ProposeOutcome::Unknown,
            })
            .map(i32::from)
            .collect();
        Ok(Response::new(wire::ProposeResponse { outcomes }))
    }
}
