//! The first members of a cluster meet at an etcd that runs already: each writes its
//! name and URLs there, and waits until as many have as the cluster is to have. Keys
//! and values are those of etcd 3.7's own discovery, so that members of both meet.
//!
//! Knows the API of a running etcd. Must not know what becomes of the answer.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    AuthenticateRequest, PutRequest, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
    auth_client::AuthClient, kv_client::KvClient, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{config::Discovery, limits, raft::Dial};

/// Why no cluster came about, in etcd's words.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    NoSize,
    BadSize,
    Full,
}

impl Refused {
    fn text(&self) -> &'static str {
        match self {
            Self::NoSize => "discovery: size key not found",
            Self::BadSize => "discovery: size key is bad",
            Self::Full => "discovery: cluster is full",
        }
    }
}

/// Registers `own`, the name and the URLs of this member, under its id; gives the same
/// of all first members, once all are there, as --initial-cluster has it.
///
/// # Errors
/// The place is not prepared for a cluster under this token, or not for another member.
/// An etcd that cannot be reached is none: it is asked again and again, as by etcd.
pub async fn join(
    discovery: &Discovery,
    dial: &dyn Dial,
    member_id: u64,
    own: &str,
) -> io::Result<String> {
    let mut meeting = Meeting {
        discovery,
        channels: discovery
            .endpoints
            .iter()
            .map(|url| dial.dial(url))
            .collect::<io::Result<_>>()?,
        asked: 0,
        key: format!("{}{member_id:x}", members_prefix(&discovery.token)),
    };
    let joined = meeting.join(own).await;
    joined.map_err(|refused| {
        io::Error::other(format!(
            "failed to join discovery cluster ({})",
            refused.text()
        ))
    })
}

fn members_prefix(token: &str) -> String {
    format!("/_etcd/registry/{token}/members/")
}

/// Who has registered, by the revision at which: the first ones count.
#[derive(Default, Debug)]
struct Registered(BTreeMap<i64, (String, String)>);

impl Registered {
    fn add(&mut self, created: i64, key: &[u8], value: &[u8]) {
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        let (key, member) = (text(key), text(value));
        if !member.contains('=') {
            tracing::warn!(
                key,
                member,
                "invalid peer info returned from discovery service"
            );
            return;
        }
        tracing::info!(key, member, "found peer from discovery service");
        self.0.insert(created, (key, member));
    }

    /// Whether `key` is among the first `size`, or could still be.
    fn has_room(&self, size: usize, key: &str) -> bool {
        let mut first = self.0.values().take(size);
        self.0.len() < size || first.any(|(other, _)| other == key)
    }

    fn cluster(&self, size: usize) -> Option<String> {
        let members: Vec<&str> = self
            .0
            .values()
            .take(size)
            .map(|(_, member)| member.as_str())
            .collect();
        (members.len() == size).then(|| members.join(","))
    }
}

struct Meeting<'a> {
    discovery: &'a Discovery,
    channels: Vec<Channel>,
    /// How often it was asked, which says whom to ask next.
    asked: usize,
    key: String,
}

impl Meeting<'_> {
    async fn join(&mut self, own: &str) -> Result<String, Refused> {
        self.look().await?;
        let put = PutRequest {
            key: self.key.clone().into(),
            value: own.to_owned().into(),
            ..PutRequest::default()
        };
        self.ask("register member itself", async |channel, token| {
            let request = with_token(put.clone(), token.as_deref())?;
            KvClient::new(channel).put(request).await
        })
        .await;
        tracing::info!(key = self.key, own, "register member itself successfully");
        loop {
            let (size, registered, revision) = self.look().await?;
            if let Some(cluster) = registered.cluster(size) {
                tracing::info!(
                    size,
                    cluster,
                    "found all needed peers from discovery service"
                );
                return Ok(cluster);
            }
            tracing::info!(
                size,
                found = registered.0.len(),
                "waiting for peers from discovery service"
            );
            self.wait_for_change(revision + 1).await;
        }
    }

    /// How many members there are to be, who is there, and when that was so.
    async fn look(&mut self) -> Result<(usize, Registered, i64), Refused> {
        let size = format!("/_etcd/registry/{}/_config/size", self.discovery.token);
        let found = self.range(size.into(), Bytes::new()).await;
        let size = found.kvs.first().ok_or(Refused::NoSize)?;
        let size = std::str::from_utf8(&size.value).ok();
        let size: Option<usize> = size.and_then(|size| size.parse().ok());
        let size = size.filter(|size| *size > 0).ok_or(Refused::BadSize)?;
        let (from, to) = self.members();
        let found = self.range(from, to).await;
        let mut registered = Registered::default();
        for kv in &found.kvs {
            registered.add(kv.create_revision, &kv.key, &kv.value);
        }
        if !registered.has_room(size, &self.key) {
            return Err(Refused::Full);
        }
        let revision = found.header.map_or(0, |header| header.revision);
        Ok((size, registered, revision))
    }

    /// The keys of all members.
    fn members(&self) -> (Bytes, Bytes) {
        let prefix = members_prefix(&self.discovery.token);
        // What follows a slash.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        (prefix.into(), end.into())
    }

    async fn range(&mut self, key: Bytes, range_end: Bytes) -> RangeResponse {
        let range = RangeRequest {
            key,
            range_end,
            ..RangeRequest::default()
        };
        self.ask("cluster status check", async |channel, token| {
            let request = with_token(range.clone(), token.as_deref())?;
            KvClient::new(channel).range(request).await
        })
        .await
    }

    /// Returns when somebody has registered, or when that can no longer be told.
    async fn wait_for_change(&mut self, from: i64) {
        let (key, range_end) = self.members();
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: from,
            ..WatchCreateRequest::default()
        };
        let mut changes = self
            .ask("wait for peers", async |channel, token| {
                let first = WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(create.clone())),
                };
                let requests = futures::StreamExt::chain(
                    futures::stream::iter([first]),
                    futures::stream::pending(),
                );
                let request = with_token(requests, token.as_deref())?;
                WatchClient::new(channel).watch(request).await
            })
            .await;
        while let Ok(Ok(Some(message))) = timeout(self.discovery.silence, changes.message()).await {
            if message.canceled || !message.events.is_empty() {
                return;
            }
        }
    }

    /// Asks one endpoint after the other until one answers, with etcd's pauses.
    async fn ask<T>(
        &mut self,
        what: &str,
        question: impl AsyncFn(Channel, Option<String>) -> Result<Response<T>, Status>,
    ) -> T {
        let mut tries = 0;
        loop {
            let channel = self.channels[self.asked % self.channels.len()].clone();
            self.asked += 1;
            let answer = async {
                let token = self.token(&channel).await?;
                question(channel.clone(), token).await
            };
            let reason = match timeout(self.discovery.request_timeout, answer).await {
                Ok(Ok(answer)) => return answer.into_inner(),
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "no answer in time".to_owned(),
            };
            tries += 1;
            let rounds = tries / self.channels.len();
            let pause = match tries % self.channels.len() {
                // All have been tried.
                0 => Duration::from_secs(1 << rounds.min(limits::DISCOVERY_DOUBLINGS)),
                _ => Duration::ZERO,
            };
            tracing::warn!(
                what,
                reason,
                ?pause,
                "retry connecting to discovery service"
            );
            tokio::time::sleep(pause).await;
        }
    }

    async fn token(&self, channel: &Channel) -> Result<Option<String>, Status> {
        let Some((name, password)) = &self.discovery.user else {
            return Ok(None);
        };
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let reply = AuthClient::new(channel.clone())
            .authenticate(request)
            .await?;
        Ok(Some(reply.into_inner().token))
    }
}

fn with_token<T>(message: T, token: Option<&str>) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let token = token.parse();
        let token = token.map_err(|_| Status::internal("a token that cannot be sent"))?;
        request.metadata_mut().insert("token", token);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_register_are_the_members() {
        let mut registered = Registered::default();
        assert!(registered.has_room(2, "b"));
        registered.add(9, b"b", b" b=http://b:1 ");
        registered.add(7, b"a", b"a=http://a:1,a=http://a:2");
        registered.add(8, b"c", b"nothing");
        assert_eq!(registered.cluster(3), None);
        let both = "a=http://a:1,a=http://a:2,b=http://b:1";
        assert_eq!(registered.cluster(2).as_deref(), Some(both));
        assert!(registered.has_room(2, "b"));
        assert!(!registered.has_room(2, "c"));
        assert!(registered.has_room(3, "c"));
        registered.add(3, b"d", b"d=http://d:1");
        assert!(!registered.has_room(2, "b"));
    }
}
