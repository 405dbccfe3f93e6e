//! The end of a run, after all faults were undone: operations on every member
//! that must all succeed, full scans, and a HashKV of every member at one
//! revision. Judged by the checkers.

use crate::client::{Bench, Client};
use crate::history::op::{
    Cmp, Compare, DeleteReq, Load, Outcome, PutReq, RangeReq, Request, Target, TxnOp, TxnReq,
};
use crate::history::record::{Hash, Record};
use anyhow::Result;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::Code;

const CLIENT: u32 = 2_000_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// Members compact in the background, so their floors may differ for a while.
const HASH_ROUNDS: u32 = 50;
const HASH_RETRY: Duration = Duration::from_millis(200);

fn client(bench: &Arc<Bench>, member: usize) -> Result<Client> {
    Client::new(bench, CLIENT + member as u32, member)
}

/// One read: the store of a new cluster must be empty, at revision 1.
pub async fn initial(bench: &Arc<Bench>) -> Result<bool> {
    let out = client(bench, 0)?
        .call_within(Load::Initial, Request::scan(0), PATIENCE)
        .await;
    Ok(matches!(out, Outcome::Ok { .. }))
}

/// The last operations on each member. Returns the final revision, or zero
/// when no member gave one.
pub async fn operations(bench: &Arc<Bench>) -> Result<i64> {
    let mut head = 0;
    for member in 0..bench.view.members() {
        let mut client = client(bench, member)?;
        for req in requests(member) {
            client.call_within(Load::Final, req, PATIENCE).await;
        }
    }
    for member in 0..bench.view.members() {
        let mut client = client(bench, member)?;
        for req in [Request::scan(0), stale_scan()] {
            if let Outcome::Ok { rev, .. } = client.call_within(Load::Final, req, PATIENCE).await {
                head = head.max(rev);
            }
        }
    }
    Ok(head)
}

fn requests(member: usize) -> Vec<Request> {
    let key = format!("final/{member}");
    let put = |value: &str| PutReq {
        key: key.clone(),
        value: format!("final.{member}.{value}"),
        prev: true,
        lease: 0,
    };
    let get = RangeReq {
        key: key.clone(),
        ..RangeReq::default()
    };
    let guarded = TxnReq {
        compare: vec![Compare {
            key: key.clone(),
            cmp: Cmp::Equal,
            target: Target::Version(1),
        }],
        then: vec![TxnOp::Put(put("b")), TxnOp::Range(get.clone())],
        or_else: Vec::new(),
    };
    vec![
        // A member that was paused may not have heard of the newest users, and what
        // it proposes for a user of before is refused, by etcd too. A read waits
        // until it has.
        Request::Range(get.clone()),
        Request::Put(put("a")),
        Request::Range(get.clone()),
        Request::Txn(guarded),
        Request::Delete(DeleteReq {
            key: key.clone(),
            prev: true,
            ..DeleteReq::default()
        }),
        Request::Put(put("c")),
        Request::Range(get),
    ]
}

fn stale_scan() -> Request {
    match Request::scan(0) {
        Request::Range(r) => Request::Range(RangeReq {
            serializable: true,
            ..r
        }),
        other => other,
    }
}

/// HashKV of every member at `rev`, again until all floors are equal.
pub async fn hashes(bench: &Arc<Bench>, rev: i64) -> Result<()> {
    for round in 0..HASH_ROUNDS {
        let mut all = Vec::new();
        for member in 0..bench.view.members() {
            all.push(hash(bench, member, rev).await?);
        }
        let done = all
            .iter()
            .all(|h| h.error.is_none() && h.compact == all[0].compact);
        let hopeless = all.iter().any(|h| h.unimplemented);
        if done || hopeless || round + 1 == HASH_ROUNDS {
            for hash in all {
                bench.sink.record(Record::Hash(hash)).await;
            }
            return Ok(());
        }
        sleep(HASH_RETRY).await;
    }
    Ok(())
}

async fn hash(bench: &Arc<Bench>, member: usize, rev: i64) -> Result<Hash> {
    let mut client = MaintenanceClient::new(bench.channel(member)?);
    let reply = timeout(
        PATIENCE,
        client.hash_kv(pb::HashKvRequest { revision: rev }),
    )
    .await;
    let at = bench.clock.now();
    let failed = |error: String, unimplemented| Hash {
        member,
        at,
        rev,
        compact: 0,
        hash: 0,
        error: Some(error),
        unimplemented,
    };
    Ok(match reply {
        Ok(Ok(reply)) => {
            let reply = reply.into_inner();
            Hash {
                member,
                at,
                rev,
                compact: reply.compact_revision,
                hash: reply.hash,
                error: None,
                unimplemented: false,
            }
        }
        Ok(Err(status)) => failed(status.to_string(), status.code() == Code::Unimplemented),
        Err(_) => failed("client timeout".into(), false),
    })
}
