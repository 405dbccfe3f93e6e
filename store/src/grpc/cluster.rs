//! The calls of the Cluster service, and Maintenance's move of the leader.

use bytes::Bytes;
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb as wire;
use prost::Message;
use tonic::Status;

use super::{api::Api, frame::decode, framed::Framed, status::status};
use crate::{
    server::{Caller, Member},
    url::Url,
};

fn member(member: Member) -> wire::Member {
    wire::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.learner,
    }
}

/// In the printed form and sorted, so that equal URLs are equal texts.
fn peer_urls(given: &[String]) -> Result<Vec<String>, Status> {
    let refused = || Status::invalid_argument("etcdserver: given member URLs are invalid");
    let mut urls = given
        .iter()
        .map(|url| Url::parse(url).map(|url| url.as_str().to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| refused())?;
    urls.sort();
    if urls.is_empty() {
        return Err(refused());
    }
    Ok(urls)
}

impl<E: Engine> Api<E> {
    fn listed(&self) -> Vec<wire::Member> {
        self.server.members().into_iter().map(member).collect()
    }

    // The headers of cluster calls carry no revision, as etcd's.

    pub(super) async fn member_list(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::MemberListRequest = decode(body)?;
        if request.linearizable {
            self.server.linearize(caller).await.map_err(status)?;
        }
        let reply = wire::MemberListResponse {
            header: Some(self.header()),
            members: self.listed(),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn member_add(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::MemberAddRequest = decode(body)?;
        let urls = peer_urls(&request.peer_ur_ls)?;
        let added = self
            .server
            .member_add(caller, urls, request.is_learner)
            .await
            .map_err(status)?;
        let reply = wire::MemberAddResponse {
            header: Some(self.header()),
            member: Some(member(added)),
            members: self.listed(),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn member_remove(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let request: wire::MemberRemoveRequest = decode(body)?;
        self.server
            .member_remove(caller, request.id)
            .await
            .map_err(status)?;
        let reply = wire::MemberRemoveResponse {
            header: Some(self.header()),
            members: self.listed(),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn member_update(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let request: wire::MemberUpdateRequest = decode(body)?;
        let urls = peer_urls(&request.peer_ur_ls)?;
        self.server
            .member_update(caller, request.id, urls)
            .await
            .map_err(status)?;
        let reply = wire::MemberUpdateResponse {
            header: Some(self.header()),
            members: self.listed(),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn member_promote(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let request: wire::MemberPromoteRequest = decode(body)?;
        self.server
            .member_promote(caller, request.id)
            .await
            .map_err(status)?;
        let reply = wire::MemberPromoteResponse {
            header: Some(self.header()),
            members: self.listed(),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub async fn move_leader(&self, body: Bytes) -> Result<Framed, Status> {
        let request: wire::MoveLeaderRequest = decode(body)?;
        self.server
            .move_leader(request.target_id)
            .await
            .map_err(status)?;
        // etcd sends no header here.
        Ok(wire::MoveLeaderResponse { header: None }
            .encode_to_vec()
            .into())
    }
}
