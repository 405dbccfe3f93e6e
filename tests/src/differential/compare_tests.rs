//! The comparison sees every field: each mutation of a reply is a difference,
//! except the permitted ones.

use mizzen_proto::etcdserverpb::{LeaseStatus, TxnRequest, range_request::SortOrder};
use tonic::Code;

use super::*;

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 3,
        raft_term: 4,
    })
}

fn pair(key: &'static str) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: 5,
        mod_revision: 6,
        version: 7,
        value: "v".into(),
        lease: 8,
    }
}

fn range_response() -> RangeResponse {
    RangeResponse {
        header: header(),
        kvs: vec![pair("a"), pair("b")],
        more: true,
        count: 3,
    }
}

/// Paths found when the second reply is the first one mutated.
fn paths<T: Clone>(
    operation: &Operation,
    reply: &T,
    wrap: impl Fn(T) -> Reply,
    mutate: impl FnOnce(&mut T),
) -> Vec<String> {
    let mut mutated = reply.clone();
    mutate(&mut mutated);
    let same = compare(
        operation,
        &Ok(wrap(reply.clone())),
        &Ok(wrap(reply.clone())),
    );
    assert_eq!(same, Comparison::default());
    compare(operation, &Ok(wrap(reply.clone())), &Ok(wrap(mutated)))
        .differences
        .into_iter()
        .map(|difference| difference.path)
        .collect()
}

fn range_paths(mutate: impl FnOnce(&mut RangeResponse)) -> Vec<String> {
    let operation = Operation::Range(RangeRequest::default());
    paths(&operation, &range_response(), Reply::Range, mutate)
}

#[test]
fn every_field_of_a_range_reply_is_compared() {
    let no_header: Option<ResponseHeader> = None;
    assert_eq!(range_paths(|reply| reply.header = no_header), ["header"]);
    assert_eq!(range_paths(|reply| reply.more = false), ["more"]);
    assert_eq!(range_paths(|reply| reply.count = 2), ["count"]);
    assert_eq!(range_paths(|reply| reply.kvs.truncate(1)), ["kvs.length"]);
    assert_eq!(range_paths(|r| r.kvs[1].key = "c".into()), ["kvs[1].key"]);
    assert_eq!(
        range_paths(|reply| reply.kvs[0].create_revision = 0),
        ["kvs[0].create_revision"]
    );
    assert_eq!(
        range_paths(|reply| reply.kvs[0].mod_revision = 0),
        ["kvs[0].mod_revision"]
    );
    assert_eq!(
        range_paths(|reply| reply.kvs[0].version = 0),
        ["kvs[0].version"]
    );
    assert_eq!(
        range_paths(|reply| reply.kvs[0].value = "w".into()),
        ["kvs[0].value"]
    );
    assert_eq!(range_paths(|r| r.kvs[0].lease = 0), ["kvs[0].lease"]);
}

fn header_paths(mutate: impl FnOnce(&mut ResponseHeader)) -> Vec<String> {
    range_paths(|reply| mutate(reply.header.as_mut().expect("the reply has a header")))
}

#[test]
fn ids_and_term_may_differ_but_not_vanish() {
    assert_eq!(header_paths(|h| h.revision = 9), ["header.revision"]);
    assert!(header_paths(|h| h.cluster_id = 9).is_empty());
    assert!(header_paths(|h| h.member_id = 9).is_empty());
    assert!(header_paths(|h| h.raft_term = 9).is_empty());
    assert_eq!(header_paths(|h| h.cluster_id = 0), ["header.cluster_id"]);
    assert_eq!(header_paths(|h| h.member_id = 0), ["header.member_id"]);
    assert_eq!(header_paths(|h| h.raft_term = 0), ["header.raft_term"]);
}

#[test]
fn transactions_are_compared_to_the_innermost_reply() {
    let op = |response| ResponseOp {
        response: Some(response),
    };
    let inner = TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: false,
        responses: vec![
            op(Response::ResponseRange(range_response())),
            op(Response::ResponsePut(PutResponse {
                header: header(),
                prev_kv: Some(pair("p")),
            })),
            op(Response::ResponseDeleteRange(DeleteRangeResponse {
                header: header(),
                deleted: 1,
                prev_kvs: vec![pair("d")],
            })),
        ],
    };
    let reply = TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![op(Response::ResponseTxn(inner))],
    };
    let found = |mutate: fn(&mut TxnResponse)| {
        let operation = Operation::Txn(TxnRequest::default());
        paths(&operation, &reply, Reply::Txn, |reply| {
            let Some(Response::ResponseTxn(inner)) = &mut reply.responses[0].response else {
                panic!("the operation is a transaction");
            };
            mutate(inner);
        })
    };
    assert_eq!(
        found(|inner| inner.succeeded = true),
        ["responses[0].txn.succeeded"]
    );
    assert_eq!(
        found(|inner| inner.responses.truncate(2)),
        ["responses[0].txn.responses.length"]
    );
    assert_eq!(
        found(|inner| inner.responses[1].response = None),
        ["responses[0].txn.responses[1].response"]
    );
    assert_eq!(
        found(|inner| {
            let Some(Response::ResponseRange(range)) = &mut inner.responses[0].response else {
                panic!("the operation is a range");
            };
            range.kvs[1].version += 1;
        }),
        ["responses[0].txn.responses[0].range.kvs[1].version"]
    );
    assert_eq!(
        found(|inner| {
            let Some(Response::ResponsePut(put)) = &mut inner.responses[1].response else {
                panic!("the operation is a put");
            };
            put.prev_kv = None;
        }),
        ["responses[0].txn.responses[1].put.prev_kv"]
    );
    assert_eq!(
        found(|inner| {
            let Some(Response::ResponseDeleteRange(delete)) = &mut inner.responses[2].response
            else {
                panic!("the operation is a delete");
            };
            delete.deleted = 2;
            delete.prev_kvs[0].lease = 0;
        }),
        [
            "responses[0].txn.responses[2].delete_range.deleted",
            "responses[0].txn.responses[2].delete_range.prev_kvs[0].lease"
        ]
    );
}

#[test]
fn failures_agree_in_code_and_text() {
    let operation = Operation::LeaseLeases;
    let failure = |code, message: &str| {
        Err(Failure {
            code,
            message: message.to_owned(),
        })
    };
    let found = |a: &Outcome, b: &Outcome| {
        compare(&operation, a, b)
            .differences
            .into_iter()
            .map(|difference| difference.path)
            .collect::<Vec<_>>()
    };
    let compacted = failure(Code::OutOfRange, "compacted");
    assert!(found(&compacted, &compacted).is_empty());
    assert_eq!(
        found(&compacted, &failure(Code::Unknown, "compacted")),
        ["code"]
    );
    assert_eq!(
        found(&compacted, &failure(Code::OutOfRange, "gone")),
        ["message"]
    );
    let fine = Ok(Reply::LeaseLeases(LeaseLeasesResponse::default()));
    assert_eq!(found(&compacted, &fine), ["reply"]);
    let size = |text| failure(Code::ResourceExhausted, text);
    assert!(
        found(
            &size("larger than max (9 vs. 8)"),
            &size("larger than max (7 vs. 8)")
        )
        .is_empty()
    );
}

#[test]
fn a_stream_is_its_concatenation() {
    let streamed = Streamed {
        merged: range_response(),
        ..Streamed::default()
    };
    let found = |mutate: fn(&mut Streamed)| {
        let operation = Operation::RangeStream(RangeRequest::default());
        paths(&operation, &streamed, Reply::RangeStream, mutate)
    };
    assert_eq!(found(|s| s.merged.kvs[0].version = 0), ["kvs[0].version"]);
    assert_eq!(found(|s| s.violations.push("late".into())), ["chunks"]);
    assert_eq!(
        found(|s| {
            s.error = Some(Failure {
                code: Code::Internal,
                message: String::new(),
            });
        }),
        ["end"]
    );
}

#[test]
fn leases_are_a_set_and_their_time_passes() {
    let status = |id| LeaseStatus { id };
    let reply = LeaseLeasesResponse {
        header: header(),
        leases: vec![status(1), status(2)],
    };
    let found = |mutate: fn(&mut LeaseLeasesResponse)| {
        paths(&Operation::LeaseLeases, &reply, Reply::LeaseLeases, mutate)
    };
    assert!(found(|reply| reply.leases.reverse()).is_empty());
    assert_eq!(found(|reply| reply.leases.truncate(1)), ["leases"]);

    let reply = LeaseTimeToLiveResponse {
        header: header(),
        id: 1,
        ttl: 50,
        granted_ttl: 60,
        keys: vec!["a".into(), "b".into()],
    };
    let found = |mutate: fn(&mut LeaseTimeToLiveResponse)| {
        let operation = Operation::LeaseTimeToLive(Default::default());
        paths(&operation, &reply, Reply::LeaseTimeToLive, mutate)
    };
    assert!(found(|reply| reply.keys.reverse()).is_empty());
    assert!(found(|reply| reply.ttl = 49).is_empty());
    assert_eq!(found(|reply| reply.ttl = -1), ["TTL"]);
    assert_eq!(found(|reply| reply.ttl = 61), ["TTL"]);
    assert_eq!(found(|reply| reply.granted_ttl = 61), ["grantedTTL"]);
    assert_eq!(found(|reply| reply.id = 2), ["ID"]);
    assert_eq!(found(|reply| reply.keys.truncate(1)), ["keys"]);
}

/// Pairs `k00`... whose versions are as given.
fn versions(versions: &[i64]) -> Vec<KeyValue> {
    versions
        .iter()
        .enumerate()
        .map(|(index, version)| KeyValue {
            key: format!("k{index:02}").into(),
            version: *version,
            ..KeyValue::default()
        })
        .collect()
}

fn by_version(count: i64, more: bool, a: Vec<KeyValue>, b: Vec<KeyValue>) -> Comparison {
    let request = RangeRequest {
        sort_target: SortTarget::Version as i32,
        sort_order: SortOrder::Ascend as i32,
        ..RangeRequest::default()
    };
    let reply = |kvs| {
        Ok(Reply::Range(RangeResponse {
            header: header(),
            kvs,
            more,
            count,
        }))
    };
    compare(&Operation::Range(request), &reply(a), &reply(b))
}

#[test]
fn pairs_that_rank_equal_may_be_reordered_beyond_a_stable_sort() {
    let pairs = versions(&[1, 1, 2, 3]);
    let mut swapped = pairs.clone();
    swapped.swap(0, 1);
    assert_eq!(
        by_version(13, false, pairs.clone(), swapped.clone()).reordered,
        1
    );
    assert!(
        !by_version(12, false, pairs.clone(), swapped)
            .differences
            .is_empty()
    );

    let mut wrong = pairs.clone();
    wrong.swap(1, 2);
    assert!(
        !by_version(13, false, pairs.clone(), wrong)
            .differences
            .is_empty()
    );

    let mut other = pairs.clone();
    other[0].lease = 1;
    assert!(
        !by_version(13, false, pairs.clone(), other)
            .differences
            .is_empty()
    );

    let mut cut = pairs.clone();
    cut[3].key = "z".into();
    assert_eq!(
        by_version(13, true, pairs.clone(), cut.clone()).reordered,
        1
    );
    assert!(!by_version(13, false, pairs, cut).differences.is_empty());
}
