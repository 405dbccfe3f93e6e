//! The Lock and Election services.

use bytes::Bytes;
use mizzen_engine::Engine;
use mizzen_proto::{etcdserverpb as wire, v3electionpb as election, v3lockpb as lock};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{
    answering,
    api::Api,
    frame::{decode, framed},
    framed::Framed,
    status::status,
};
use crate::{
    concurrency::{self, Announcement, Error, Leadership, Session},
    limits,
    server::{self, Caller},
    workers,
};

/// A session that only looks needs no lease. etcd's services take -1 too.
const NO_LEASE: i64 = -1;

/// etcd's services are clients of their own server, and what such a client is
/// refused with goes out without its code.
fn refused(error: Error) -> Status {
    Status::unknown(error.to_string())
}

fn missing_leader() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

fn encoded(reply: &impl Message) -> Framed {
    reply.encode_to_vec().into()
}

/// Carries `work` on to its end even if the caller goes away: it is told, and
/// takes back what it began.
async fn attended<E, W>(
    api: &Api<E>,
    work: impl FnOnce(Api<E>, oneshot::Receiver<()>) -> W,
) -> Result<Framed, Status>
where
    E: Engine,
    W: Future<Output = Result<Option<Framed>, Status>> + Send + 'static,
{
    // Dropped with this future: that says that the caller has gone.
    let (_here, gone) = oneshot::channel();
    match workers::detached(work(api.clone(), gone)).await {
        Ok(Ok(Some(reply))) => Ok(reply),
        Ok(Ok(None)) | Err(_) => Err(status(server::Error::Stopped)),
        Ok(Err(status)) => Err(status),
    }
}

impl<E: Engine> Api<E> {
    fn header_at(&self, revision: i64) -> Option<wire::ResponseHeader> {
        Some(wire::ResponseHeader {
            revision,
            ..self.header()
        })
    }

    async fn session(&self, caller: &Caller, lease: i64) -> Result<Session<E>, Status> {
        Session::new(self.server.clone(), caller.clone(), lease)
            .await
            .map_err(refused)
    }

    /// When the caller has gone, or this member is about to go.
    async fn abandoned(self, gone: oneshot::Receiver<()>) {
        tokio::select! {
            _ = gone => {}
            () = self.server.ending() => {}
        }
    }

    pub(super) async fn lock(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: lock::LockRequest = decode(body)?;
        let caller = caller.clone();
        attended(self, move |api, gone| async move {
            let session = api.session(&caller, request.lease).await?;
            let locked =
                concurrency::lock(&session, &request.name, api.clone().abandoned(gone)).await;
            Ok(locked.map_err(refused)?.map(|locked| {
                encoded(&lock::LockResponse {
                    header: api.header_at(locked.revision),
                    key: locked.key,
                })
            }))
        })
        .await
    }

    pub(super) async fn unlock(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: lock::UnlockRequest = decode(body)?;
        let revision = concurrency::unlock(&self.server, caller, request.key)
            .await
            .map_err(refused)?;
        Ok(encoded(&lock::UnlockResponse {
            header: self.header_at(revision),
        }))
    }

    pub(super) async fn campaign(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: election::CampaignRequest = decode(body)?;
        let caller = caller.clone();
        attended(self, move |api, gone| async move {
            let session = api.session(&caller, request.lease).await?;
            let gone = api.clone().abandoned(gone);
            let elected = concurrency::campaign(&session, &request.name, request.value, gone).await;
            Ok(elected.map_err(refused)?.map(|(revision, leadership)| {
                encoded(&election::CampaignResponse {
                    header: api.header_at(revision),
                    leader: Some(election::LeaderKey {
                        name: request.name,
                        key: leadership.key,
                        rev: leadership.created,
                        lease: session.lease(),
                    }),
                })
            }))
        })
        .await
    }

    pub(super) async fn proclaim(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: election::ProclaimRequest = decode(body)?;
        let leader = request.leader.ok_or_else(missing_leader)?;
        let session = self.session(caller, leader.lease).await?;
        let revision = concurrency::proclaim(&session, &leadership(leader), request.value)
            .await
            .map_err(refused)?;
        Ok(encoded(&election::ProclaimResponse {
            header: self.header_at(revision),
        }))
    }

    pub(super) async fn resign(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: election::ResignRequest = decode(body)?;
        let leader = request.leader.ok_or_else(missing_leader)?;
        let session = self.session(caller, leader.lease).await?;
        let revision = concurrency::resign(&session, &leadership(leader))
            .await
            .map_err(refused)?;
        Ok(encoded(&election::ResignResponse {
            header: self.header_at(revision),
        }))
    }

    pub(super) async fn leader(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: election::LeaderRequest = decode(body)?;
        let session = self.session(caller, NO_LEASE).await?;
        let announced = concurrency::leader(&session, &request.name)
            .await
            .map_err(refused)?;
        Ok(encoded(&self.announcement(announced)))
    }

    fn announcement(&self, announced: Announcement) -> election::LeaderResponse {
        election::LeaderResponse {
            header: self.header_at(announced.revision),
            kv: Some(announced.kv),
        }
    }

    /// `Election/Observe`, until the client goes away.
    pub(super) async fn observe(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let request: election::LeaderRequest = decode(body)?;
        let session = self.session(caller, NO_LEASE).await?;
        let (messages, receiver) = mpsc::channel(1);
        let (listener, mut announced) = mpsc::channel(limits::OBSERVED);
        let api = self.clone();
        answering(messages.clone(), async move {
            let observe = concurrency::observe(&session, &request.name, &listener);
            let forward = async {
                while let Some(next) = announced.recv().await {
                    let message = framed(&api.announcement(next).encode_to_vec());
                    if messages.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            };
            let ended = tokio::select! {
                observed = observe => observed.map_err(refused),
                () = forward => Ok(()),
                () = messages.closed() => Ok(()),
                () = api.server.ending() => Err(status(server::Error::Stopped)),
            };
            if let Err(status) = ended {
                // A client that went away wants no reason.
                let _ = messages.send(Err(status)).await;
            }
        });
        Ok(receiver)
    }
}

fn leadership(key: election::LeaderKey) -> Leadership {
    Leadership {
        key: key.key,
        created: key.rev,
    }
}
