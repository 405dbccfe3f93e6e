//! The lease calls. KeepAlive answers in the order of the requests, many of
//! them under way at once.

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb as wire;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    answering,
    api::Api,
    frame::{Messages, decode, framed},
    framed::Framed,
    status::status,
};
use crate::{
    limits,
    server::{Caller, Error},
};

/// What etcd answers for the time to live of a lease that does not exist.
const NO_LEASE: i64 = -1;

impl<E: Engine> Api<E> {
    pub(super) async fn lease_grant(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::LeaseGrantRequest = decode(body)?;
        self.reply(
            self.server
                .lease_grant(caller, request.id, request.ttl)
                .await,
        )
    }

    pub(super) async fn lease_revoke(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let request: wire::LeaseRevokeRequest = decode(body)?;
        self.reply(self.server.lease_revoke(caller, request.id).await)
    }

    pub(super) async fn lease_time_to_live(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let request: wire::LeaseTimeToLiveRequest = decode(body)?;
        let told = self
            .server
            .lease_time_to_live(caller, request.id, request.keys)
            .await
            .map_err(status)?;
        let mut reply = wire::LeaseTimeToLiveResponse {
            header: Some(self.header_now()),
            id: request.id,
            ttl: NO_LEASE,
            ..Default::default()
        };
        if let Some(told) = told {
            reply.ttl = told.remaining;
            reply.granted_ttl = told.granted;
            reply.keys = told.keys;
        }
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn lease_leases(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let _: wire::LeaseLeasesRequest = decode(body)?;
        let leases = self.server.leases(caller).await.map_err(status)?;
        let reply = wire::LeaseLeasesResponse {
            header: Some(self.header_now()),
            leases: leases
                .into_iter()
                .map(|id| wire::LeaseStatus { id })
                .collect(),
        };
        Ok(reply.encode_to_vec().into())
    }

    /// `Lease/LeaseKeepAlive`: ends when the client's side has ended and is
    /// answered, or with the first failure.
    pub(super) fn lease_keep_alive(
        &self,
        caller: Caller,
        requests: Messages,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let (answers, receiver) = mpsc::channel(limits::LEASE_KEEPALIVES);
        let api = self.clone();
        answering(answers.clone(), async move {
            let ended = tokio::select! {
                ended = api.keep_alives(&caller, requests, &answers) => ended,
                () = api.server.leader_lost(), if caller.require_leader => Err(status(Error::NoLeader)),
                () = api.server.ending() => Err(status(Error::Stopped)),
                () = answers.closed() => Ok(()),
            };
            if let Err(status) = ended {
                // A client that went away asks no more.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(receiver)
    }

    async fn keep_alives(
        &self,
        caller: &Caller,
        mut requests: Messages,
        answers: &mpsc::Sender<Result<Bytes, Status>>,
    ) -> Result<(), Status> {
        let mut renewals = FuturesOrdered::new();
        let mut open = true;
        while open || !renewals.is_empty() {
            tokio::select! {
                request = requests.next(), if open && renewals.len() < limits::LEASE_KEEPALIVES => {
                    match request? {
                        Some(request) => renewals.push_back(self.renew(caller, request)),
                        None => open = false,
                    }
                }
                Some(renewed) = renewals.next() => {
                    if answers.send(Ok(renewed?)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn renew(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Status> {
        let request: wire::LeaseKeepAliveRequest = decode(request)?;
        // The revision of before: a client that sees a later one must not take
        // the lease to have been alive then.
        let header = self.header_now();
        let ttl = self
            .server
            .lease_keep_alive(caller, request.id)
            .await
            .map_err(status)?;
        let reply = wire::LeaseKeepAliveResponse {
            header: Some(header),
            id: request.id,
            ttl: ttl.unwrap_or(0),
        };
        Ok(framed(&reply.encode_to_vec()))
    }
}
