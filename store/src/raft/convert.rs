//! openraft's messages to and from the peer protocol. `None`: the message
//! lacks a part it must have, or carries what is no entry.

use mizzen_proto::peer as wire;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};

use super::types::{self, LogId, RaftLogId, RaftVote, TypeConfig};

pub fn log_id_to_wire(id: RaftLogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub fn log_id_from_wire(id: wire::LogId) -> RaftLogId {
    LogId {
        term: id.term,
        index: id.index,
    }
    .into()
}

pub fn vote_to_wire(vote: &RaftVote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub fn vote_from_wire(vote: wire::Vote) -> RaftVote {
    types::vote(vote.term, vote.node_id, vote.committed)
}

pub fn append_to_wire(rpc: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    let entry = |entry: types::Entry| wire::Entry {
        term: entry.log_id.leader_id.term,
        index: entry.log_id.index,
        payload: types::encode_payload(&entry.payload),
    };
    wire::AppendRequest {
        vote: Some(vote_to_wire(&rpc.vote)),
        prev_log_id: rpc.prev_log_id.map(log_id_to_wire),
        entries: rpc.entries.into_iter().map(entry).collect(),
        leader_commit: rpc.leader_commit.map(log_id_to_wire),
    }
}

pub fn append_from_wire(rpc: wire::AppendRequest) -> Option<AppendEntriesRequest<TypeConfig>> {
    let entry = |entry: wire::Entry| {
        types::entry(
            LogId {
                term: entry.term,
                index: entry.index,
            },
            entry.payload,
        )
        .ok()
    };
    Some(AppendEntriesRequest {
        vote: vote_from_wire(rpc.vote?),
        prev_log_id: rpc.prev_log_id.map(log_id_from_wire),
        entries: rpc.entries.into_iter().map(entry).collect::<Option<_>>()?,
        leader_commit: rpc.leader_commit.map(log_id_from_wire),
    })
}

pub fn append_result_to_wire(result: StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    use wire::append_response::Result;
    let result = match result {
        Ok(last) => Result::Matched(wire::Matched {
            last_log_id: last.map(log_id_to_wire),
        }),
        Err(StreamAppendError::Conflict(id)) => Result::Conflict(log_id_to_wire(id)),
        Err(StreamAppendError::HigherVote(vote)) => Result::HigherVote(vote_to_wire(&vote)),
    };
    wire::AppendResponse {
        result: Some(result),
    }
}

pub fn append_result_from_wire(
    answer: wire::AppendResponse,
) -> Option<StreamAppendResult<TypeConfig>> {
    use wire::append_response::Result;
    Some(match answer.result? {
        Result::Matched(matched) => Ok(matched.last_log_id.map(log_id_from_wire)),
        Result::Conflict(id) => Err(StreamAppendError::Conflict(log_id_from_wire(id))),
        Result::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_wire(vote))),
    })
}

pub fn vote_request_to_wire(rpc: VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_to_wire(&rpc.vote)),
        last_log_id: rpc.last_log_id.map(log_id_to_wire),
        leadership_transfer: rpc.leadership_transfer,
    }
}

pub fn vote_request_from_wire(rpc: wire::VoteRequest) -> Option<VoteRequest<TypeConfig>> {
    Some(VoteRequest {
        vote: vote_from_wire(rpc.vote?),
        last_log_id: rpc.last_log_id.map(log_id_from_wire),
        leadership_transfer: rpc.leadership_transfer,
    })
}

pub fn vote_response_to_wire(answer: VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote_to_wire(&answer.vote)),
        granted: answer.vote_granted,
        last_log_id: answer.last_log_id.map(log_id_to_wire),
    }
}

pub fn vote_response_from_wire(answer: wire::VoteResponse) -> Option<VoteResponse<TypeConfig>> {
    Some(VoteResponse {
        vote: vote_from_wire(answer.vote?),
        vote_granted: answer.granted,
        last_log_id: answer.last_log_id.map(log_id_from_wire),
    })
}

pub fn transfer_to_wire(rpc: &TransferLeaderRequest<TypeConfig>) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        from: Some(vote_to_wire(rpc.from_leader())),
        to: *rpc.to_node_id(),
        last_log_id: rpc.last_log_id().copied().map(log_id_to_wire),
    }
}

pub fn transfer_from_wire(
    rpc: wire::TransferLeaderRequest,
) -> Option<TransferLeaderRequest<TypeConfig>> {
    Some(TransferLeaderRequest::new(
        vote_from_wire(rpc.from?),
        rpc.to,
        rpc.last_log_id.map(log_id_from_wire),
    ))
}
