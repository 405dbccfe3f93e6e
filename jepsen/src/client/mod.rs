//! Clients: one connection to one member each, every call recorded.
//!
//! A client never retries and never moves to another member, so one recorded
//! operation is one request that the server saw at most once.

pub mod auth;
pub mod outcome;
pub mod rest;
pub mod stats;
pub mod wire;

use crate::clock::Clock;
use crate::cluster::View;
use crate::cluster::certificates::Certificates;
pub use crate::cluster::certificates::Holder;
use crate::history::file::Sink;
use crate::history::op::{FailClass, LeaseReq, Load, Op, Outcome, Reply, Request};
use crate::history::record::Record;
use anyhow::{Context, Result};
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::auth_client::AuthClient;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use mizzen_proto::v3lockpb;
use mizzen_proto::v3lockpb::lock_client::LockClient;
use stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

const CONNECT: Duration = Duration::from_secs(1);
/// Scans of a whole run fit; tonic's default of 4 MiB is too small for them.
const MAX_REPLY: usize = 256 << 20;

/// What all clients of a run share.
pub struct Bench {
    pub clock: Clock,
    pub view: Arc<View>,
    pub sink: Sink,
    pub stats: Arc<Stats>,
    /// How long a client waits for a reply.
    pub timeout: Duration,
    /// Of a cluster that speaks TLS.
    pub certificates: Option<Certificates>,
    next_op: AtomicU64,
}

impl Bench {
    pub fn new(
        clock: Clock,
        view: Arc<View>,
        sink: Sink,
        stats: Arc<Stats>,
        timeout: Duration,
        certificates: Option<Certificates>,
    ) -> Bench {
        Bench {
            clock,
            view,
            sink,
            stats,
            timeout,
            certificates,
            next_op: AtomicU64::new(0),
        }
    }

    /// A connection to a member, made when it is first used and again after
    /// it broke. Where there are users it is root's.
    pub fn channel(&self, member: usize) -> Result<Channel> {
        self.channel_of(member, Holder::Root)
    }

    /// The same of whoever shows this certificate, if the members ask for one.
    pub fn channel_of(&self, member: usize, holder: Holder) -> Result<Channel> {
        let url = self
            .view
            .urls
            .get(member)
            .with_context(|| format!("no member {member}"))?;
        let endpoint = Endpoint::from_shared(url.clone())?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true);
        Ok(match &self.certificates {
            Some(certificates) => certificates.connect(&endpoint, holder),
            None => endpoint.connect_lazy(),
        })
    }
}

pub struct Client {
    pub id: u32,
    member: usize,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    lock: LockClient<Channel>,
    auth: AuthClient<Channel>,
    session: Option<auth::Session>,
    bench: Arc<Bench>,
}

impl Client {
    pub fn new(bench: &Arc<Bench>, id: u32, member: usize) -> Result<Client> {
        Client::of(bench, id, member, Holder::Root)
    }

    /// A client that shows this certificate.
    pub fn of(bench: &Arc<Bench>, id: u32, member: usize, holder: Holder) -> Result<Client> {
        let channel = bench.channel_of(member, holder)?;
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(MAX_REPLY);
        Ok(Client {
            id,
            member,
            kv,
            lease: LeaseClient::new(channel.clone()),
            lock: LockClient::new(channel.clone()),
            auth: AuthClient::new(channel),
            session: None,
            bench: Arc::clone(bench),
        })
    }

    pub fn bench(&self) -> &Arc<Bench> {
        &self.bench
    }

    pub fn member(&self) -> usize {
        self.member
    }

    /// The highest revision that any client has seen.
    pub fn head(&self) -> i64 {
        self.bench.stats.head()
    }

    /// Sends one request, records it and returns what came of it.
    pub async fn call(&mut self, load: Load, req: Request) -> Outcome {
        let patience = self.bench.timeout;
        self.call_within(load, req, patience).await
    }

    pub async fn call_within(&mut self, load: Load, req: Request, patience: Duration) -> Outcome {
        let bench = Arc::clone(&self.bench);
        let id = bench.next_op.fetch_add(1, Ordering::Relaxed);
        let incarnation = bench.view.incarnation(self.member);
        let login = self.login().cloned();
        let start = bench.clock.now();
        let out = match tokio::time::timeout(patience, self.send(&req)).await {
            Ok(Ok((rev, reply))) => Outcome::Ok { rev, reply },
            Ok(Err(status)) => outcome::classify(&status, req.is_read()),
            Err(_) if req.is_read() => Outcome::Fail {
                class: FailClass::Read,
                error: "client timeout".into(),
            },
            Err(_) => Outcome::Unknown {
                error: "client timeout".into(),
            },
        };
        let end = bench.clock.now();
        let op = Op {
            id,
            client: self.id,
            member: self.member,
            incarnation,
            load,
            start,
            end,
            req,
            out: out.clone(),
            login,
        };
        bench.stats.count(&op);
        bench.sink.record(Record::Op(op)).await;
        out
    }

    async fn send(&mut self, req: &Request) -> Result<(i64, Reply), Status> {
        match req {
            Request::Range(r) => {
                let (rev, reply) = open(
                    self.kv
                        .range(auth::signed(&self.session, wire::range_request(r)))
                        .await?,
                    |r| r.header.as_ref(),
                );
                Ok((rev, Reply::Range(wire::range_reply(reply))))
            }
            Request::Put(r) => {
                let (rev, reply) = open(
                    self.kv
                        .put(auth::signed(&self.session, wire::put_request(r)))
                        .await?,
                    |r| r.header.as_ref(),
                );
                Ok((rev, Reply::Put(wire::put_reply(reply))))
            }
            Request::Delete(r) => {
                let (rev, reply) = open(
                    self.kv
                        .delete_range(auth::signed(&self.session, wire::delete_request(r)))
                        .await?,
                    |r| r.header.as_ref(),
                );
                Ok((rev, Reply::Delete(wire::delete_reply(reply))))
            }
            Request::Txn(t) => {
                let (rev, reply) = open(
                    self.kv
                        .txn(auth::signed(&self.session, wire::txn_request(t)))
                        .await?,
                    |r| r.header.as_ref(),
                );
                Ok((rev, wire::txn_reply(reply)))
            }
            Request::Compact { rev } => {
                let request = pb::CompactionRequest {
                    revision: *rev,
                    ..pb::CompactionRequest::default()
                };
                let (rev, _) = open(self.kv.compact(request).await?, |r| r.header.as_ref());
                Ok((rev, Reply::Compact))
            }
            Request::Lease(request) => self.lease(request).await,
            Request::Auth(request) => self.change_users(request).await,
            Request::Lock { name, lease } => {
                let request = v3lockpb::LockRequest {
                    name: name.clone().into_bytes().into(),
                    lease: *lease,
                };
                let (rev, reply) = open(self.lock.lock(request).await?, |r| r.header.as_ref());
                let key = wire::text(&reply.key);
                Ok((rev, Reply::Locked { key }))
            }
            Request::Unlock { key } => {
                let request = v3lockpb::UnlockRequest {
                    key: key.clone().into_bytes().into(),
                };
                let (rev, _) = open(self.lock.unlock(request).await?, |r| r.header.as_ref());
                Ok((rev, Reply::Unlocked))
            }
        }
    }

    async fn lease(&mut self, request: &LeaseReq) -> Result<(i64, Reply), Status> {
        match *request {
            LeaseReq::Grant { id, ttl } => {
                let request = pb::LeaseGrantRequest { id, ttl };
                let reply = self.lease.lease_grant(request).await?;
                let (rev, reply) = open(reply, |r| r.header.as_ref());
                Ok((rev, Reply::Lease { ttl: reply.ttl }))
            }
            LeaseReq::Renew { id } => {
                // A stream for one request: whatever comes first is its answer.
                let request = pb::LeaseKeepAliveRequest { id };
                let stream = tokio_stream::once(request).chain(tokio_stream::pending());
                let mut replies = self.lease.lease_keep_alive(stream).await?.into_inner();
                let reply = replies
                    .message()
                    .await?
                    .ok_or_else(|| Status::unavailable("the stream ended"))?;
                let rev = reply.header.map_or(0, |h| h.revision);
                Ok((rev, Reply::Lease { ttl: reply.ttl }))
            }
            LeaseReq::Revoke { id } => {
                let reply = self
                    .lease
                    .lease_revoke(pb::LeaseRevokeRequest { id })
                    .await?;
                let (rev, _) = open(reply, |r| r.header.as_ref());
                Ok((rev, Reply::Lease { ttl: 0 }))
            }
        }
    }
}

/// A reply and its header revision; zero when the header is missing, which no
/// checker accepts.
fn open<T>(response: Response<T>, header: impl Fn(&T) -> Option<&pb::ResponseHeader>) -> (i64, T) {
    let reply = response.into_inner();
    let rev = header(&reply).map_or(0, |h| h.revision);
    (rev, reply)
}
