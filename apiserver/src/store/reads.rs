//! Reads of single keys that share calls: those that arrive while others are
//! under way leave together with the next one.
//!
//! A read joins only a call that is sent after it arrived, so it is as
//! linearizable as if it had gone alone.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    RangeRequest, RequestOp, ResponseOp, TxnRequest, kv_client::KvClient, request_op, response_op,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Endpoints, Pair, StoreError, pair};
use crate::{limits, tasks};

/// What is at a key, and the store's revision when it was read.
type Found = (Option<Pair>, i64);

struct Waiting {
    key: Bytes,
    answer: oneshot::Sender<Result<Found, StoreError>>,
}

#[derive(Default)]
struct State {
    /// Calls under way.
    flying: usize,
    /// As many as there are requests that read, which are bounded.
    waiting: VecDeque<Waiting>,
}

pub(super) struct Reads {
    endpoints: Arc<Endpoints>,
    state: Arc<Mutex<State>>,
}

impl Reads {
    pub fn new(endpoints: Arc<Endpoints>) -> Self {
        Self {
            endpoints,
            state: Arc::default(),
        }
    }

    pub async fn get(&self, key: Bytes) -> Result<Found, StoreError> {
        let (answer, found) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.waiting.push_back(Waiting { key, answer });
            if state.flying < limits::READS_FLYING {
                state.flying += 1;
                let flight = fly(self.endpoints.clone(), self.state.clone());
                tasks::spawn("reading keys", flight);
            }
        }
        found
            .await
            .unwrap_or_else(|_| Err(StoreError::Other("a read was dropped".to_owned())))
    }
}

/// Sends what waits until nothing does.
async fn fly(endpoints: Arc<Endpoints>, state: Arc<Mutex<State>>) {
    loop {
        let batch: Vec<Waiting> = {
            let mut state = state.lock();
            // Who went away needs no answer.
            state.waiting.retain(|one| !one.answer.is_closed());
            let count = state.waiting.len().min(limits::READS_TOGETHER);
            if count == 0 {
                state.flying -= 1;
                return;
            }
            state.waiting.drain(..count).collect()
        };
        let keys: Vec<Bytes> = batch.iter().map(|one| one.key.clone()).collect();
        match read(&endpoints, &keys).await {
            Ok((found, revision)) => {
                for (one, pair) in batch.into_iter().zip(found) {
                    // Who went away needs no answer.
                    let _ = one.answer.send(Ok((pair, revision)));
                }
            }
            Err(error) => {
                for one in batch {
                    let _ = one.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// What is at each of the keys at one revision of the store.
async fn read(
    endpoints: &Endpoints,
    keys: &[Bytes],
) -> Result<(Vec<Option<Pair>>, i64), StoreError> {
    let range = |key: &Bytes| RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let client =
        |channel| KvClient::new(channel).max_decoding_message_size(limits::REPLY_BYTES_MAX);
    if let [key] = keys {
        let call = |channel| async move { client(channel).range(range(key)).await };
        let reply = endpoints.call(0, call).await?.0.into_inner();
        let revision = reply.header.map_or(0, |header| header.revision);
        return Ok((vec![reply.kvs.into_iter().next().map(pair)], revision));
    }
    let request = TxnRequest {
        success: keys
            .iter()
            .map(|key| RequestOp {
                request: Some(request_op::Request::RequestRange(range(key))),
            })
            .collect(),
        ..TxnRequest::default()
    };
    let call = |channel| {
        let request = request.clone();
        async move { client(channel).txn(request).await }
    };
    let reply = endpoints.call(0, call).await?.0.into_inner();
    let revision = reply.header.map_or(0, |header| header.revision);
    let found = reply.responses.into_iter().map(first).collect::<Vec<_>>();
    if found.len() == keys.len() {
        Ok((found, revision))
    } else {
        Err(StoreError::Other(format!(
            "{} answers to {} reads",
            found.len(),
            keys.len()
        )))
    }
}

fn first(response: ResponseOp) -> Option<Pair> {
    match response.response {
        Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next().map(pair),
        _ => None,
    }
}
