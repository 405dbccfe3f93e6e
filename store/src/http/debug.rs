//! `/debug/vars`: what etcd publishes of itself there, as JSON, but for what only a
//! Go program has. The client port's alone, as in etcd.

use bytes::Bytes;
use http::Response;
use mizzen_engine::Engine;
use serde::Serialize;

use super::respond::content;
use crate::server::Server;

#[derive(Serialize)]
struct RaftStatus {
    id: String,
    term: u64,
    commit: u64,
    lead: String,
    #[serde(rename = "raftState")]
    state: &'static str,
    applied: u64,
}

#[derive(Serialize)]
struct Vars {
    cmdline: Vec<String>,
    file_descriptor_limit: u64,
    #[serde(rename = "raft.status")]
    raft: RaftStatus,
}

pub fn vars<E: Engine>(server: &Server<E>) -> Response<Bytes> {
    let group = server.group();
    let status = group.status();
    let vars = Vars {
        cmdline: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        file_descriptor_limit: mizzen_descriptors::limit().unwrap_or(0),
        raft: RaftStatus {
            id: format!("{:x}", group.id()),
            term: status.term,
            commit: status.committed_index,
            lead: format!("{:x}", status.leader.unwrap_or(0)),
            state: match (group.is_leader(), status.learner, status.leader) {
                (true, ..) => "StateLeader",
                (_, true, _) | (.., Some(_)) => "StateFollower",
                (.., None) => "StateCandidate",
            },
            applied: status.applied_index,
        },
    };
    let text = serde_json::to_string_pretty(&vars).unwrap_or_default();
    content("application/json; charset=utf-8", format!("{text}\n"))
}
