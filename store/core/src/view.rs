//! What the state machine asks of whoever keeps its rows.

use std::ops::ControlFlow;

use bytes::Bytes;

/// A family of rows, each with its own order of keys. The numbers are
/// persisted by engines: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// User key -> its newest version (or tombstone). Reads at head.
    Head = 0,
    /// Revision -> what happened at it. History, watches, old values.
    Log = 1,
    /// Small rows: revision, compaction, leases, and rows of other owners.
    Meta = 2,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Head, Family::Log, Family::Meta];
}

/// Why a view could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The view answers from memory only, and this needs a disk read. The
    /// caller asks again, from a thread that may block.
    #[error("the rows are not in memory")]
    WouldBlock,
    /// Reading failed or the rows are damaged. Fatal for the replica.
    #[error("{0}")]
    Failed(String),
}

/// Is called with the key and the value of a row; says whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Is called with the place of a span among those asked for, and the key and
/// the value of a row in it; says whether to go on with that span.
pub type VisitEach<'a> = &'a mut dyn FnMut(usize, &[u8], &[u8]) -> ControlFlow<()>;

/// The keys from the first on and below the second (`None`: to the end of the
/// family).
pub type RowSpan<'a> = (&'a [u8], Option<&'a [u8]>);

/// A consistent, immutable sight of the rows.
pub trait View {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError>;

    /// The rows of `keys`, in the order of `keys`.
    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, ViewError> {
        keys.iter().map(|key| self.get(family, key)).collect()
    }

    /// Visits the rows with `from <= key < to` (`None`: to the end of the
    /// family) in ascending order of key until the visitor breaks.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), ViewError>;

    /// Visits the rows of several spans with few rows each, as [`View::scan`]
    /// each of them. In which order the spans come is not told.
    fn scan_each(
        &self,
        family: Family,
        spans: &[RowSpan<'_>],
        visit: VisitEach<'_>,
    ) -> Result<(), ViewError> {
        scan_one_by_one(self, family, spans, visit)
    }
}

/// [`View::scan_each`] for who has no better way.
pub fn scan_one_by_one<V: View + ?Sized>(
    view: &V,
    family: Family,
    spans: &[RowSpan<'_>],
    visit: VisitEach<'_>,
) -> Result<(), ViewError> {
    for (place, (from, to)) in spans.iter().enumerate() {
        view.scan(family, from, *to, &mut |key, row| visit(place, key, row))?;
    }
    Ok(())
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOp {
    Put {
        family: Family,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        family: Family,
        key: Bytes,
    },
}

/// Row changes an engine makes visible together or not at all. At most one
/// change per row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub ops: Vec<RowOp>,
}

impl Batch {
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(RowOp::Put {
            family,
            key: key.into(),
            value: value.into(),
        });
    }

    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.ops.push(RowOp::Delete {
            family,
            key: key.into(),
        });
    }
}
