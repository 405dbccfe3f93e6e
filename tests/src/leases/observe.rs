//! Sees leases end: a watch on each member, resumed when it breaks. Sees
//! leaders take over: by asking the members for their status.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::watch_client::WatchClient;
use mizzen_proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::RETRY;
use super::book::{Book, PREFIX, PREFIX_END, Takeover, index_of};

/// Between two looks at who leads.
const LOOK: Duration = Duration::from_millis(50);

/// Watches one member for the ends of leases, until it is dropped.
pub async fn ends(book: Arc<Book>, member: Channel) {
    let mut from = 1;
    loop {
        // A broken stream is opened again where it ended.
        let _ended = follow(&book, &member, &mut from).await;
        sleep(RETRY).await;
    }
}

async fn follow(book: &Book, member: &Channel, from: &mut i64) -> Result<()> {
    let create = pb::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        start_revision: *from,
        filters: vec![pb::watch_create_request::FilterType::Noput as i32],
        ..pb::WatchCreateRequest::default()
    };
    let (requests, outgoing) = mpsc::channel(1);
    requests
        .send(pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        })
        .await?;
    let mut client = WatchClient::new(member.clone()).max_decoding_message_size(usize::MAX);
    let mut replies = client
        .watch(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    while let Some(reply) = replies.message().await? {
        for event in reply.events {
            let Some(kv) = event.kv else { continue };
            *from = (*from).max(kv.mod_revision + 1);
            if event.r#type == EventType::Delete as i32
                && let Some(index) = index_of(&kv.key)
            {
                book.gone(index);
            }
        }
    }
    Ok(())
}

/// Who led when.
#[derive(Clone, Default)]
pub struct Takeovers {
    /// The terms of leaders, with when each was first and last seen.
    seen: Arc<Mutex<Vec<(u64, Instant, Instant)>>>,
}

impl Takeovers {
    pub fn all(&self) -> Vec<Takeover> {
        let seen = self.seen.lock().expect("nobody panics in it");
        let changes = seen.windows(2).map(|pair| Takeover {
            gone: pair[0].2,
            taken: pair[1].1,
        });
        changes.collect()
    }

    /// Asks the members until it is dropped.
    pub async fn look(self, members: Vec<Channel>) {
        loop {
            for member in &members {
                let mut client = MaintenanceClient::new(member.clone());
                let asked = client.status(pb::StatusRequest {});
                if let Ok(Ok(reply)) = timeout(LOOK, asked).await {
                    let status = reply.into_inner();
                    let own = status.header.map(|header| header.member_id);
                    if own == Some(status.leader) {
                        self.note(status.raft_term);
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    fn note(&self, term: u64) {
        let now = Instant::now();
        let mut seen = self.seen.lock().expect("nobody panics in it");
        match seen.iter_mut().find(|(known, ..)| *known == term) {
            Some((_, _, last)) => *last = now,
            None => seen.push((term, now, now)),
        }
    }
}
