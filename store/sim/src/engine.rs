//! The engine of simulations and tests: ordered maps in memory.
//!
//! The maps are persistent, so a snapshot and the image of the last flush cost
//! a few pointers each. All it does follows from its calls and its seed.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    ops::{Bound, ControlFlow},
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use mizzen_core::{Batch, Family, RowOp, View, ViewError};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rpds::RedBlackTreeMapSync;

use mizzen_engine::{
    CopiedFile, Engine, EngineError, EngineErrorKind, EngineHealth, EngineSize, Incoming, Outgoing,
    Snapshot, Transfer,
};

/// What the engine does that its caller did not ask for. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemOptions {
    /// Decides by lot where the options below leave a choice.
    pub seed: u64,
    /// One write in this many is followed by a flush, as RocksDB may flush at
    /// any time of its own accord. 0: never.
    pub flush_one_in: u64,
    /// One row in this many (present or not, and always the same) cannot be
    /// read from memory. 0: none.
    pub cold_one_in: u64,
}

#[derive(Clone, Default)]
struct Rows {
    families: [RedBlackTreeMapSync<Bytes, Bytes>; Family::ALL.len()],
    bytes: u64,
}

impl Rows {
    fn get(&self, family: Family, key: &[u8]) -> Option<&Bytes> {
        self.families[family as usize].get(key)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for family in Family::ALL {
            for (key, value) in &self.families[family as usize] {
                bytes.push(family as u8);
                for part in [key, value] {
                    bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(part);
                }
            }
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        fn part(bytes: &mut &[u8]) -> Option<Bytes> {
            let (len, rest) = bytes.split_first_chunk()?;
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            let (part, rest) = rest.split_at_checked(len)?;
            *bytes = rest;
            Some(Bytes::copy_from_slice(part))
        }
        let mut rows = Self::default();
        while let Some((&family, rest)) = bytes.split_first() {
            bytes = rest;
            let family = *Family::ALL.get(usize::from(family))?;
            let (key, value) = (part(&mut bytes)?, part(&mut bytes)?);
            rows.apply(&RowOp::Put { family, key, value });
        }
        Some(rows)
    }

    /// Returns the bytes of the change.
    fn apply(&mut self, op: &RowOp) -> u64 {
        let (family, key, value) = match op {
            RowOp::Put { family, key, value } => (*family, key, Some(value)),
            RowOp::Delete { family, key } => (*family, key, None),
        };
        let row_bytes = |value: &Bytes| (key.len() + value.len()) as u64;
        if let Some(old) = self.get(family, key) {
            self.bytes -= row_bytes(old);
        }
        let rows = &mut self.families[family as usize];
        match value {
            Some(value) => {
                self.bytes += row_bytes(value);
                rows.insert_mut(key.clone(), value.clone());
                row_bytes(value)
            }
            None => {
                rows.remove_mut(key);
                key.len() as u64
            }
        }
    }
}

struct State {
    rows: Rows,
    flushed: Rows,
    /// Given with the rows when they were received.
    label: Option<Bytes>,
    unflushed: u64,
    lots: StdRng,
}

impl State {
    fn flush(&mut self) {
        self.flushed = self.rows.clone();
        self.unflushed = 0;
    }

    /// True once in `one_in` calls, by lot.
    fn lot(&mut self, one_in: u64) -> bool {
        if one_in == 0 {
            return false;
        }
        self.lots.random_range(0..one_in) == 0
    }
}

/// Called with the engine as a crash at this moment would leave it.
type CrashHook = Box<dyn Fn(&MemEngine) + Send + Sync>;

/// The engine. Clones are the same engine.
#[derive(Clone)]
pub struct MemEngine {
    options: MemOptions,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    hook: OnceLock<CrashHook>,
}

impl Default for MemEngine {
    fn default() -> Self {
        Self::new(MemOptions::default())
    }
}

impl MemEngine {
    pub fn new(options: MemOptions) -> Self {
        let lots = StdRng::seed_from_u64(options.seed);
        Self::with_rows(options, Rows::default(), None, lots)
    }

    fn with_rows(options: MemOptions, rows: Rows, label: Option<Bytes>, lots: StdRng) -> Self {
        Self {
            options,
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    rows: rows.clone(),
                    flushed: rows,
                    label,
                    unflushed: 0,
                    lots,
                }),
                hook: OnceLock::new(),
            }),
        }
    }

    /// `hook` is called before and after each change of what a crash leaves.
    /// Only the first hook counts.
    pub fn watch(&self, hook: impl Fn(&Self) + Send + Sync + 'static) {
        // A second one is a mistake of the test; the first keeps working.
        let _ = self.shared.hook.set(Box::new(hook));
    }

    /// Changes what a crash leaves.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let tell = || {
            if let Some(hook) = self.shared.hook.get() {
                hook(self);
            }
        };
        tell();
        change(&mut self.shared.state.lock());
        tell();
    }

    /// The engine that the next process finds if this one ends now, by a crash
    /// or without a flush. This engine stays as it is, cut off from that one.
    pub fn crash(&self) -> Self {
        let state = self.shared.state.lock();
        Self::with_rows(
            self.options,
            state.flushed.clone(),
            state.label.clone(),
            state.lots.clone(),
        )
    }
}

impl Engine for MemEngine {
    type Snapshot = MemSnapshot;

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut state = self.shared.state.lock();
        for op in &batch.ops {
            state.unflushed += state.rows.apply(op);
        }
        let flush = state.lot(self.options.flush_one_in);
        drop(state);
        if flush {
            self.change(State::flush);
        }
        Ok(())
    }

    fn snapshot(&self) -> MemSnapshot {
        MemSnapshot {
            rows: Arc::new(self.shared.state.lock().rows.clone()),
            options: self.options,
            in_memory: false,
        }
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.change(State::flush);
        Ok(())
    }

    fn persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.shared.state.lock().flushed.get(family, key).cloned())
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        let state = self.shared.state.lock();
        Ok(EngineSize {
            disk: state.flushed.bytes,
            in_use: state.rows.bytes,
            unflushed: state.unflushed,
        })
    }

    fn estimated_rows(&self, family: Family) -> Result<u64, EngineError> {
        let state = self.shared.state.lock();
        Ok(state.rows.families[family as usize].size() as u64)
    }

    fn health(&self) -> Result<EngineHealth, EngineError> {
        Ok(EngineHealth::default())
    }
}

impl Transfer for MemEngine {
    fn copy(&self) -> Result<Box<dyn Outgoing>, EngineError> {
        self.flush()?;
        let rows = self.shared.state.lock().flushed.clone();
        let bytes = Bytes::from(rows.encode());
        let file = CopiedFile {
            name: COPY.to_owned(),
            size: bytes.len() as u64,
        };
        Ok(Box::new(MemOutgoing {
            files: [file],
            bytes,
        }))
    }

    fn receive(&self) -> Result<Box<dyn Incoming>, EngineError> {
        Ok(Box::new(MemIncoming {
            engine: self.clone(),
            bytes: Vec::new(),
            rows: None,
        }))
    }

    fn label(&self) -> Option<Bytes> {
        self.shared.state.lock().label.clone()
    }
}

/// The one file of a copy: for each row its family's number, then key and
/// value, each with its length before it (8 bytes little-endian).
const COPY: &str = "rows";

struct MemOutgoing {
    files: [CopiedFile; 1],
    bytes: Bytes,
}

impl Outgoing for MemOutgoing {
    fn files(&self) -> &[CopiedFile] {
        &self.files
    }

    fn read(&self, _file: &CopiedFile, offset: u64, len: usize) -> Result<Bytes, EngineError> {
        let size = self.bytes.len();
        let from = usize::try_from(offset).unwrap_or(size).min(size);
        Ok(self.bytes.slice(from..from.saturating_add(len).min(size)))
    }
}

struct MemIncoming {
    engine: MemEngine,
    bytes: Vec<u8>,
    rows: Option<Rows>,
}

impl MemIncoming {
    fn refused(message: &str) -> EngineError {
        EngineError::new(
            EngineErrorKind::Format,
            "receive into",
            Path::new("memory"),
            message,
        )
    }
}

impl Incoming for MemIncoming {
    fn file(&mut self, name: &str) -> Result<(), EngineError> {
        if name == COPY {
            Ok(())
        } else {
            Err(Self::refused("an unknown file"))
        }
    }

    fn write(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn finish(&mut self, look: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError> {
        let rows = Rows::decode(&std::mem::take(&mut self.bytes))
            .ok_or_else(|| Self::refused("the rows do not decode"))?;
        look(&MemSnapshot {
            rows: Arc::new(rows.clone()),
            options: self.engine.options,
            in_memory: false,
        });
        self.rows = Some(rows);
        Ok(())
    }

    fn install(mut self: Box<Self>, label: &[u8]) -> Result<(), EngineError> {
        let rows = self
            .rows
            .take()
            .ok_or_else(|| Self::refused("the rows are not complete"))?;
        let label = Bytes::copy_from_slice(label);
        self.engine.change(|state| {
            state.rows = rows;
            state.label = Some(label);
            state.flush();
        });
        Ok(())
    }
}

#[derive(Clone)]
pub struct MemSnapshot {
    rows: Arc<Rows>,
    options: MemOptions,
    in_memory: bool,
}

impl MemSnapshot {
    fn check_in_memory(&self, family: Family, key: &[u8]) -> Result<(), ViewError> {
        if self.in_memory && self.options.cold_one_in > 0 {
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            let row = hasher.hash_one((self.options.seed, family as u8, key));
            if row.is_multiple_of(self.options.cold_one_in) {
                return Err(ViewError::WouldBlock);
            }
        }
        Ok(())
    }
}

impl Snapshot for MemSnapshot {
    fn in_memory(&self) -> Self {
        Self {
            in_memory: true,
            ..self.clone()
        }
    }

    fn bulk(&self) -> Self {
        Self {
            in_memory: false,
            ..self.clone()
        }
    }
}

impl View for MemSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.check_in_memory(family, key)?;
        Ok(self.rows.get(family, key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        // An inverted range would panic below.
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in
            self.rows.families[family as usize].range::<[u8], _>((Bound::Included(from), to))
        {
            self.check_in_memory(family, key)?;
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(Family::Head, "n", Bytes::copy_from_slice(&n.to_be_bytes()));
        batch.put(Family::Log, Bytes::copy_from_slice(&n.to_be_bytes()), "row");
        batch
    }

    fn survivors(engine: &MemEngine) -> usize {
        engine.crash().snapshot().rows.families[Family::Log as usize].size()
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_nothing_else() {
        let engine = MemEngine::default();
        engine.write(&batch(1)).expect("writes");
        engine.flush().expect("flushes");
        engine.write(&batch(2)).expect("writes");
        let before = engine.snapshot();
        let after = engine.crash();
        assert_eq!(
            after.snapshot().get(Family::Head, b"n"),
            Ok(Some(Bytes::copy_from_slice(&1u64.to_be_bytes())))
        );
        assert_eq!(
            after.snapshot().get(Family::Log, &2u64.to_be_bytes()),
            Ok(None)
        );
        assert_eq!(
            before.get(Family::Log, &2u64.to_be_bytes()),
            Ok(Some("row".into()))
        );
        // A writer of the old life reaches nobody.
        engine.write(&batch(3)).expect("writes");
        engine.flush().expect("flushes");
        assert_eq!(
            after.snapshot().get(Family::Log, &3u64.to_be_bytes()),
            Ok(None)
        );
    }

    #[test]
    fn automatic_flushes_follow_the_seed() {
        let history = |seed| {
            let engine = MemEngine::new(MemOptions {
                seed,
                flush_one_in: 4,
                ..MemOptions::default()
            });
            let flushed = (1..=100).map(|n| {
                engine.write(&batch(n)).expect("writes");
                survivors(&engine)
            });
            flushed.collect::<Vec<_>>()
        };
        let flushes =
            |history: &[usize]| history.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let [one, two] = [1, 2].map(history);
        assert_eq!(one, history(1));
        assert_ne!(one, two);
        for history in [one, two] {
            assert!((10..=45).contains(&flushes(&history)), "{history:?}");
            // Each flush took everything written before it.
            assert!(history.iter().enumerate().all(|(at, kept)| *kept <= at + 1));
            assert!(history.iter().enumerate().any(|(at, kept)| *kept == at + 1));
        }
    }

    #[test]
    fn cold_rows_are_the_same_ones_each_time_and_only_in_memory() {
        let engine = MemEngine::new(MemOptions {
            seed: 7,
            cold_one_in: 3,
            ..MemOptions::default()
        });
        (1..=60).for_each(|n| engine.write(&batch(n)).expect("writes"));
        let snapshot = engine.snapshot();
        let memory = snapshot.in_memory();
        let cold = |view: &MemSnapshot| {
            (1..=60u64)
                .filter(|n| view.get(Family::Log, &n.to_be_bytes()) == Err(ViewError::WouldBlock))
                .count()
        };
        assert!((10..=30).contains(&cold(&memory)), "{}", cold(&memory));
        assert_eq!(cold(&memory), cold(&engine.snapshot().in_memory()));
        assert_eq!((cold(&snapshot), cold(&memory.bulk())), (0, 0));
        let scan = |view: &MemSnapshot| {
            view.scan(
                Family::Log,
                b"",
                None,
                &mut |_, _| ControlFlow::Continue(()),
            )
        };
        assert_eq!(
            (scan(&memory), scan(&snapshot)),
            (Err(ViewError::WouldBlock), Ok(()))
        );
    }

    #[test]
    fn sizes_count_rows_once() {
        let engine = MemEngine::default();
        let size = |engine: &MemEngine| engine.size().expect("measures");
        (0..3).for_each(|_| engine.write(&batch(1)).expect("writes"));
        let rows = 1 + 8 + 8 + 3;
        assert_eq!(
            size(&engine),
            EngineSize {
                disk: 0,
                in_use: rows,
                unflushed: 3 * rows
            }
        );
        engine.flush().expect("flushes");
        assert_eq!(
            size(&engine),
            EngineSize {
                disk: rows,
                in_use: rows,
                unflushed: 0
            }
        );
        let mut delete = Batch::default();
        delete.delete(Family::Head, "n");
        delete.delete(Family::Head, "absent");
        engine.write(&delete).expect("writes");
        assert_eq!(
            size(&engine),
            EngineSize {
                disk: rows,
                in_use: rows - 9,
                unflushed: 7
            }
        );
    }
}
