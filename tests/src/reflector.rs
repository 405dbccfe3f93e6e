//! A cache of the keys under a prefix, kept as kube-apiserver keeps its own:
//! listed in pages at one revision, then watched from the next one on, from
//! where it stands after every break, and listed anew when that is compacted.
//!
//! Knows the client API. Checks on the way whatever such a cache relies on: no
//! revision comes twice or out of order, every change fits what is cached, and
//! a list is never older than what was seen before.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::watch_client::WatchClient;
use mizzen_proto::etcdserverpb::{
    RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use mizzen_proto::mvccpb::{Event, KeyValue, event::EventType};
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// Keys of a page, kube-apiserver's number.
const PAGE: i64 = 500;
/// Requests of a stream on their way.
const REQUESTS: usize = 4;

/// What happened to a reflector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub events: u64,
    /// Lists that reached their end.
    pub lists: u64,
    /// Lists that began again, because the revision of their pages was compacted.
    pub lists_cut: u64,
    pub watches: u64,
    /// Watches that ended because what came next was compacted.
    pub compacted: u64,
    pub reports: u64,
    /// Events at exactly the compacted revision, which come without what was
    /// before.
    pub without_previous: u64,
}

/// The cache.
pub struct Reflector {
    prefix: Bytes,
    end: Bytes,
    cache: BTreeMap<Bytes, KeyValue>,
    /// Everything up to here is in the cache; 0: nothing was listed yet.
    revision: i64,
    /// To be listed before it is watched.
    stale: bool,
    pub counts: Counts,
}

/// Why a watch is over.
#[derive(Debug)]
pub enum Ended {
    /// The caller had enough.
    Enough,
    /// What comes next is compacted.
    Compacted,
    /// The member or the connection gave up.
    Broken(Status),
}

impl Reflector {
    /// `prefix` ends with a slash.
    pub fn new(prefix: &str) -> Self {
        let name = prefix.trim_end_matches('/');
        Self {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            end: format!("{name}0").into(),
            cache: BTreeMap::new(),
            revision: 0,
            stale: true,
            counts: Counts::default(),
        }
    }

    /// Everything up to here is in the cache.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What is cached, in the order of keys.
    pub fn cached(&self) -> impl Iterator<Item = &KeyValue> {
        self.cache.values()
    }

    /// Lists if it must, then watches until `enough` says so after a response;
    /// `wanted` asks for a report of progress whenever it gives something.
    /// `floor` is at least the newest compacted revision.
    ///
    /// # Errors
    /// The member broke a rule.
    pub async fn follow(
        &mut self,
        member: &Channel,
        wanted: &mut mpsc::Receiver<()>,
        floor: impl Fn() -> i64,
        mut enough: impl FnMut(&Self) -> bool,
    ) -> Result<Ended> {
        if self.stale
            && let Err(status) = self.list(member).await?
        {
            return Ok(Ended::Broken(status));
        }
        let (requests, mut responses) = match self.open(member).await {
            Ok(opened) => opened,
            Err(status) => return Ok(Ended::Broken(status)),
        };
        self.counts.watches += 1;
        let mut id = None;
        loop {
            if enough(self) {
                return Ok(Ended::Enough);
            }
            let response = tokio::select! {
                Some(()) = wanted.recv() => {
                    let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // One too many is left out; the next may find room.
                    let _ = requests.try_send(WatchRequest { request_union: Some(ask) });
                    continue;
                }
                response = responses.message() => response,
            };
            let response = match response {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(Ended::Broken(Status::unavailable("the stream ended"))),
                Err(status) => return Ok(Ended::Broken(status)),
            };
            if response.created {
                ensure!(id.is_none() && !response.canceled, "created: {response:?}");
                id = Some(response.watch_id);
                continue;
            }
            if response.canceled {
                ensure!(
                    response.compact_revision > self.revision + 1,
                    "canceled at revision {}: {response:?}",
                    self.revision
                );
                self.counts.compacted += 1;
                self.stale = true;
                return Ok(Ended::Compacted);
            }
            let own = Some(response.watch_id) == id;
            ensure!(own || response.watch_id == -1, "of no watch: {response:?}");
            self.take(response, &floor)?;
        }
    }

    async fn open(
        &self,
        member: &Channel,
    ) -> Result<(mpsc::Sender<WatchRequest>, Streaming<WatchResponse>), Status> {
        let create = WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: self.end.clone(),
            start_revision: self.revision + 1,
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let (requests, mut outbound) = mpsc::channel(REQUESTS);
        let create = RequestUnion::CreateRequest(create);
        let request_union = Some(create);
        // There is room for the first.
        let _ = requests.try_send(WatchRequest { request_union });
        let outbound = futures::stream::poll_fn(move |cx| outbound.poll_recv(cx));
        let mut request = Request::new(outbound);
        let yes = MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", yes);
        let mut client = WatchClient::new(member.clone()).max_decoding_message_size(usize::MAX);
        Ok((requests, client.watch(request).await?.into_inner()))
    }

    /// Lists everything, again from the start if the pages' revision is
    /// compacted on the way.
    async fn list(&mut self, member: &Channel) -> Result<Result<(), Status>> {
        loop {
            match self.pages(member).await? {
                Ok((revision, cache)) => {
                    ensure!(
                        revision >= self.revision,
                        "a list of revision {revision} after revision {}",
                        self.revision
                    );
                    (self.revision, self.cache) = (revision, cache);
                    self.stale = false;
                    self.counts.lists += 1;
                    return Ok(Ok(()));
                }
                Err(status) if status.code() == Code::OutOfRange => self.counts.lists_cut += 1,
                Err(status) => return Ok(Err(status)),
            }
        }
    }

    async fn pages(
        &self,
        member: &Channel,
    ) -> Result<Result<(i64, BTreeMap<Bytes, KeyValue>), Status>> {
        let mut client = KvClient::new(member.clone()).max_decoding_message_size(usize::MAX);
        let mut cache = BTreeMap::new();
        let mut page = RangeRequest {
            key: self.prefix.clone(),
            range_end: self.end.clone(),
            limit: PAGE,
            ..RangeRequest::default()
        };
        loop {
            let reply = match client.range(page.clone()).await {
                Ok(reply) => reply.into_inner(),
                Err(status) => return Ok(Err(status)),
            };
            let header = reply.header.context("no header")?;
            if page.revision == 0 {
                page.revision = header.revision;
            }
            let listed = reply.kvs.len() as i64;
            // How a client knows that there is more.
            ensure!(
                reply.more == (listed < reply.count) && listed <= PAGE,
                "{listed} of {} keys, more: {}",
                reply.count,
                reply.more
            );
            for kv in reply.kvs {
                ensure!(
                    kv.mod_revision <= page.revision && kv.key >= page.key,
                    "in a list of revision {}: {kv:?}",
                    page.revision
                );
                page.key = [&kv.key[..], b"\0"].concat().into();
                cache.insert(kv.key.clone(), kv);
            }
            if !reply.more {
                return Ok(Ok((page.revision, cache)));
            }
        }
    }

    fn take(&mut self, response: WatchResponse, floor: &impl Fn() -> i64) -> Result<()> {
        let header = response.header.context("no header")?.revision;
        if response.events.is_empty() {
            ensure!(
                header >= self.revision,
                "a report of revision {header} after revision {}",
                self.revision
            );
            self.counts.reports += 1;
            self.revision = header;
            return Ok(());
        }
        // Of the last response; in this one a revision may have many changes.
        let seen = self.revision;
        for event in response.events {
            let text = format!("{event:?}");
            let revision = self
                .change(event, seen, floor)
                .with_context(|| format!("after revision {}: {text}", self.revision))?;
            self.revision = revision;
        }
        ensure!(
            header >= self.revision,
            "header {header} of {}",
            self.revision
        );
        Ok(())
    }

    /// Takes a change and gives its revision.
    fn change(&mut self, event: Event, seen: i64, floor: &impl Fn() -> i64) -> Result<i64> {
        self.counts.events += 1;
        let kind = event.r#type();
        let kv = event.kv.context("no key-value")?;
        let revision = kv.mod_revision;
        ensure!(
            revision > seen && revision >= self.revision,
            "a revision again"
        );
        ensure!(
            kv.key.starts_with(&self.prefix),
            "a key that is not watched"
        );
        let cached = self.cache.get(&kv.key);
        let created = kind == EventType::Put && kv.create_revision == revision;
        ensure!(cached.is_none() == created, "cached: {cached:?}");
        if event.prev_kv.is_none() && !created {
            ensure!(revision <= floor(), "prev_kv is missing");
            self.counts.without_previous += 1;
        } else {
            ensure!(event.prev_kv.as_ref() == cached, "cached: {cached:?}");
        }
        if kind == EventType::Delete {
            ensure!(
                kv.version == 0 && kv.value.is_empty(),
                "a delete with content"
            );
            self.cache.remove(&kv.key);
            return Ok(revision);
        }
        let fits = match cached {
            None => kv.version == 1,
            Some(before) => {
                kv.version == before.version + 1
                    && kv.create_revision == before.create_revision
                    && before.mod_revision < revision
            }
        };
        ensure!(fits, "cached: {cached:?}");
        self.cache.insert(kv.key.clone(), kv);
        Ok(revision)
    }

    /// Compares with what a member holds now, when nobody writes any more.
    ///
    /// # Errors
    /// A difference, or no answer.
    pub async fn compare(&self, member: &Channel) -> Result<usize> {
        let (_, held) = self.pages(member).await??;
        for (key, kv) in &held {
            let cached = self.cache.get(key);
            ensure!(cached == Some(kv), "cached: {cached:?}, stored: {kv:?}");
        }
        if let Some(key) = self.cache.keys().find(|key| !held.contains_key(*key)) {
            bail!("{key:?} is cached and not stored");
        }
        Ok(held.len())
    }
}
