//! What this member tells its peers of the cluster.

use std::sync::Arc;

use mizzen_engine::Engine;
use mizzen_proto::peer::{self as wire, membership_server};
use tonic::{Request, Response, Status};

use super::{corruption, liveness::Liveness, requests::is_out};
use crate::{
    raft::Group,
    server::{model::level, propose::space::Space, read::Reads},
};

/// The membership service of one member.
pub struct MembershipService<E: Engine> {
    pub group: Arc<Group>,
    pub reads: Arc<Reads<E>>,
    pub space: Arc<Space>,
    pub liveness: Arc<Liveness>,
}

impl<E: Engine> MembershipService<E> {
    pub fn server(self) -> membership_server::MembershipServer<Self> {
        membership_server::MembershipServer::new(self)
    }
}

#[tonic::async_trait]
impl<E: Engine> membership_server::Membership for MembershipService<E> {
    async fn describe(
        &self,
        _request: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeResponse>, Status> {
        // Whoever joins was added a moment ago, perhaps through another member.
        if self.reads.published.load().members.cluster_id().is_some() {
            self.reads.index.refresh().await;
        }
        let members = self.reads.published.load().members.clone();
        let cluster_id = members
            .cluster_id()
            .ok_or_else(|| Status::unavailable("the cluster has not begun yet"))?;
        Ok(Response::new(wire::DescribeResponse {
            cluster_id,
            members: members
                .iter()
                .map(|member| wire::ClusterMember {
                    id: member.id,
                    peer_urls: member.peer_urls.clone(),
                    name: member.name.clone(),
                    client_urls: member.client_urls.clone(),
                    learner: member.learner,
                })
                .collect(),
            removed: members.removed().collect(),
            level: members.level(),
        }))
    }

    async fn ping(
        &self,
        request: Request<wire::PingRequest>,
    ) -> Result<Response<wire::PingResponse>, Status> {
        self.group.check_addressee(request.metadata())?;
        let from = request.get_ref().from;
        if self.group.configuration().nodes.contains_key(&from) {
            self.liveness.heard_from(from);
        }
        Ok(Response::new(wire::PingResponse {
            removed: is_out(&self.reads.published.load(), from),
            level: level::own(),
            low_on_space: self.space.is_low(),
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<wire::HashKvRequest>,
    ) -> Result<Response<wire::HashKvResponse>, Status> {
        self.group.check_addressee(request.metadata())?;
        let hash = corruption::hash_at(&self.reads, request.get_ref().revision).await;
        let hash = hash.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(wire::HashKvResponse {
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
            form: corruption::HASH_FORM,
        }))
    }

    async fn progress(
        &self,
        request: Request<wire::ProgressRequest>,
    ) -> Result<Response<wire::ProgressResponse>, Status> {
        self.group.check_addressee(request.metadata())?;
        let progress = self
            .group
            .progress()
            .ok_or_else(|| Status::failed_precondition("this member does not lead"))?;
        Ok(Response::new(wire::ProgressResponse {
            last_index: progress.last_index,
            members: progress
                .matched
                .into_iter()
                .map(|(id, matched_index)| wire::MemberProgress { id, matched_index })
                .collect(),
        }))
    }
}
