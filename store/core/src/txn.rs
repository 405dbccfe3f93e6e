//! Transactions: compares choose a branch, the operations of the branch are
//! checked, then carried out one after the other.
//!
//! Compares and checks of all levels see the state before the transaction.
//! Operations see what earlier ones of the transaction did.

use mizzen_planted::{bug, sometimes};
use std::{cmp::Ordering, ops::ControlFlow};

use crate::{
    command::{Compare, CompareOp, CompareTarget, Operation, Put, Range, Txn},
    error::{Error, Stop, answered},
    kv, lease,
    limits::DELETED_KEY_BYTES,
    range,
    read::{self, Live, Reader, Span},
    reply::{RangeReply, Reply},
    room::Room,
    rows::required,
    state::State,
    view::{View, ViewError},
    write::Writer,
};

/// A transaction whose compares have been decided, on all levels.
struct Chosen<'t> {
    succeeded: bool,
    operations: &'t [Operation],
    /// Of the nested transactions among the operations, in order.
    nested: Vec<Chosen<'t>>,
}

/// Applies a transaction whose form has been checked.
pub(crate) fn apply<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    txn: &Txn,
) -> Result<Reply, Stop> {
    let chosen = {
        let overlay = &*writer.overlay;
        let chosen = choose(
            &Reader::new(overlay, &writer.before, writer.before.revision),
            txn,
        )?;
        admit(overlay, &writer.before, &chosen)?;
        chosen
    };
    // A put that keeps the value of a key deleted by an earlier operation is
    // refused halfway.
    writer.overlay.begin();
    match carry_out(writer, &chosen) {
        Ok(responses) => {
            writer.overlay.commit();
            Ok(Reply::Txn {
                revision: writer.seen().revision,
                succeeded: chosen.succeeded,
                responses,
            })
        }
        Err(stop) => {
            writer.overlay.rollback();
            Err(stop)
        }
    }
}

/// Answers a transaction that [`Txn::is_read_only`]. Any other is not for a
/// view to answer: that fails.
pub fn read_only_txn<V: View + ?Sized>(
    state: &State,
    view: &V,
    txn: &Txn,
    room: &dyn Room,
) -> Result<Result<Reply, Error>, ViewError> {
    answered(read(state, view, txn, room))
}

fn read<V: View + ?Sized>(
    state: &State,
    view: &V,
    txn: &Txn,
    room: &dyn Room,
) -> Result<Reply, Stop> {
    state.alarms.trust()?;
    let chosen = choose(&Reader::new(view, state, state.revision), txn)?;
    admit(view, state, &chosen)?;
    let mut responses = Vec::with_capacity(chosen.operations.len());
    for operation in chosen.operations {
        let Operation::Range(request) = operation else {
            return Err(ViewError::Failed(
                "a transaction with writes has to come through the log".into(),
            )
            .into());
        };
        responses.push(Reply::Range(range::run(state, view, request, room)?));
    }
    Ok(Reply::Txn {
        revision: state.revision,
        succeeded: chosen.succeeded,
        responses,
    })
}

/// What carrying out `txn` on this state would put into memory: its replies,
/// and the rows of the keys it deletes.
///
/// # Errors
/// [`Error::ReplyTooLarge`] or [`Error::DeletesTooMuch`] if `room` has no room for
/// it, so that it need not be proposed. Other refusals, too, are those of this state.
pub fn rehearse<V: View + ?Sized>(
    state: &State,
    view: &V,
    txn: &Txn,
    room: &dyn Room,
) -> Result<Result<(), Error>, ViewError> {
    let reader = Reader::new(view, state, state.revision);
    answered(choose(&reader, txn).map_err(Stop::from).and_then(|chosen| {
        admit(view, state, &chosen)?;
        rehearse_chosen(state, &reader, &chosen, room)
    }))
}

fn rehearse_chosen<V: View + ?Sized>(
    state: &State,
    reader: &Reader<'_, V>,
    chosen: &Chosen<'_>,
    room: &dyn Room,
) -> Result<(), Stop> {
    let mut nested = chosen.nested.iter();
    for operation in chosen.operations {
        match operation {
            Operation::Range(request) => drop(range::run(state, reader.view, request, room)?),
            Operation::Put(put) if put.prev_kv => {
                let span = Span::Key(&put.key);
                take(reader, span, room, Error::ReplyTooLarge, |live| live.len())?;
            }
            Operation::DeleteRange(delete) => {
                let span = Span::new(&delete.key, &delete.range_end);
                take(reader, span, room, Error::DeletesTooMuch, |live| {
                    let prev = if delete.prev_kv { live.len() } else { 0 };
                    DELETED_KEY_BYTES + 2 * live.key.len() + prev
                })?;
            }
            Operation::Txn(_) => {
                if let Some(chosen) = nested.next() {
                    rehearse_chosen(state, reader, chosen, room)?;
                }
            }
            Operation::Put(_) | Operation::Empty => {}
        }
    }
    Ok(())
}

/// Takes room for every living key of a span, or refuses.
fn take<V: View + ?Sized>(
    reader: &Reader<'_, V>,
    span: Span<'_>,
    room: &dyn Room,
    refusal: Error,
    bytes: impl Fn(&Live<'_>) -> usize,
) -> Result<(), Stop> {
    let mut fits = true;
    reader.scan(span, |live| {
        fits = room.take(bytes(&live));
        Ok(if fits {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    if fits { Ok(()) } else { Err(refusal.into()) }
}

fn choose<'t, V: View + ?Sized>(
    reader: &Reader<'_, V>,
    txn: &'t Txn,
) -> Result<Chosen<'t>, ViewError> {
    let mut succeeded = true;
    for compare in &txn.compare {
        if !holds(reader, compare)? {
            succeeded = false;
            break;
        }
        bug!("only-first-compare" => break);
    }
    sometimes!("other-branch-taken", !succeeded);
    let operations = if succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    let mut nested = Vec::new();
    for operation in operations {
        if let Operation::Txn(txn) = operation {
            nested.push(choose(reader, txn)?);
        }
    }
    Ok(Chosen {
        succeeded,
        operations,
        nested,
    })
}

/// Refuses a transaction that cannot be carried out in full.
fn admit<V: View + ?Sized>(view: &V, state: &State, chosen: &Chosen<'_>) -> Result<(), Stop> {
    let mut nested = chosen.nested.iter();
    for operation in chosen.operations {
        match operation {
            Operation::Range(request) => admit_range(state, request)?,
            Operation::Put(put) => admit_put(view, state, put)?,
            Operation::Txn(_) => nested
                .next()
                .map_or(Ok(()), |chosen| admit(view, state, chosen))?,
            Operation::DeleteRange(_) | Operation::Empty => {}
        }
    }
    Ok(())
}

/// Unlike a range by itself, one in a transaction may not ask for a negative
/// revision, except -1 as long as nothing was compacted.
fn admit_range(state: &State, request: &Range) -> Result<(), Error> {
    if request.revision == 0 {
        Ok(())
    } else if request.revision > state.revision {
        Err(Error::FutureRevision)
    } else if request.revision < state.compact_revision {
        Err(Error::Compacted)
    } else {
        Ok(())
    }
}

fn admit_put<V: View + ?Sized>(view: &V, state: &State, put: &Put) -> Result<(), Stop> {
    lease::check(view, put.lease)?;
    let needs_key = put.ignore_value || put.ignore_lease;
    if needs_key && read::newest(view, state, &put.key)?.is_none_or(|newest| newest.rest.is_none())
    {
        return Err(Error::KeyNotFound.into());
    }
    Ok(())
}

fn carry_out<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    chosen: &Chosen<'_>,
) -> Result<Vec<Reply>, Stop> {
    let mut responses = Vec::with_capacity(chosen.operations.len());
    let mut nested = chosen.nested.iter();
    for operation in chosen.operations {
        match operation {
            Operation::Range(request) => {
                responses.extend(range_within(writer, request)?.map(Reply::Range));
            }
            Operation::Put(put) => responses.push(writer.put(put)?),
            Operation::DeleteRange(delete) => responses.push(writer.delete_range(delete)?),
            Operation::Txn(_) => {
                if let Some(chosen) = nested.next() {
                    let responses_within = carry_out(writer, chosen)?;
                    // etcd leaves the header of a nested reply without revision.
                    responses.push(Reply::Txn {
                        revision: 0,
                        succeeded: chosen.succeeded,
                        responses: responses_within,
                    });
                }
            }
            Operation::Empty => {}
        }
    }
    Ok(responses)
}

/// The reply of a range among writes; `None` if nobody will get it. Whether it
/// is refused must not depend on that.
fn range_within<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    request: &Range,
) -> Result<Option<RangeReply>, Stop> {
    let seen = writer.seen();
    range::admitted(&seen, request)?;
    let Some(room) = writer.reply.open() else {
        return Ok(None);
    };
    match range::run(&seen, writer.overlay, request, room) {
        Ok(reply) => Ok(Some(reply)),
        Err(Stop::Refused(Error::ReplyTooLarge)) => {
            writer.reply.overflow();
            Ok(None)
        }
        Err(stop) => Err(stop),
    }
}

/// Whether a compare holds for every living key it names. If there is none, it
/// looks at a key-value of zeroes, except that no value equals, or differs
/// from, that of a missing key.
fn holds<V: View + ?Sized>(reader: &Reader<'_, V>, compare: &Compare) -> Result<bool, ViewError> {
    let mut any = false;
    let mut all = true;
    reader.scan(Span::new(&compare.key, &compare.range_end), |live| {
        any = true;
        all = holds_for(reader, compare, live)?;
        Ok(if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    match &compare.target {
        _ if any => Ok(all),
        CompareTarget::Value(_) => Ok(false),
        _ => Ok(holds_with(compare, &kv::Fields::default())),
    }
}

fn holds_for<V: View + ?Sized>(
    reader: &Reader<'_, V>,
    compare: &Compare,
    live: Live<'_>,
) -> Result<bool, ViewError> {
    match &compare.target {
        CompareTarget::Value(_) => live.whole(reader.view, |rest| {
            let fields = required(kv::Fields::decode(rest), "log")?;
            Ok(holds_with(compare, &fields))
        })?,
        _ => Ok(holds_with(compare, &live.fields()?)),
    }
}

fn holds_with(compare: &Compare, fields: &kv::Fields<'_>) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(operand) => fields.version.cmp(operand),
        CompareTarget::Create(operand) => fields.create_revision.cmp(operand),
        CompareTarget::Mod(operand) => {
            bug!("compares-creation", fields.mod_revision => fields.create_revision).cmp(operand)
        }
        CompareTarget::Value(operand) => fields.value.cmp(operand),
        CompareTarget::Lease(operand) => fields.lease.cmp(operand),
        CompareTarget::Undefined(_) => Ordering::Equal,
    };
    match compare.op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
        CompareOp::NotEqual => ordering.is_ne(),
        CompareOp::Undefined(_) => true,
    }
}
