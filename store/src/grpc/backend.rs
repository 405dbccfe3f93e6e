//! Calls carried out, whichever way they came: by gRPC, or as JSON by HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response};
use mizzen_engine::Engine;
use mizzen_h2::{Account, Budget};
use tonic::Status;

use super::{
    api::Api,
    calls::{Calls, Count},
    frame::{Messages, Source},
    framed::Framed,
    is_unary,
    methods::{self, Handler, METHODS, Method, Streaming},
    reply::{self, Reply},
    unknown,
};
use crate::{
    auth::{CallCredentials, Secret},
    limits,
    server::{Caller, Server, Turn},
};

/// What gateways from HTTP add to every call.
pub const GATEWAY: &str = "grpcgateway-accept";

/// Carries out calls.
pub struct Backend<E: Engine> {
    pub(super) api: Api<E>,
    pub(super) calls: &'static Calls,
    request_bytes: usize,
    progress_interval: Duration,
    budget: Arc<Budget>,
}

impl<E: Engine> Clone for Backend<E> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            calls: self.calls,
            request_bytes: self.request_bytes,
            progress_interval: self.progress_interval,
            budget: self.budget.clone(),
        }
    }
}

/// Bytes that one call makes a member hold, given back when dropped.
pub struct HeldBytes {
    account: Arc<Account>,
    bytes: usize,
}

impl HeldBytes {
    /// Holds so many bytes from now on; false: there is no memory for more.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) if !self.account.take(more) => return false,
            Some(_) => {}
            None => self.account.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

/// What a call's metadata and its connection say of the caller. Calls have few
/// headers: one look at each costs less than asking for those that matter.
pub(super) fn caller(metadata: &HeaderMap, common_name: Option<&Arc<str>>) -> Caller {
    let (mut token, mut authorization, mut has_leader) = (None, None, None);
    let mut gateway = false;
    for (name, value) in metadata {
        // Of a header that comes twice the first counts.
        match name.as_str() {
            "token" => _ = token.get_or_insert(value),
            "authorization" => _ = authorization.get_or_insert(value),
            "hasleader" => _ = has_leader.get_or_insert(value),
            GATEWAY => gateway = true,
            _ => {}
        }
    }
    Caller {
        require_leader: has_leader.is_some_and(|value| value == "true"),
        credentials: CallCredentials {
            // What is no text is nobody's token.
            token: token.or(authorization).map(|value| {
                let text = value.to_str().unwrap_or_default();
                Secret::new(text.strip_prefix("Bearer ").unwrap_or(text))
            }),
            // A gateway's certificate says nothing of whom it calls for.
            certificate: match gateway {
                true => None,
                false => common_name.cloned(),
            },
        },
        turn: Turn::default(),
    }
}

impl<E: Engine> Backend<E> {
    /// `progress_interval` is how often idle watches are told that they miss
    /// nothing, if they asked for it. What calls hold outside of connections is
    /// paid from `budget`.
    pub fn new(
        server: Arc<Server<E>>,
        calls: &'static Calls,
        request_bytes: usize,
        progress_interval: Duration,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            api: Api::new(server),
            calls,
            request_bytes,
            progress_interval,
            budget,
        }
    }

    /// A message of a request, with what may be around it.
    pub fn message_bytes(&self) -> usize {
        self.request_bytes + limits::GRPC_OVERHEAD_BYTES
    }

    /// For one call, which holds nothing yet.
    pub fn held(&self) -> HeldBytes {
        HeldBytes {
            account: Account::new(self.budget.clone()),
            bytes: 0,
        }
    }

    /// Whether users and passwords are asked for.
    pub fn auth_enabled(&self) -> bool {
        self.api.server.published().auth.is_enabled()
    }

    /// Whether `path` has one request and one reply.
    pub fn is_unary(path: &str) -> bool {
        is_unary(path)
    }

    /// A unary call.
    pub(super) async fn unary(
        &self,
        path: &str,
        caller: &Caller,
        message: Result<Bytes, Status>,
    ) -> Result<Framed, Status> {
        let number = methods::number_of(path);
        let mut call = number.map(|number| self.calls.begin(number));
        let result = async {
            let message = message?;
            if let Some(call) = &call {
                call.count().received(message.len());
            }
            let method = number.map(|number| &METHODS[number]);
            let method = method.ok_or_else(|| unknown(path))?;
            let Handler::Unary(unary) = method.handler else {
                return Err(unknown(path));
            };
            self.api.admit(method, caller, Some(&message)).await?;
            self.api.unary(unary, caller, message).await
        }
        .await;
        if let Some(call) = &mut call {
            call.end_with(result.as_ref().map(Framed::message_bytes));
        }
        result
    }

    /// A unary call that has come otherwise than by gRPC.
    pub async fn call(
        &self,
        path: &str,
        metadata: &HeaderMap,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let caller = caller(metadata, None);
        let message = match message.len() > self.message_bytes() {
            true => Err(super::frame::too_large(message.len(), self.message_bytes())),
            false => Ok(message),
        };
        let reply = self.unary(path, &caller, message).await?;
        Ok(reply.into_message())
    }

    /// A call with many messages that has come otherwise than by gRPC: the
    /// messages of the reply with their prefixes, then how it ended, in trailers.
    pub async fn stream_call(
        &self,
        path: &str,
        metadata: &HeaderMap,
        requests: Source,
    ) -> Result<Reply, Status> {
        let caller = caller(metadata, None);
        let response = self.stream(path, caller, requests).await;
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(status),
            None => Ok(response.into_body()),
        }
    }

    /// A call that is not unary.
    pub(super) async fn stream(
        &self,
        path: &str,
        caller: Caller,
        requests: Source,
    ) -> Response<Reply> {
        let Some(number) = methods::number_of(path) else {
            return reply::refused(&unknown(path));
        };
        let call = self.calls.begin(number);
        let begun = self.begin(&METHODS[number], caller, requests, call.count());
        let response = match begun.await {
            Ok(response) => response,
            Err(refusal) => reply::refused(&refusal),
        };
        reply::counted(response, call)
    }

    async fn begin(
        &self,
        method: &Method,
        caller: Caller,
        requests: Source,
        count: Count,
    ) -> Result<Response<Reply>, Status> {
        self.api.admit(method, &caller, None).await?;
        let Handler::Stream(call) = method.handler else {
            return Err(unknown(method.path));
        };
        let (api, limit) = (&self.api, self.message_bytes());
        let requests = Messages::new(requests, limit).counted(count);
        Ok(reply::stream(match call {
            Streaming::Watch => {
                let watching = api.watch(caller, requests, limit, self.progress_interval);
                return Ok(reply::watch(watching));
            }
            Streaming::LeaseKeepAlive => api.lease_keep_alive(caller, requests),
            Streaming::RangeStream => api.range_stream(&caller, requests.only().await?).await,
            Streaming::Snapshot => api.snapshot(&caller, requests.only().await?).await,
            Streaming::Observe => api.observe(&caller, requests.only().await?).await,
        }))
    }
}
