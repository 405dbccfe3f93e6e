//! Comparison of two answers to one operation, field by field.
//!
//! Messages are taken apart without `..`, so a field added to the API does not
//! compile until it is compared here.

use std::fmt::Debug;

use mizzen_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, range_request::SortTarget,
    request_op::Request, response_op::Response,
};
use mizzen_proto::mvccpb::KeyValue;

use super::operation::{Failure, Operation, Outcome, Reply, Streamed, readable};

/// Up to this many pairs, etcd's sort keeps the key order of pairs that compare
/// equal (Go's `sort.Sort` is then an insertion sort); beyond, their order is
/// an accident of its quicksort.
const STABLE_SORT: i64 = 12;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, such as `responses[1].range.kvs[0].lease`.
    pub path: String,
    pub reference: String,
    pub candidate: String,
}

/// Result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub differences: Vec<Difference>,
    /// Ranges whose equal-ranking pairs came in another order, which only a
    /// copy of etcd's sort could avoid.
    pub reordered: usize,
}

/// Compares what both sides answered to the operation.
///
/// Permitted to differ: cluster and member ids and the Raft term (but not
/// whether they are set), the remaining time of a lease, the order in which
/// leases and the keys of a lease are listed, sizes in the text of a refusal
/// for size, and the order among more than 12 pairs that rank equal.
pub fn compare(operation: &Operation, reference: &Outcome, candidate: &Outcome) -> Comparison {
    let mut comparer = Comparer::default();
    match (reference, candidate) {
        (Ok(reference), Ok(candidate)) => comparer.reply(operation, reference, candidate),
        (Err(reference), Err(candidate)) => comparer.failure(reference, candidate),
        (reference, candidate) => comparer.differ("reply", reference, candidate),
    }
    comparer.result
}

#[derive(Default)]
struct Comparer {
    path: Vec<String>,
    result: Comparison,
}

impl Comparer {
    fn differ(&mut self, field: &str, reference: &impl Debug, candidate: &impl Debug) {
        let mut path = self.path.join(".");
        if !path.is_empty() && !field.is_empty() {
            path.push('.');
        }
        path.push_str(field);
        self.result.differences.push(Difference {
            path,
            reference: readable(reference),
            candidate: readable(candidate),
        });
    }

    fn field<T: Debug + PartialEq>(&mut self, field: &str, reference: &T, candidate: &T) {
        if reference != candidate {
            self.differ(field, reference, candidate);
        }
    }

    fn within(&mut self, name: impl Into<String>, compare: impl FnOnce(&mut Self)) {
        self.path.push(name.into());
        compare(self);
        self.path.pop();
    }

    /// Both present or both absent; compares what is in them.
    fn optional<T: Debug>(
        &mut self,
        field: &str,
        reference: Option<&T>,
        candidate: Option<&T>,
        compare: impl FnOnce(&mut Self, &T, &T),
    ) {
        match (reference, candidate) {
            (Some(reference), Some(candidate)) => {
                self.within(field, |this| compare(this, reference, candidate));
            }
            (None, None) => {}
            (reference, candidate) => self.differ(field, &reference, &candidate),
        }
    }

    fn failure(&mut self, reference: &Failure, candidate: &Failure) {
        self.field("code", &reference.code, &candidate.code);
        self.field(
            "message",
            &without_sizes(&reference.message),
            &without_sizes(&candidate.message),
        );
    }

    fn reply(&mut self, operation: &Operation, reference: &Reply, candidate: &Reply) {
        match (operation, reference, candidate) {
            (Operation::Range(request), Reply::Range(a), Reply::Range(b)) => {
                self.range(Some(request), a, b);
            }
            (Operation::RangeStream(request), Reply::RangeStream(a), Reply::RangeStream(b)) => {
                self.stream(request, a, b);
            }
            (Operation::Put(_), Reply::Put(a), Reply::Put(b)) => self.put(a, b),
            (Operation::DeleteRange(_), Reply::DeleteRange(a), Reply::DeleteRange(b)) => {
                self.delete(a, b);
            }
            (Operation::Txn(request), Reply::Txn(a), Reply::Txn(b)) => self.txn(request, a, b),
            (Operation::Compact(_), Reply::Compact(a), Reply::Compact(b)) => {
                let CompactionResponse { header } = a;
                self.header(header, &b.header);
            }
            (Operation::LeaseGrant(_), Reply::LeaseGrant(a), Reply::LeaseGrant(b)) => {
                let LeaseGrantResponse {
                    header,
                    id,
                    ttl,
                    error,
                } = a;
                self.header(header, &b.header);
                self.field("ID", id, &b.id);
                self.field("TTL", ttl, &b.ttl);
                self.field("error", error, &b.error);
            }
            (Operation::LeaseRevoke(_), Reply::LeaseRevoke(a), Reply::LeaseRevoke(b)) => {
                let LeaseRevokeResponse { header } = a;
                self.header(header, &b.header);
            }
            (
                Operation::LeaseTimeToLive(_),
                Reply::LeaseTimeToLive(a),
                Reply::LeaseTimeToLive(b),
            ) => self.time_to_live(a, b),
            (Operation::LeaseLeases, Reply::LeaseLeases(a), Reply::LeaseLeases(b)) => {
                self.leases(a, b);
            }
            _ => self.differ("reply", reference, candidate),
        }
    }

    fn header(&mut self, reference: &Option<ResponseHeader>, candidate: &Option<ResponseHeader>) {
        self.optional(
            "header",
            reference.as_ref(),
            candidate.as_ref(),
            |this, reference, candidate| {
                let ResponseHeader {
                    cluster_id,
                    member_id,
                    revision,
                    raft_term,
                } = reference;
                this.is_set("cluster_id", *cluster_id, candidate.cluster_id);
                this.is_set("member_id", *member_id, candidate.member_id);
                this.field("revision", revision, &candidate.revision);
                this.is_set("raft_term", *raft_term, candidate.raft_term);
            },
        );
    }

    fn is_set(&mut self, field: &str, reference: u64, candidate: u64) {
        if (reference == 0) != (candidate == 0) {
            self.differ(field, &reference, &candidate);
        }
    }

    /// `request` is the range that was asked for, if known.
    fn range(
        &mut self,
        request: Option<&RangeRequest>,
        reference: &RangeResponse,
        candidate: &RangeResponse,
    ) {
        let RangeResponse {
            header,
            kvs,
            more,
            count,
        } = reference;
        self.header(header, &candidate.header);
        self.field("more", more, &candidate.more);
        self.field("count", count, &candidate.count);
        if *kvs == candidate.kvs {
            return;
        }
        let unordered = request.is_some_and(|request| {
            *count > STABLE_SORT && same_but_for_ties(request, *more, kvs, &candidate.kvs)
        });
        if unordered {
            self.result.reordered += 1;
        } else {
            self.pairs("kvs", kvs, &candidate.kvs);
        }
    }

    fn pairs(&mut self, name: &str, reference: &[KeyValue], candidate: &[KeyValue]) {
        self.field(
            &format!("{name}.length"),
            &reference.len(),
            &candidate.len(),
        );
        for (index, (a, b)) in reference.iter().zip(candidate).enumerate() {
            self.within(format!("{name}[{index}]"), |this| this.pair(a, b));
        }
    }

    fn pair(&mut self, reference: &KeyValue, candidate: &KeyValue) {
        let KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        } = reference;
        self.field("key", key, &candidate.key);
        self.field(
            "create_revision",
            create_revision,
            &candidate.create_revision,
        );
        self.field("mod_revision", mod_revision, &candidate.mod_revision);
        self.field("version", version, &candidate.version);
        self.field("value", value, &candidate.value);
        self.field("lease", lease, &candidate.lease);
    }

    fn stream(&mut self, request: &RangeRequest, reference: &Streamed, candidate: &Streamed) {
        let Streamed {
            merged,
            violations,
            error,
        } = reference;
        self.range(Some(request), merged, &candidate.merged);
        self.field("chunks", violations, &candidate.violations);
        self.optional(
            "end",
            error.as_ref(),
            candidate.error.as_ref(),
            Self::failure,
        );
    }

    fn put(&mut self, reference: &PutResponse, candidate: &PutResponse) {
        let PutResponse { header, prev_kv } = reference;
        self.header(header, &candidate.header);
        self.optional(
            "prev_kv",
            prev_kv.as_ref(),
            candidate.prev_kv.as_ref(),
            Self::pair,
        );
    }

    fn delete(&mut self, reference: &DeleteRangeResponse, candidate: &DeleteRangeResponse) {
        let DeleteRangeResponse {
            header,
            deleted,
            prev_kvs,
        } = reference;
        self.header(header, &candidate.header);
        self.field("deleted", deleted, &candidate.deleted);
        self.pairs("prev_kvs", prev_kvs, &candidate.prev_kvs);
    }

    fn txn(&mut self, request: &TxnRequest, reference: &TxnResponse, candidate: &TxnResponse) {
        let TxnResponse {
            header,
            succeeded,
            responses,
        } = reference;
        self.header(header, &candidate.header);
        self.field("succeeded", succeeded, &candidate.succeeded);
        self.field(
            "responses.length",
            &responses.len(),
            &candidate.responses.len(),
        );
        let ops = if *succeeded {
            &request.success
        } else {
            &request.failure
        };
        for (index, (a, b)) in responses.iter().zip(&candidate.responses).enumerate() {
            let op = ops
                .get(index)
                .and_then(|op: &RequestOp| op.request.as_ref());
            self.within(format!("responses[{index}]"), |this| {
                this.response_op(op, a, b);
            });
        }
    }

    fn response_op(
        &mut self,
        request: Option<&Request>,
        reference: &ResponseOp,
        candidate: &ResponseOp,
    ) {
        let ResponseOp { response } = reference;
        match (response, &candidate.response) {
            (Some(Response::ResponseRange(a)), Some(Response::ResponseRange(b))) => {
                let request = match request {
                    Some(Request::RequestRange(request)) => Some(request),
                    _ => None,
                };
                self.within("range", |this| this.range(request, a, b));
            }
            (Some(Response::ResponsePut(a)), Some(Response::ResponsePut(b))) => {
                self.within("put", |this| this.put(a, b));
            }
            (Some(Response::ResponseDeleteRange(a)), Some(Response::ResponseDeleteRange(b))) => {
                self.within("delete_range", |this| this.delete(a, b));
            }
            (Some(Response::ResponseTxn(a)), Some(Response::ResponseTxn(b))) => {
                let none = TxnRequest::default();
                let request = match request {
                    Some(Request::RequestTxn(request)) => request,
                    _ => &none,
                };
                self.within("txn", |this| this.txn(request, a, b));
            }
            (None, None) => {}
            (a, b) => self.differ("response", a, b),
        }
    }

    fn time_to_live(
        &mut self,
        reference: &LeaseTimeToLiveResponse,
        candidate: &LeaseTimeToLiveResponse,
    ) {
        let LeaseTimeToLiveResponse {
            header,
            id,
            ttl,
            granted_ttl,
            keys,
        } = reference;
        self.header(header, &candidate.header);
        self.field("ID", id, &candidate.id);
        self.field("grantedTTL", granted_ttl, &candidate.granted_ttl);
        // Time passes between the two replies, but neither lease is near its
        // end, and none has more left than granted.
        let standing = |ttl: i64, granted: i64| (ttl > 0, ttl <= granted);
        if standing(*ttl, *granted_ttl) != standing(candidate.ttl, candidate.granted_ttl) {
            self.differ("TTL", ttl, &candidate.ttl);
        }
        self.field("keys", &sorted(keys), &sorted(&candidate.keys));
    }

    fn leases(&mut self, reference: &LeaseLeasesResponse, candidate: &LeaseLeasesResponse) {
        let LeaseLeasesResponse { header, leases } = reference;
        self.header(header, &candidate.header);
        let ids = |leases: &[mizzen_proto::etcdserverpb::LeaseStatus]| {
            sorted(&leases.iter().map(|lease| lease.id).collect::<Vec<_>>())
        };
        self.field("leases", &ids(leases), &ids(&candidate.leases));
    }
}

fn sorted<T: Clone + Ord>(list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort();
    list
}

/// The text without its numbers if it reports a size.
fn without_sizes(message: &str) -> String {
    if message.contains("larger than max") {
        message
            .chars()
            .filter(|char| !char.is_ascii_digit())
            .collect()
    } else {
        message.to_owned()
    }
}

/// Whether both lists are the same result of a sort that leaves open how pairs
/// that rank equal are ordered. Where a limit cuts such pairs (`more`), either
/// side may have kept others of them.
fn same_but_for_ties(
    request: &RangeRequest,
    more: bool,
    reference: &[KeyValue],
    candidate: &[KeyValue],
) -> bool {
    let target = request.sort_target;
    if target == SortTarget::Key as i32 || reference.len() != candidate.len() {
        return false;
    }
    let hidden = target == SortTarget::Value as i32 && request.keys_only;
    let ranks_equal = |a: &KeyValue, b: &KeyValue| match SortTarget::try_from(target) {
        Ok(SortTarget::Version) => a.version == b.version,
        Ok(SortTarget::Create) => a.create_revision == b.create_revision,
        Ok(SortTarget::Mod) => a.mod_revision == b.mod_revision,
        Ok(SortTarget::Value) => hidden || a.value == b.value,
        Ok(SortTarget::Key) | Err(_) => false,
    };
    if !reference
        .iter()
        .zip(candidate)
        .all(|(a, b)| ranks_equal(a, b))
    {
        return false;
    }
    let mut from = 0;
    for group in reference.chunk_by(ranks_equal) {
        let to = from + group.len();
        let cut = more && to == reference.len();
        if !cut && by_key(group) != by_key(&candidate[from..to]) {
            return false;
        }
        from = to;
    }
    true
}

fn by_key(pairs: &[KeyValue]) -> Vec<&KeyValue> {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort_by(|a, b| a.key.cmp(&b.key));
    pairs
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
