//! `Watch/Watch`: requests to watches, and what watches tell as wire bytes.
//!
//! The response's body takes messages from the stream's queue whenever the
//! connection has room for them, as many as are ready in one piece; a client
//! that does not read leaves them there. A task of its own reads the requests.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use mizzen_core::auth::{By, Refusal};
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb::{self as wire, watch_request::RequestUnion};
use prost::Message as _;
use tokio::{task::JoinHandle, time::Instant};
use tonic::Status;

use super::{
    frame::{Messages, PREFIX, decode},
    status::status,
};
use crate::{
    limits,
    server::{Caller, Error, Server, UsersChanged},
    watch::{Changes, Create, End, Message, Span, WatchStream},
    workers,
};

/// The body of a watch's response.
pub struct WatchBody {
    stream: Arc<WatchStream>,
    header: Box<dyn Fn() -> wire::ResponseHeader + Send>,
    /// Events of a response that may be split are sent in pieces of this many
    /// bytes.
    fragment_bytes: usize,
    requests: JoinHandle<()>,
}

impl Drop for WatchBody {
    fn drop(&mut self) {
        self.requests.abort();
    }
}

/// Begins a stream of watches whose requests come in `requests`.
pub fn watch<E>(
    server: &Arc<Server<E>>,
    header: impl Fn() -> wire::ResponseHeader + Send + 'static,
    caller: Caller,
    requests: Messages,
    fragment_bytes: usize,
    progress_interval: Duration,
) -> Result<WatchBody, Status>
where
    E: Engine,
{
    let stream = Arc::new(server.watch(&caller).map_err(status)?);
    let (server, listener) = (server.clone(), stream.clone());
    let requests = workers::detached(async move {
        let _end = EndOfPanic(listener.clone());
        let lost = async {
            match caller.require_leader {
                true => server.leader_lost().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lost => listener.end(End::NoLeader),
            () = tick(&listener, progress_interval) => {}
            end = listen(&server, &caller, &listener, requests) => if let Some(end) = end {
                listener.end(end);
            },
        }
    });
    Ok(WatchBody {
        stream,
        header: Box::new(header),
        fragment_bytes,
        requests,
    })
}

/// Ends a stream whose requests nobody reads any more because of a panic.
struct EndOfPanic(Arc<WatchStream>);

impl Drop for EndOfPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(End::Stopped);
        }
    }
}

/// Reports progress now and then. Intervals differ by up to a tenth, so that
/// streams made together do not report together.
async fn tick(stream: &WatchStream, interval: Duration) {
    let interval = interval.mul_f64(1.0 + rand::random::<f64>() / 10.0);
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stream.tick();
    }
}

/// Carries out requests until there can be no more. A client that has only
/// said all it has to say goes on being told.
async fn listen<E: Engine>(
    server: &Server<E>,
    caller: &Caller,
    stream: &WatchStream,
    mut requests: Messages,
) -> Option<End> {
    let mut audience = Audience::new(server, caller, stream);
    loop {
        let next = async {
            stream.room().await;
            requests.next().await
        };
        let request = tokio::select! {
            request = next => match request {
                Ok(Some(request)) => decode::<wire::WatchRequest>(request),
                Ok(None) => loop {
                    audience.changed.next().await;
                    audience.look_again();
                },
                Err(refusal) => Err(refusal),
            },
            () = audience.changed.next() => {
                audience.look_again();
                continue;
            }
        };
        match request {
            Ok(request) => carry_out(&mut audience, request.request_union).await,
            Err(refusal) => return Some(End::Invalid(refusal.message().to_owned())),
        }
    }
}

/// Who the watches of a stream are for, and whether it still may have them.
struct Audience<'a, E: Engine> {
    server: &'a Server<E>,
    caller: &'a Caller,
    stream: &'a WatchStream,
    by: By,
    changed: UsersChanged,
    /// The users by which the watches were looked at.
    users: (bool, u64),
}

impl<'a, E: Engine> Audience<'a, E> {
    fn new(server: &'a Server<E>, caller: &'a Caller, stream: &'a WatchStream) -> Self {
        Self {
            server,
            caller,
            stream,
            by: By::Nobody,
            changed: server.users_changed(),
            users: server.users_revision(),
        }
    }

    /// Makes a watch, or says why the client may not have it.
    async fn create(&mut self, create: &Create) {
        let (key, range_end) = asked(&create.span);
        // etcd looks at the revision first.
        if create.start >= 0 {
            match self.server.permit_read(self.caller, key, range_end).await {
                Ok(by) => self.by = by,
                Err(refusal) => return self.stream.refuse(reason(&refusal)),
            }
        }
        self.stream.create(create);
    }

    /// After a change of users, ends what the client may not see any more.
    fn look_again(&mut self) {
        let users = self.server.users_revision();
        if std::mem::replace(&mut self.users, users) == users {
            return;
        }
        self.stream.revoke(|span| {
            let (key, range_end) = asked(span);
            let seen = self.server.still_reads(&self.by, key, range_end);
            seen.err().map(|refusal| reason(&refusal))
        });
    }
}

/// A span as a request has it.
fn asked(span: &Span) -> (&[u8], &[u8]) {
    match span {
        Span::Key(key) => (key, &[]),
        Span::Keys { from, to: None } => (from, &[0]),
        Span::Keys { from, to: Some(to) } => (from, to),
    }
}

/// Why there is no watch, as etcd's server prints it for its clients.
fn reason(error: &Error) -> &'static str {
    match error {
        Error::Refused(mizzen_core::Error::Auth(Refusal::InvalidToken)) => {
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        }
        Error::Refused(mizzen_core::Error::Auth(Refusal::OldRevision)) => {
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old"
        }
        Error::Refused(mizzen_core::Error::Auth(Refusal::UserEmpty)) => {
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
        }
        _ => "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    }
}

async fn carry_out<E: Engine>(audience: &mut Audience<'_, E>, request: Option<RequestUnion>) {
    let stream = audience.stream;
    match request {
        Some(RequestUnion::CreateRequest(request)) => audience.create(&create(request)).await,
        Some(RequestUnion::CancelRequest(request)) => stream.cancel(request.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(),
        // From a newer client; etcd goes on as well.
        None => {}
    }
}

fn create(request: wire::WatchCreateRequest) -> Create {
    use wire::watch_create_request::FilterType;
    let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
    let (no_put, no_delete) = (filtered(FilterType::Noput), filtered(FilterType::Nodelete));
    let key = if request.key.is_empty() {
        // The smallest key there can be.
        Bytes::from_static(&[0])
    } else {
        request.key
    };
    let span = match &request.range_end[..] {
        [] => Span::Key(key),
        [0] => Span::Keys {
            from: key,
            to: None,
        },
        _ => Span::Keys {
            from: key,
            to: Some(request.range_end),
        },
    };
    Create {
        id: request.watch_id,
        span,
        start: request.start_revision,
        prev_kv: request.prev_kv,
        progress: request.progress_notify,
        fragment: request.fragment,
        no_put,
        no_delete,
    }
}

impl WatchBody {
    /// Responses with their prefixes, all that are ready up to a bound; `Err`
    /// is the end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let messages = match std::task::ready!(self.stream.poll(cx, limits::WATCH_CHUNK_BYTES)) {
            Ok(messages) => messages,
            Err(end) => {
                return Poll::Ready(Err(match end {
                    End::NoLeader => status(Error::NoLeader),
                    End::Stopped => status(Error::Stopped),
                    End::Invalid(reason) => Status::internal(reason),
                }));
            }
        };
        let mut writer = Writer {
            out: BytesMut::with_capacity(limits::WATCH_CHUNK_BYTES),
            head: wire::WatchResponse {
                header: Some((self.header)()),
                ..Default::default()
            },
            fragment_bytes: self.fragment_bytes,
        };
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let Message::Changes(changes) = message else {
                writer.control(&message);
                continue;
            };
            // Revisions that follow each other for one watch go together.
            let mut run = vec![changes];
            while let Some(Message::Changes(next)) = messages.next_if(|next| {
                matches!(next, Message::Changes(next) if Arc::ptr_eq(&next.watch, &run[0].watch))
            }) {
                run.push(next);
            }
            writer.changes(&run);
        }
        Poll::Ready(Ok(writer.out.freeze()))
    }
}

struct Writer {
    out: BytesMut,
    /// What all responses have in common.
    head: wire::WatchResponse,
    fragment_bytes: usize,
}

impl Writer {
    fn head(&self, watch_id: i64, revision: i64) -> wire::WatchResponse {
        let mut head = self.head.clone();
        head.watch_id = watch_id;
        if let Some(header) = &mut head.header {
            header.revision = revision;
        }
        head
    }

    fn control(&mut self, message: &Message) {
        let response = match message {
            Message::Created { id, revision } => wire::WatchResponse {
                created: true,
                ..self.head(*id, *revision)
            },
            Message::Refused { revision, reason } => wire::WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: (*reason).to_owned(),
                ..self.head(crate::watch::ALL_WATCHES, *revision)
            },
            Message::Revoked {
                id,
                revision,
                reason,
            } => wire::WatchResponse {
                canceled: true,
                cancel_reason: (*reason).to_owned(),
                ..self.head(*id, *revision)
            },
            Message::Canceled { id, revision } => wire::WatchResponse {
                canceled: true,
                ..self.head(*id, *revision)
            },
            // etcd's has no revision in its header.
            Message::Compacted { id, floor } => wire::WatchResponse {
                canceled: true,
                compact_revision: *floor,
                ..self.head(*id, 0)
            },
            Message::TooLarge { id, revision } => wire::WatchResponse {
                canceled: true,
                cancel_reason: format!(
                    "mizzen: revision {revision} changed more than a watch can be told at once"
                ),
                ..self.head(*id, *revision)
            },
            Message::Progress { id, revision } => self.head(*id, *revision),
            Message::Changes(changes) => return self.changes(std::slice::from_ref(changes)),
        };
        self.response(&response, &[]);
    }

    /// Changes of one watch, in one response or, if the client can put them
    /// together, in several.
    fn changes(&mut self, run: &[Changes]) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        let mut head = self.head(first.watch.id, last.revision());
        let events: Vec<&Bytes> = run.iter().flat_map(Changes::encoded).collect();
        let mut rest = &events[..];
        if first.watch.fragment {
            head.fragment = true;
            loop {
                let fit = self.fit(&head, rest);
                if fit == rest.len() {
                    break;
                }
                let (piece, more) = rest.split_at(fit);
                self.response(&head, piece);
                rest = more;
            }
            head.fragment = false;
        }
        self.response(&head, rest);
    }

    /// How many events stay below the bound together; at least one.
    fn fit(&self, head: &wire::WatchResponse, events: &[&Bytes]) -> usize {
        let mut bytes = head.encoded_len();
        let over = events.iter().position(|event| {
            bytes += event.len();
            bytes >= self.fragment_bytes
        });
        over.map_or(events.len(), |over| over.max(1))
    }

    fn response(&mut self, head: &wire::WatchResponse, events: &[&Bytes]) {
        let len = head.encoded_len() + events.iter().map(|event| event.len()).sum::<usize>();
        self.out.reserve(PREFIX + len);
        self.out.put_u8(0);
        // Bounded far below 4 GiB; see limits::REPLY_BYTES.
        self.out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        head.encode(&mut self.out)
            .expect("a growing buffer has room");
        for event in events {
            self.out.put_slice(event);
        }
    }
}
