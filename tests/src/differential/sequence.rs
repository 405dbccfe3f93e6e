//! One sequence: equal empty state on both sides, operations one at a time,
//! comparison of everything that is left.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use mizzen_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvResponse, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, TxnRequest,
};
use tonic::Code;

use super::compare::{Comparison, compare};
use super::generate::{Generator, Step, View};
use super::known_stops;
use super::operation::{Failure, Operation, Outcome, readable};
use super::side::{Member, Side};
use super::values::{LEASES, grantable_leases};
use super::watches::{Unequal, WatchStep, Watches};

/// Longer than any run, in seconds.
const LEASE_TTL: i64 = 1_000_000;
/// Revisions made at a time when a side is behind.
const FILL_BATCH: i64 = 64;
/// Past revisions read at the end of a sequence.
const PAST_REVISIONS: i64 = 12;
/// Put and delete that give both sides an equal empty state.
const EQUALISING_WRITES: i64 = 2;

/// The two clusters.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    pub reference: &'a Side,
    pub candidate: &'a Side,
    /// The candidate is an etcd too, so it cannot be asked what stops one.
    pub candidate_is_etcd: bool,
}

/// Where and how the sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Revision that the sequence started from.
    pub start: i64,
    /// The operation, or none if the final comparison differs.
    pub index: Option<usize>,
    /// Readable account of request, members, differences and replies.
    pub account: String,
}

/// Why a sequence did not reach its end.
pub enum Stop {
    Found(Box<Finding>),
    /// A member did not answer for a reason of its own, so that state is
    /// unknown. Carries what was being done.
    Interrupted(String, Failure),
}

/// What a sequence did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Operations compared, by method and by code of the reference's answer.
    pub answers: BTreeMap<(&'static str, String), u64>,
    /// Operations sent to the candidate only.
    pub refused: u64,
    /// Compactions left out, since they would stop the reference.
    pub left_out: u64,
    /// Sorted ranges whose equal-ranking pairs came in another order.
    pub reordered: u64,
    /// Events of watches compared.
    pub events: u64,
}

/// Runs the operations at `indices` of the sequence.
///
/// # Errors
/// The first difference, or an interruption.
pub async fn run_sequence(
    pair: Pair<'_>,
    generator: &Generator,
    indices: &[usize],
    start_revision: i64,
) -> Result<Tally, Stop> {
    let start = prepare(pair, start_revision)
        .await
        .map_err(|failure| Stop::Interrupted("preparing a sequence".to_owned(), failure))?;
    let mut sequence = Sequence {
        pair,
        view: View {
            start,
            current: start,
            compacted: start,
        },
        not_compacted: BTreeSet::new(),
        tally: Tally::default(),
        watches: Watches::new(pair.reference, pair.candidate, pair.candidate_is_etcd),
    };
    for &index in indices {
        let (step, draw) = generator.step(index, &sequence.view);
        match step {
            Step::Compare(operation) => sequence.compare(index, draw, operation).await?,
            Step::Refused(_) if pair.candidate_is_etcd => {}
            Step::Refused(txn) => sequence.refused(index, draw, txn).await?,
            Step::Watch(step) => sequence.watch(index, draw, &step).await?,
        }
    }
    let finished = sequence.watches.finish(sequence.view.current).await;
    finished.map_err(|unequal| sequence.unequal(None, unequal))?;
    sequence.compare_rest().await?;
    sequence.tally.events = sequence.watches.events;
    Ok(sequence.tally)
}

struct Sequence<'a> {
    pair: Pair<'a>,
    view: View,
    /// Revisions at which a compaction would stop the reference.
    not_compacted: BTreeSet<i64>,
    tally: Tally,
    watches: Watches<'a>,
}

impl Sequence<'_> {
    async fn compare(
        &mut self,
        index: usize,
        draw: usize,
        operation: Operation,
    ) -> Result<(), Stop> {
        if let Operation::Compact(compaction) = &operation
            && self.not_compacted.contains(&compaction.revision)
        {
            self.tally.left_out += 1;
            return Ok(());
        }
        if matches!(operation, Operation::Compact(_)) {
            // What is compacted now was told: previous values, too, are gone then.
            let told = self.watches.barrier(self.view.current).await;
            told.map_err(|unequal| self.unequal(Some(index), unequal))?;
        }
        let reference = self.pair.reference.member(draw);
        let candidate = self.pair.candidate.member(draw);
        let answer = self
            .compare_on(Some(index), &operation, reference, candidate)
            .await?;
        let code = match &answer {
            Ok(_) => "Ok".to_owned(),
            Err(failure) => format!("{:?}", failure.code),
        };
        *self
            .tally
            .answers
            .entry((operation.method(), code))
            .or_default() += 1;
        if let Ok(reply) = answer {
            if let Some(header) = reply.header() {
                self.view.current = self.view.current.max(header.revision);
            }
            match operation {
                Operation::Compact(compaction) => {
                    self.view.compacted = self.view.compacted.max(compaction.revision);
                }
                Operation::Txn(txn) if known_stops::forbids_compaction(&txn) => {
                    self.not_compacted.insert(self.view.current);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends one operation to two members at once and returns the reference's
    /// answer if the candidate's is the same.
    async fn compare_on(
        &mut self,
        index: Option<usize>,
        operation: &Operation,
        reference: &Member,
        candidate: &Member,
    ) -> Result<Outcome, Stop> {
        let (expected, actual) = tokio::join!(reference.call(operation), candidate.call(operation));
        for (outcome, member) in [(&expected, reference), (&actual, candidate)] {
            if let Err(failure) = outcome
                && failure.is_interruption()
            {
                let doing = format!(
                    "{} on {} {}",
                    operation.method(),
                    member.endpoint(),
                    place(index)
                );
                return Err(Stop::Interrupted(doing, failure.clone()));
            }
        }
        let Comparison {
            differences,
            reordered,
        } = compare(operation, &expected, &actual);
        self.tally.reordered += reordered as u64;
        if differences.is_empty() {
            return Ok(expected);
        }
        let fields: String = differences
            .iter()
            .map(|difference| {
                format!(
                    "  {}: {} at the reference, {} at the candidate\n",
                    difference.path, difference.reference, difference.candidate
                )
            })
            .collect();
        Err(self.found(
            index,
            format!(
                "request: {}\nmembers: {} and {}\ndifferences:\n{fields}reference: {}\ncandidate: {}",
                readable(operation),
                reference.endpoint(),
                candidate.endpoint(),
                readable(&expected),
                readable(&actual),
            ),
        ))
    }

    async fn watch(&mut self, index: usize, draw: usize, step: &WatchStep) -> Result<(), Stop> {
        let View {
            current, compacted, ..
        } = self.view;
        let done = self.watches.step(step, draw, current, compacted).await;
        let answer = done.map_err(|unequal| self.unequal(Some(index), unequal))?;
        let count = (step.method(), answer.to_owned());
        *self.tally.answers.entry(count).or_default() += 1;
        Ok(())
    }

    fn unequal(&self, index: Option<usize>, unequal: Unequal) -> Stop {
        match unequal {
            Unequal::Found(account) => self.found(index, account),
            Unequal::Interrupted(doing, failure) => {
                Stop::Interrupted(format!("{doing} {}", place(index)), failure)
            }
        }
    }

    fn found(&self, index: Option<usize>, account: String) -> Stop {
        Stop::Found(Box::new(Finding {
            start: self.view.start,
            index,
            account,
        }))
    }

    /// Asks the candidate for what stops an etcd: it refuses with the text that
    /// etcd has for a missing key, changes nothing, and goes on.
    async fn refused(&mut self, index: usize, draw: usize, txn: TxnRequest) -> Result<(), Stop> {
        let candidate = self.pair.candidate.member(draw);
        let operation = Operation::Txn(txn);
        let answer = candidate.call(&operation).await;
        if let Err(failure) = &answer
            && failure.is_interruption()
        {
            let doing = format!(
                "refused Txn on {} {}",
                candidate.endpoint(),
                place(Some(index))
            );
            return Err(Stop::Interrupted(doing, failure.clone()));
        }
        let expected: Outcome = Err(Failure {
            code: Code::InvalidArgument,
            message: "etcdserver: key not found".to_owned(),
        });
        if answer != expected {
            return Err(self.found(
                Some(index),
                format!(
                    "request: {}\nmember: {}\nexpected: {}\nanswer: {}",
                    readable(&operation),
                    candidate.endpoint(),
                    readable(&expected),
                    readable(&answer),
                ),
            ));
        }
        self.tally.refused += 1;
        let reference = self.pair.reference.member(0);
        self.compare_everything(Some(index), 0, reference, candidate)
            .await
    }

    /// All pairs at a readable revision.
    async fn compare_everything(
        &mut self,
        index: Option<usize>,
        revision: i64,
        reference: &Member,
        candidate: &Member,
    ) -> Result<(), Stop> {
        let operation = Operation::Range(RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision,
            ..RangeRequest::default()
        });
        match self
            .compare_on(index, &operation, reference, candidate)
            .await?
        {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.found(
                index,
                format!("both sides fail to read everything at revision {revision}: {failure}"),
            )),
        }
    }

    /// Everything stored, now and at past revisions, and hashes.
    async fn compare_rest(&mut self) -> Result<(), Stop> {
        let pair = self.pair;
        for candidate in pair.candidate.members() {
            self.compare_everything(None, 0, pair.reference.member(0), candidate)
                .await?;
        }
        for reference in pair.reference.members() {
            self.compare_everything(None, 0, reference, pair.candidate.member(0))
                .await?;
        }
        let View {
            current, compacted, ..
        } = self.view;
        let span = current - compacted;
        for number in 0..=PAST_REVISIONS.min(span) {
            let revision = compacted + span * number / PAST_REVISIONS.min(span).max(1);
            let draw = usize::try_from(number).unwrap_or_default();
            let reference = pair.reference.member(draw);
            let candidate = pair.candidate.member(draw);
            self.compare_everything(None, revision, reference, candidate)
                .await?;
        }
        for revision in [0, compacted, compacted + span / 2] {
            self.compare_hashes(revision).await?;
        }
        Ok(())
    }

    /// The hash is equal among the members of a cluster, and is of the same
    /// revisions in both clusters.
    async fn compare_hashes(&mut self, revision: i64) -> Result<(), Stop> {
        let reference = self.hash_of(self.pair.reference, revision).await?;
        let candidate = self.hash_of(self.pair.candidate, revision).await?;
        let revisions = |hash: &HashKvResponse| (hash.compact_revision, hash.hash_revision);
        if revisions(&reference) != revisions(&candidate) {
            return Err(self.found(
                None,
                format!("HashKV({revision}): {reference:?} at the reference, {candidate:?} at the candidate"),
            ));
        }
        Ok(())
    }

    async fn hash_of(&self, side: &Side, revision: i64) -> Result<HashKvResponse, Stop> {
        let mut first: Option<HashKvResponse> = None;
        for member in side.members() {
            let doing = || format!("HashKV({revision}) on {}", member.endpoint());
            let hash = match member.hash_kv(revision).await {
                Ok(hash) => hash,
                Err(failure) if failure.is_interruption() => {
                    return Err(Stop::Interrupted(doing(), failure));
                }
                Err(failure) => {
                    return Err(self.found(None, format!("{}: {failure}", doing())));
                }
            };
            let fields = |hash: &HashKvResponse| {
                let revision = hash.header.as_ref().map(|header| header.revision);
                (
                    revision,
                    hash.hash,
                    hash.compact_revision,
                    hash.hash_revision,
                )
            };
            match &first {
                Some(first) if fields(first) != fields(&hash) => {
                    let name = side.name();
                    return Err(self.found(
                        None,
                        format!(
                            "HashKV({revision}) differs within the {name}: {first:?}, {hash:?}"
                        ),
                    ));
                }
                Some(_) => {}
                None => first = Some(hash),
            }
        }
        Ok(first.unwrap_or_default())
    }
}

/// Where in a sequence.
pub fn place(index: Option<usize>) -> String {
    match index {
        Some(index) => format!("at operation {index}"),
        None => "in the final comparison".to_owned(),
    }
}

/// Brings both sides to the same revision, at least `start_revision` and
/// compacted there, with no key and the usual leases. Returns the revision.
async fn prepare(pair: Pair<'_>, start_revision: i64) -> Result<i64, Failure> {
    let (reference, candidate) = (pair.reference.member(0), pair.candidate.member(0));
    let (a, b) = tokio::join!(clear(reference), clear(candidate));
    let (a, b) = (a?, b?);
    let revision = a.max(b).max(start_revision - EQUALISING_WRITES);
    let (a, b) = tokio::join!(
        advance(reference, a, revision),
        advance(candidate, b, revision)
    );
    a?;
    b?;
    let (a, b) = tokio::join!(settle(reference), settle(candidate));
    let (a, b) = (a?, b?);
    if a == b {
        return Ok(a);
    }
    Err(Failure {
        code: Code::Internal,
        message: format!("revision {a} at the reference but {b} at the candidate at the start"),
    })
}

/// Revokes leases and deletes keys; returns the revision.
async fn clear(member: &Member) -> Result<i64, Failure> {
    for id in grantable_leases() {
        match member
            .call(&Operation::LeaseRevoke(LeaseRevokeRequest { id }))
            .await
        {
            Err(failure) if failure.code != Code::NotFound => return Err(failure),
            _ => {}
        }
    }
    delete_everything(member).await?;
    member.revision().await
}

async fn delete_everything(member: &Member) -> Outcome {
    let request = DeleteRangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        prev_kv: false,
    };
    member.call(&Operation::DeleteRange(request)).await
}

async fn put_filler(member: &Member) -> Outcome {
    let request = PutRequest {
        key: "filler".into(),
        ..PutRequest::default()
    };
    member.call(&Operation::Put(request)).await
}

async fn advance(member: &Member, mut revision: i64, to: i64) -> Result<(), Failure> {
    while revision < to {
        let batch = FILL_BATCH.min(to - revision);
        for outcome in join_all((0..batch).map(|_| put_filler(member))).await {
            outcome?;
        }
        revision += batch;
    }
    Ok(())
}

/// One put and a delete of everything, a compaction there, and the leases.
async fn settle(member: &Member) -> Result<i64, Failure> {
    put_filler(member).await?;
    delete_everything(member).await?;
    let revision = member.revision().await?;
    let compaction = CompactionRequest {
        revision,
        physical: true,
    };
    member.call(&Operation::Compact(compaction)).await?;
    for id in LEASES {
        let grant = LeaseGrantRequest { ttl: LEASE_TTL, id };
        member.call(&Operation::LeaseGrant(grant)).await?;
    }
    Ok(revision)
}
