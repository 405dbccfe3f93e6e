//! One watch of a range of keys.

use bytes::Bytes;
use mizzen_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_client::WatchClient, watch_request,
    },
    mvccpb,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::MetadataValue, transport::Channel};

use super::{StoreError, prefix_end, sealed::Sealing};
use crate::limits;

/// One change of a key.
#[derive(Debug)]
pub struct Change {
    pub key: Bytes,
    /// The new value; `None` when the key was deleted.
    pub value: Option<Bytes>,
    pub revision: i64,
}

/// Changes, and the revision up to which there are no others.
#[derive(Debug)]
pub struct Batch {
    pub changes: Vec<Change>,
    pub revision: i64,
}

/// An open watch.
pub struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    replies: Streaming<WatchResponse>,
    sealing: Sealing,
}

impl Watch {
    pub(super) async fn open(
        channel: Channel,
        prefix: &str,
        start: i64,
        sealing: Sealing,
    ) -> Result<Self, StoreError> {
        // The one creation, and asks for progress: one that finds no room is
        // covered by the one waiting.
        let (requests, receiver) = mpsc::channel(2);
        let create = watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
            start_revision: start,
            progress_notify: true,
            ..WatchCreateRequest::default()
        });
        let request = WatchRequest {
            request_union: Some(create),
        };
        requests
            .try_send(request)
            .map_err(|_| StoreError::Other("a new queue is full".to_owned()))?;
        let mut call = Request::new(ReceiverStream::new(receiver));
        // A member without a leader ends the watch instead of starving it.
        call.metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
        let mut client =
            WatchClient::new(channel).max_decoding_message_size(limits::REPLY_BYTES_MAX);
        let reply = client
            .watch(call)
            .await
            .map_err(|status| StoreError::of(&status, start))?;
        Ok(Self {
            requests,
            replies: reply.into_inner(),
            sealing,
        })
    }

    /// Asks the store to say how far this watch is.
    pub fn ask_progress(&self) {
        let ask = watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {});
        let _ = self.requests.try_send(WatchRequest {
            request_union: Some(ask),
        });
    }

    fn opened(&self, mut change: Change) -> Result<Change, StoreError> {
        if let Some(value) = change.value.take() {
            change.value = Some(self.sealing.open(&change.key, value)?.value);
        }
        Ok(change)
    }

    /// The next changes. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            let reply = self
                .replies
                .message()
                .await
                .map_err(|status| StoreError::of(&status, 0))?;
            let Some(reply) = reply else {
                return Err(StoreError::Unavailable(
                    "the store ended the watch".to_owned(),
                ));
            };
            if reply.compact_revision > 0 {
                return Err(StoreError::Compacted);
            }
            if reply.canceled {
                return Err(StoreError::Unavailable(reply.cancel_reason));
            }
            // The reply to the creation tells the store's revision, not how
            // far this watch is.
            if reply.created {
                continue;
            }
            let revision = reply.header.map_or(0, |header| header.revision);
            return Ok(Batch {
                revision: batch_revision(&reply.events, revision),
                changes: reply
                    .events
                    .into_iter()
                    .filter_map(change)
                    .map(|change| self.opened(change))
                    .collect::<Result<_, _>>()?,
            });
        }
    }
}

/// A reply with events may be cut anywhere below the header's revision: only
/// one without says that nothing older is to come.
fn batch_revision(events: &[mvccpb::Event], header: i64) -> i64 {
    events
        .last()
        .and_then(|event| event.kv.as_ref())
        .map_or(header, |kv| kv.mod_revision)
}

fn change(event: mvccpb::Event) -> Option<Change> {
    let deleted = event.r#type() == mvccpb::event::EventType::Delete;
    let kv = event.kv?;
    Some(Change {
        key: kv.key,
        revision: kv.mod_revision,
        value: (!deleted).then_some(kv.value),
    })
}
