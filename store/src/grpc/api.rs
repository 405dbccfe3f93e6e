//! The unary calls: wire request in, wire reply out. Knows no transport.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mizzen_core::{Command, Compaction, Reply};
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb as wire;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    answering, auth_change as change,
    frame::{self, decode},
    framed::Framed,
    methods::{Learners, Method, Unary},
    status::status,
    translate,
    watch::{self, WatchBody},
};
use crate::{
    server::{Caller, Error, Server},
    version,
};

pub struct Api<E: Engine> {
    pub(super) server: Arc<Server<E>>,
}

impl<E: Engine> Clone for Api<E> {
    fn clone(&self) -> Self {
        Self {
            server: self.server.clone(),
        }
    }
}

/// Whether a range asks no other member.
fn is_serializable(body: &Bytes) -> bool {
    wire::RangeRequest::decode(body.clone()).is_ok_and(|range| range.serializable)
}

impl<E: Engine> Api<E> {
    pub fn new(server: Arc<Server<E>>) -> Self {
        Self { server }
    }

    /// Whether this member serves the call, to this caller.
    pub async fn admit(
        &self,
        method: &Method,
        caller: &Caller,
        body: Option<&Bytes>,
    ) -> Result<(), Status> {
        let serves = !self.server.is_learner()
            || match method.learners {
                Learners::All => true,
                Learners::Serializable => body.is_some_and(is_serializable),
                Learners::None => false,
            };
        if !serves {
            return Err(status(Error::Learner));
        }
        let permitted = self.server.permit_call(caller, method.right).await;
        permitted.map_err(status)
    }

    /// Carries out a unary call.
    pub async fn unary(&self, call: Unary, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        match call {
            Unary::Range => self.range(caller, body).await,
            Unary::Put => self.put(caller, body).await,
            Unary::DeleteRange => self.delete_range(caller, body).await,
            Unary::Txn => self.txn(caller, body).await,
            Unary::Compact => self.compact(caller, body).await,
            Unary::LeaseGrant => self.lease_grant(caller, body).await,
            Unary::LeaseRevoke => self.lease_revoke(caller, body).await,
            Unary::LeaseTimeToLive => self.lease_time_to_live(caller, body).await,
            Unary::LeaseLeases => self.lease_leases(caller, body).await,
            Unary::MemberAdd => self.member_add(caller, body).await,
            Unary::MemberRemove => self.member_remove(caller, body).await,
            Unary::MemberUpdate => self.member_update(caller, body).await,
            Unary::MemberList => self.member_list(caller, body).await,
            Unary::MemberPromote => self.member_promote(caller, body).await,
            Unary::Alarm => self.alarm(caller, body).await,
            Unary::Status => self.status(body).await,
            Unary::Hash => self.hash(caller, body).await,
            Unary::HashKv => self.hash_kv(caller, body).await,
            Unary::Defragment => self.defragment(body),
            Unary::MoveLeader => self.move_leader(body).await,
            Unary::Downgrade => self.downgrade(caller, body).await,
            Unary::AuthEnable => self.change_users(caller, body, change::enable).await,
            Unary::AuthDisable => self.change_users(caller, body, change::disable).await,
            Unary::AuthStatus => self.auth_status(caller, body).await,
            Unary::Authenticate => self.authenticate(caller, body).await,
            Unary::UserAdd => self.user_add(caller, body).await,
            Unary::UserGet => self.user_get(caller, body).await,
            Unary::UserList => self.user_list(caller, body).await,
            Unary::UserDelete => self.change_users(caller, body, change::user_delete).await,
            Unary::UserChangePassword => self.user_change_password(caller, body).await,
            Unary::UserGrantRole => {
                self.change_users(caller, body, change::user_grant_role)
                    .await
            }
            Unary::UserRevokeRole => {
                self.change_users(caller, body, change::user_revoke_role)
                    .await
            }
            Unary::RoleAdd => self.change_users(caller, body, change::role_add).await,
            Unary::RoleGet => self.role_get(caller, body).await,
            Unary::RoleList => self.role_list(caller, body).await,
            Unary::RoleDelete => self.change_users(caller, body, change::role_delete).await,
            Unary::RoleGrantPermission => {
                self.change_users(caller, body, change::role_grant_permission)
                    .await
            }
            Unary::RoleRevokePermission => {
                self.change_users(caller, body, change::role_revoke_permission)
                    .await
            }
            Unary::Lock => self.lock(caller, body).await,
            Unary::Unlock => self.unlock(caller, body).await,
            Unary::Campaign => self.campaign(caller, body).await,
            Unary::Proclaim => self.proclaim(caller, body).await,
            Unary::Leader => self.leader(caller, body).await,
            Unary::Resign => self.resign(caller, body).await,
        }
    }

    /// All of the header but the revision.
    pub(super) fn header(&self) -> wire::ResponseHeader {
        let group = self.server.group();
        wire::ResponseHeader {
            cluster_id: group.cluster_id(),
            member_id: group.id(),
            revision: 0,
            raft_term: group.term(),
        }
    }

    /// The header with the store's revision as this member has it now.
    pub(super) fn header_now(&self) -> wire::ResponseHeader {
        wire::ResponseHeader {
            revision: self.server.revision(),
            ..self.header()
        }
    }

    pub(super) fn reply(&self, reply: Result<Reply, Error>) -> Result<Framed, Status> {
        reply
            .map(|reply| translate::reply(&reply, self.header()))
            .map_err(status)
    }

    async fn range(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request = translate::range(decode(body)?);
        self.reply(self.server.range(caller, request).await.map(Reply::Range))
    }

    async fn put(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let command = Command::Put(translate::put(decode(body)?));
        self.reply(self.server.write(caller, command).await)
    }

    async fn delete_range(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let command = Command::DeleteRange(translate::delete_range(decode(body)?));
        self.reply(self.server.write(caller, command).await)
    }

    async fn txn(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let command = Command::Txn(translate::txn(decode(body)?));
        self.reply(self.server.write(caller, command).await)
    }

    async fn compact(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::CompactionRequest = decode(body)?;
        let compaction = Compaction {
            revision: request.revision,
        };
        self.reply(
            self.server
                .compact(caller, compaction, request.physical)
                .await,
        )
    }

    async fn status(&self, body: Bytes) -> Result<Framed, Status> {
        let _: wire::StatusRequest = decode(body)?;
        let report = self.server.report().await.map_err(status)?;
        let mut header = self.header();
        header.revision = self.server.revision();
        let mut errors = Vec::new();
        if report.raft.leader.is_none() {
            errors.push(Error::NoLeader.to_string());
        }
        errors.extend(report.alarms.into_iter().map(translate::alarm_text));
        let reply = wire::StatusResponse {
            header: Some(header),
            version: version::ETCD.to_owned(),
            db_size: report.db_bytes,
            leader: report.raft.leader.unwrap_or(0),
            raft_index: report.raft.committed_index,
            raft_term: report.raft.term,
            raft_applied_index: report.raft.applied_index,
            errors,
            db_size_in_use: report.db_bytes_in_use,
            is_learner: report.raft.learner,
            storage_version: version::STORAGE.to_owned(),
            db_size_quota: self
                .server
                .quota()
                .map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
            downgrade_info: Some(wire::DowngradeInfo::default()),
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn hash(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::HashRequest = decode(body)?;
        let hash = self.server.hash_kv(caller, 0).await.map_err(status)?;
        let mut header = self.header();
        header.revision = hash.revision;
        Ok(wire::HashResponse {
            header: Some(header),
            hash: hash.hash,
        }
        .encode_to_vec()
        .into())
    }

    async fn hash_kv(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::HashKvRequest = decode(body)?;
        let hash = self
            .server
            .hash_kv(caller, request.revision)
            .await
            .map_err(status)?;
        let mut header = self.header();
        header.revision = hash.revision;
        let reply = wire::HashKvResponse {
            header: Some(header),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        };
        Ok(reply.encode_to_vec().into())
    }

    /// There is nothing to defragment: space comes back by itself.
    fn defragment(&self, body: Bytes) -> Result<Framed, Status> {
        let _: wire::DefragmentRequest = decode(body)?;
        Ok(wire::DefragmentResponse { header: None }
            .encode_to_vec()
            .into())
    }

    /// `KV/RangeStream`: chunks at one revision, as fast as the client takes
    /// them.
    pub async fn range_stream(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let request = translate::range(decode(body)?);
        let mut chunks = self
            .server
            .range_stream(caller, request)
            .await
            .map_err(|error| match error {
                crate::server::RangeStreamError::Server(error) => status(error),
                crate::server::RangeStreamError::Unsupported(text) => Status::unimplemented(text),
            })?;
        let (sender, messages) = mpsc::channel(1);
        let header = self.header();
        answering(sender.clone(), async move {
            while let Some(chunk) = chunks.next().await {
                let last = chunk.as_ref().map_or(true, |chunk| chunk.end.is_some());
                let message = chunk
                    .map(|chunk| frame::framed(&translate::range_chunk(&chunk, header)))
                    .map_err(status);
                // A client that went away wants no more.
                if sender.send(message).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(messages)
    }

    /// `Watch/Watch`. Events of a response that may be split are sent in pieces
    /// of `fragment_bytes`.
    pub fn watch(
        &self,
        caller: Caller,
        requests: frame::Messages,
        fragment_bytes: usize,
        progress_interval: Duration,
    ) -> Result<WatchBody, Status> {
        let this = self.clone();
        watch::watch(
            &self.server,
            move || this.header(),
            caller,
            requests,
            fragment_bytes,
            progress_interval,
        )
    }
}
