//! What happens to a key or under a prefix, from a revision on.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use mizzen_core::auth::By;
use mizzen_engine::Engine;
use mizzen_proto::{
    etcdserverpb::WatchResponse,
    mvccpb::{Event, event::EventType},
};
use prost::Message as _;

use super::Error;
use crate::{
    limits,
    server::{self, Caller, Server},
    watch::{Create, End, Message, Span, WatchStream},
};

pub struct Events<'a, E: Engine> {
    server: &'a Server<E>,
    by: By,
    /// Key and range_end, as in a request.
    asked: (Bytes, Bytes),
    stream: WatchStream,
}

pub fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}

impl<'a, E: Engine> Events<'a, E> {
    pub async fn of_key(
        server: &'a Server<E>,
        caller: &Caller,
        key: Bytes,
        start: i64,
    ) -> Result<Self, Error> {
        let asked = (key.clone(), Bytes::new());
        Self::new(server, caller, asked, Span::Key(key), start).await
    }

    pub async fn of_keys(
        server: &'a Server<E>,
        caller: &Caller,
        from: Bytes,
        to: Bytes,
        start: i64,
    ) -> Result<Self, Error> {
        let asked = (from.clone(), to.clone());
        let to = Some(to);
        Self::new(server, caller, asked, Span::Keys { from, to }, start).await
    }

    async fn new(
        server: &'a Server<E>,
        caller: &Caller,
        asked: (Bytes, Bytes),
        span: Span,
        start: i64,
    ) -> Result<Self, Error> {
        let by = server.permit_read(caller, &asked.0, &asked.1).await?;
        let stream = server.watch(caller)?;
        stream.create(&Create {
            id: 0,
            span,
            start,
            prev_kv: false,
            progress: false,
            fragment: false,
            no_put: false,
            no_delete: false,
        });
        Ok(Self {
            server,
            by,
            asked,
            stream,
        })
    }

    /// The next events, in order, at least one; `None` if some are compacted.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, Error> {
        loop {
            let messages = poll_fn(|cx| self.stream.poll(cx, limits::WATCH_CHUNK_BYTES)).await;
            let messages = messages.map_err(|end| match end {
                End::NoLeader => server::Error::NoLeader,
                End::Stopped | End::Invalid(_) => server::Error::Stopped,
            })?;
            let mut encoded = BytesMut::new();
            for message in messages {
                match message {
                    Message::Changes(changes) => changes
                        .encoded()
                        .for_each(|event| encoded.extend_from_slice(event)),
                    Message::Compacted { .. } | Message::TooLarge { .. } => return Ok(None),
                    Message::Refused { .. } => {
                        return Err(server::Error::TooManyRequests.into());
                    }
                    Message::Created { .. }
                    | Message::Canceled { .. }
                    | Message::Revoked { .. } => {}
                    Message::Progress { .. } => {}
                }
            }
            let events = WatchResponse::decode(encoded.freeze())
                .map_err(|error| server::Error::Failed(error.to_string()))?
                .events;
            if !events.is_empty() {
                // The caller may have lost the right while it waited.
                let (key, range_end) = &self.asked;
                self.server.still_reads(&self.by, key, range_end)?;
                return Ok(Some(events));
            }
        }
    }
}
