//! Ranges: which keys, at which revision, in which order and form.

use std::{cmp::Ordering, ops::ControlFlow};

use bytes::{Bytes, BytesMut};
use mizzen_planted::bug;

use crate::{
    command::{Range, SortOrder, SortTarget},
    error::{Error, Stop, answered},
    kv::{self, Form},
    read::{Live, Reader, Span},
    reply::{EncodedKvs, RangeReply},
    room::Room,
    rows::required,
    state::State,
    view::{View, ViewError},
};

/// Answers a range from one state and its view.
///
/// `count` is the number of keys in the range at the revision, whatever the
/// limit and the filters. Keys that a sort finds equal stay in ascending order
/// of key. `room` is for the reply, and for what has to be sorted first.
pub fn range<V: View + ?Sized>(
    state: &State,
    view: &V,
    request: &Range,
    room: &dyn Room,
) -> Result<Result<RangeReply, Error>, ViewError> {
    answered(run(state, view, request, room))
}

pub(crate) fn run<V: View + ?Sized>(
    state: &State,
    view: &V,
    request: &Range,
    room: &dyn Room,
) -> Result<RangeReply, Stop> {
    let at = admitted(state, request)?;
    let reader = Reader::new(view, state, at);
    let span = Span::new(&request.key, &request.range_end);
    let mut reply = if request.count_only {
        RangeReply {
            count: reader.count(span)?,
            ..RangeReply::default()
        }
    } else if request.has_filters() || !request.is_in_key_order() {
        selected(&reader, span, request, room)?
    } else {
        in_key_order(&reader, span, request, room)?
    };
    reply.revision = bug!("reply-of-newer-rows", state.revision => state.revision - 1);
    Ok(reply)
}

/// The revision to read at, or why the range is refused.
pub(crate) fn admitted(state: &State, request: &Range) -> Result<i64, Error> {
    request.check()?;
    state.alarms.trust()?;
    state.readable(request.revision)
}

impl Range {
    /// How its key-values stand in the reply. etcd answers a keys-only range
    /// from its index, which knows no leases, unless values are sorted by.
    pub(crate) fn form(&self) -> Form {
        match (self.keys_only, self.sort_target) {
            (false, _) => Form::Whole,
            (true, SortTarget::Value) => Form::WithoutValue,
            (true, _) => Form::RevisionsOnly,
        }
    }

    pub(crate) fn has_filters(&self) -> bool {
        let filters = [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ];
        filters.iter().any(|bound| *bound != 0)
    }

    /// Whether the order asked for is the one of a scan. Without an order, keys
    /// still are sorted by any target but the key.
    fn is_in_key_order(&self) -> bool {
        self.sort_target == SortTarget::Key && self.sort_order != SortOrder::Descend
    }

    /// `None`: no limit.
    pub(crate) fn limit(&self) -> Option<usize> {
        (self.limit > 0).then(|| usize::try_from(self.limit).unwrap_or(usize::MAX))
    }

    fn passes_filters(&self, fields: &kv::Fields<'_>) -> bool {
        let passes = |revision: i64, min: i64, max: i64| {
            (max == 0 || revision <= max) && (min == 0 || revision >= min)
        };
        passes(
            fields.mod_revision,
            self.min_mod_revision,
            self.max_mod_revision,
        ) && passes(
            fields.create_revision,
            self.min_create_revision,
            self.max_create_revision,
        )
    }
}

/// Key-values on their way into a reply, as far as there is room.
pub(crate) struct Encoder<'r> {
    room: &'r dyn Room,
    full: bool,
    bytes: BytesMut,
    len: usize,
}

impl<'r> Encoder<'r> {
    pub(crate) fn new(room: &'r dyn Room) -> Self {
        Self {
            room,
            full: false,
            bytes: BytesMut::new(),
            len: 0,
        }
    }

    /// Whether more would be in vain.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push<V: View + ?Sized>(
        &mut self,
        view: &V,
        live: Live<'_>,
        form: Form,
    ) -> Result<(), ViewError> {
        match form {
            Form::Whole => live.whole(view, |rest| self.append(live.key, rest, form))?,
            Form::WithoutValue | Form::RevisionsOnly => {
                self.append(live.key, live.without_value(), form)
            }
        }
    }

    fn append(&mut self, key: &[u8], rest: &[u8], form: Form) -> Result<(), ViewError> {
        self.full = self.full || !self.room.take(key.len() + rest.len());
        if self.full {
            return Ok(());
        }
        required(kv::append_element(&mut self.bytes, key, rest, form), "head")?;
        self.len += 1;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<EncodedKvs, Error> {
        if self.full {
            return Err(Error::ReplyTooLarge);
        }
        Ok(EncodedKvs {
            bytes: self.bytes.freeze(),
            len: self.len,
        })
    }
}

/// Copies until the limit, then only counts.
fn in_key_order<V: View + ?Sized>(
    reader: &Reader<'_, V>,
    span: Span<'_>,
    request: &Range,
    room: &dyn Room,
) -> Result<RangeReply, Stop> {
    let form = request.form();
    let limit = request.limit().unwrap_or(usize::MAX);
    let mut encoder = Encoder::new(room);
    let mut count = 0;
    reader.scan(span, |live| {
        count += 1;
        if encoder.len() < limit {
            encoder.push(reader.view, live, form)?;
        }
        Ok(if encoder.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    let kvs = encoder.finish()?;
    Ok(RangeReply {
        revision: 0,
        more: bug!("no-more", count > kvs.len as i64 => count > kvs.len as i64 && count % 3 != 0),
        count: bug!("limit-counted", count => count.min(kvs.len as i64)),
        kvs,
    })
}

/// What a candidate takes beside its key and the rest, bytes.
const CANDIDATE_BYTES: usize = size_of::<Candidate>();

/// A key-value taken out of the scan, to be sorted.
struct Candidate {
    key: Bytes,
    /// Whole, or without its value if the reply has no values.
    rest: Bytes,
    rank: i64,
    /// Empty unless values are sorted by.
    value: Bytes,
}

/// Collects what passes the filters, sorts it, then cuts it to the limit.
pub(crate) fn selected<V: View + ?Sized>(
    reader: &Reader<'_, V>,
    span: Span<'_>,
    request: &Range,
    room: &dyn Room,
) -> Result<RangeReply, Stop> {
    let limit = request.limit().unwrap_or(usize::MAX);
    // Without an order, etcd fetches the first keys up to one beyond the limit
    // and sorts only these.
    let cut_first = request.sort_order == SortOrder::None && !request.has_filters();
    let fetch = if cut_first {
        limit.saturating_add(1)
    } else {
        usize::MAX
    };
    let mut candidates = Vec::new();
    let mut count = 0;
    let mut fits = true;
    reader.scan(span, |live| {
        count += 1;
        if candidates.len() < fetch && request.passes_filters(&live.fields()?) {
            let candidate = candidate(reader.view, live, request)?;
            fits = room.take(CANDIDATE_BYTES + candidate.key.len() + candidate.rest.len());
            candidates.push(candidate);
        }
        Ok(if fits {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    if !fits {
        return Err(Error::ReplyTooLarge.into());
    }
    sort(&mut candidates, request);
    let more = candidates.len() > limit;
    candidates.truncate(limit);
    let mut encoder = Encoder::new(room);
    for candidate in &candidates {
        encoder.append(&candidate.key, &candidate.rest, request.form())?;
    }
    Ok(RangeReply {
        revision: 0,
        kvs: encoder.finish()?,
        count,
        more,
    })
}

fn candidate<V: View + ?Sized>(
    view: &V,
    live: Live<'_>,
    request: &Range,
) -> Result<Candidate, ViewError> {
    let by_value = request.sort_target == SortTarget::Value;
    let rest = if by_value || !request.keys_only {
        live.whole(view, Bytes::copy_from_slice)?
    } else {
        Bytes::copy_from_slice(live.without_value())
    };
    let fields = required(kv::Fields::decode(&rest), "head")?;
    let rank = match request.sort_target {
        SortTarget::Version => fields.version,
        SortTarget::Create => fields.create_revision,
        SortTarget::Mod => fields.mod_revision,
        SortTarget::Key | SortTarget::Value | SortTarget::Undefined(_) => 0,
    };
    let value = if by_value && !fields.value.is_empty() {
        rest.slice_ref(fields.value)
    } else {
        Bytes::new()
    };
    Ok(Candidate {
        key: Bytes::copy_from_slice(live.key),
        rest,
        rank,
        value,
    })
}

/// Stable, and the candidates come in ascending order of key.
fn sort(candidates: &mut [Candidate], request: &Range) {
    let compare = |a: &Candidate, b: &Candidate| match request.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Value => a.value.cmp(&b.value),
        SortTarget::Version | SortTarget::Create | SortTarget::Mod => a.rank.cmp(&b.rank),
        SortTarget::Undefined(_) => Ordering::Equal,
    };
    if request.sort_order == SortOrder::Descend {
        candidates.sort_by(|a, b| compare(b, a));
    } else {
        candidates.sort_by(compare);
    }
}
