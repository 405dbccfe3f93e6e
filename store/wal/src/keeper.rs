//! The segment keeper: makes the next segment ready ahead of time, and reuses or removes purged
//! ones. Runs beside the writer, so that zero-filling and directory syncs cost no commit anything.
//!
//! Every change of names is synced before the next one: a later purge can therefore never be
//! durable without an earlier one, and segment numbers on disk have no gap.

use std::collections::VecDeque;
use std::sync::Arc;

use super::WalError;
use super::format::SegmentHeader;
use super::fs::{LogFile, LogFs};
use super::limits::{FILL_PAUSE, SCAN_CHUNK, SPARE_SEGMENTS};
use super::segments::{Segment, TEMPORARY, segment_name, spare_name};
use super::state::Shared;

/// A file kept for reuse: right size, stale content.
pub(super) struct Spare {
    pub name: String,
    pub file: Arc<dyn LogFile>,
}

pub(super) struct Keeper {
    prepared: Option<Arc<Segment>>,
    /// Number of the next segment to prepare.
    next_id: u64,
    doomed: VecDeque<Arc<Segment>>,
    spares: Vec<Spare>,
    /// Why the last preparation failed; not tried again until the writer asks.
    prepare_error: Option<WalError>,
    /// A removal failed. Newer segments must not be removed before it; the next start does it all.
    discard_stopped: bool,
    /// The writer waits for the next segment.
    is_awaited: bool,
    stop: bool,
}

enum Chore {
    Prepare(u64, Option<Spare>),
    Discard(Arc<Segment>, bool),
}

/// How a chore failed.
enum Failure {
    /// Nothing is lost and it may be tried again.
    Again(WalError),
    /// A sync failed: what is on disk is unknown.
    Fatal(WalError),
}

impl Keeper {
    pub fn new(prepared: Option<Arc<Segment>>, next_id: u64, spares: Vec<Spare>) -> Self {
        Self {
            prepared,
            next_id,
            doomed: VecDeque::new(),
            spares,
            prepare_error: None,
            discard_stopped: false,
            is_awaited: false,
            stop: false,
        }
    }

    /// Whether the next segment is ready, or on its way.
    pub fn is_able(&self) -> bool {
        self.prepare_error.is_none()
    }

    pub fn discard(&mut self, segment: Arc<Segment>) {
        self.doomed.push_back(segment);
    }

    pub fn stop(&mut self) {
        self.stop = true;
    }

    pub fn has_chore(&self) -> bool {
        self.can_prepare() || self.can_discard()
    }

    fn can_prepare(&self) -> bool {
        self.prepared.is_none() && self.prepare_error.is_none()
    }

    fn can_discard(&self) -> bool {
        !self.discard_stopped && !self.doomed.is_empty()
    }

    fn next_chore(&mut self) -> Option<Chore> {
        // A purged segment is first made a spare, so that preparing need not write zeros.
        if self.can_prepare() && (!self.spares.is_empty() || !self.can_discard()) {
            return Some(Chore::Prepare(self.next_id, self.spares.pop()));
        }
        if !self.can_discard() {
            return None;
        }
        self.doomed
            .pop_front()
            .map(|segment| Chore::Discard(segment, self.spares.len() < SPARE_SEGMENTS))
    }
}

impl Shared {
    /// The body of the keeper's thread.
    pub fn keep_segments(&self) {
        loop {
            {
                let mut state = self.lock();
                while !state.keeper.stop && (state.healthy().is_err() || !state.keeper.has_chore())
                {
                    self.chores.wait(&mut state);
                }
                if state.keeper.stop {
                    return;
                }
            }
            self.do_chore();
        }
    }

    /// Does one chore; `false` if there is none.
    pub fn do_chore(&self) -> bool {
        let Some(chore) = self.lock().keeper.next_chore() else {
            return false;
        };
        let fatal = match chore {
            Chore::Prepare(id, spare) => self.prepare(id, spare).err(),
            Chore::Discard(segment, keep) => self.discard(&segment, keep).err(),
        };
        if let Some(error) = fatal {
            self.poison(error);
        }
        self.progress.notify_all();
        true
    }

    /// Takes the prepared segment, waiting for it if need be. A preparation that failed before is
    /// tried once more.
    pub fn take_prepared(&self) -> Result<Arc<Segment>, WalError> {
        let mut tried = false;
        let mut state = self.lock();
        loop {
            state.healthy()?;
            if let Some(segment) = state.keeper.prepared.take() {
                state.keeper.is_awaited = false;
                self.chores.notify_one();
                return Ok(segment);
            }
            if let Some(error) = state.keeper.prepare_error.take() {
                if tried {
                    state.keeper.is_awaited = false;
                    return Err(error);
                }
                tried = true;
            }
            state.keeper.is_awaited = true;
            if self.settings.stepped {
                drop(state);
                self.do_chore();
                state = self.lock();
            } else {
                self.chores.notify_one();
                self.wait_progress(&mut state);
            }
        }
    }

    fn prepare(&self, id: u64, spare: Option<Spare>) -> Result<(), WalError> {
        let header = SegmentHeader {
            id,
            salt: self.settings.salt,
            capacity: self.settings.segment_bytes,
        };
        let made = match spare {
            Some(spare) => name_segment(&*self.fs, &header, spare),
            None => create(&*self.fs, &header, || self.leave_room()),
        };
        let mut state = self.lock();
        match made {
            Ok(segment) => {
                state.keeper.prepared = Some(segment);
                state.keeper.next_id = id + 1;
                Ok(())
            }
            Err(Failure::Again(error)) => {
                tracing::warn!(%error, "no next segment for the Raft log");
                state.keeper.prepare_error = Some(error);
                Ok(())
            }
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    /// Lets others have the disk for a moment, unless the writer waits.
    fn leave_room(&self) {
        if !self.settings.stepped && !self.lock().keeper.is_awaited {
            std::thread::sleep(FILL_PAUSE);
        }
    }

    fn sync_dir(&self) -> Result<(), WalError> {
        self.fs
            .sync_dir()
            .map_err(|source| WalError::io("sync directory", self.fs.describe(""), None, source))
    }

    /// Removes a segment that nobody reads. Under the name that it gets first it counts for
    /// nothing, however much of it is left.
    fn remove_gently(&self, segment: &Segment) -> Result<std::io::Result<()>, WalError> {
        if let Err(error) = self.fs.rename(&segment.name, TEMPORARY) {
            return Ok(Err(error));
        }
        self.sync_dir()?;
        let given_back = segment.file.give_back();
        Ok(given_back.and_then(|()| self.fs.remove(TEMPORARY)))
    }

    fn discard(&self, segment: &Arc<Segment>, keep: bool) -> Result<(), WalError> {
        // A reader may still hold the segment: then its bytes must stay as they are.
        let unread = Arc::strong_count(segment) == 1;
        let keep = keep && unread && segment.capacity == self.settings.segment_bytes;
        let spare = spare_name(segment.id);
        let (operation, changed) = if keep {
            ("rename", self.fs.rename(&segment.name, &spare))
        } else if unread {
            ("remove", self.remove_gently(segment)?)
        } else {
            ("remove", self.fs.remove(&segment.name))
        };
        if let Err(source) = changed {
            let error = WalError::io(operation, self.fs.describe(&segment.name), None, source);
            tracing::warn!(%error, "purged segments of the Raft log stay until the next start");
            self.lock().keeper.discard_stopped = true;
            return Ok(());
        }
        self.sync_dir()?;
        let mut state = self.lock();
        // There is space again, if space was what was missing.
        state.keeper.prepare_error = None;
        if keep {
            state.keeper.spares.push(Spare {
                name: spare,
                file: segment.file.clone(),
            });
        }
        Ok(())
    }
}

/// Creates a zero-filled segment under its final name, durable in itself and in the directory.
pub(super) fn create_segment(
    fs: &dyn LogFs,
    header: &SegmentHeader,
) -> Result<Arc<Segment>, WalError> {
    create(fs, header, || ()).map_err(|failure| match failure {
        Failure::Again(error) | Failure::Fatal(error) => error,
    })
}

/// `between` is called after each portion but the last.
fn create(
    fs: &dyn LogFs,
    header: &SegmentHeader,
    between: impl Fn(),
) -> Result<Arc<Segment>, Failure> {
    let again = |operation, source| {
        Failure::Again(WalError::io(
            operation,
            fs.describe(TEMPORARY),
            None,
            source,
        ))
    };
    if fs
        .list()
        .map_err(|source| again("list", source))?
        .iter()
        .any(|name| name == TEMPORARY)
    {
        fs.remove(TEMPORARY)
            .map_err(|source| again("remove", source))?;
    }
    let file = fs
        .create(TEMPORARY)
        .map_err(|source| again("create", source))?;
    fill_with_zeros(&*file, header.capacity, between).map_err(|failed| match failed {
        Unfilled::Write(source) => {
            // Give the space back; the error that matters is the first one.
            if let Err(error) = fs.remove(TEMPORARY) {
                tracing::warn!(%error, "cannot remove {}", fs.describe(TEMPORARY));
            }
            again("zero-fill", source)
        }
        Unfilled::Sync(source) => {
            Failure::Fatal(WalError::io("sync", fs.describe(TEMPORARY), None, source))
        }
    })?;
    name_segment(
        fs,
        header,
        Spare {
            name: TEMPORARY.to_owned(),
            file,
        },
    )
}

/// Why a file was not filled. What could not be written may be written later; a failed sync is
/// the end.
enum Unfilled {
    Write(std::io::Error),
    Sync(std::io::Error),
}

fn fill_with_zeros(file: &dyn LogFile, capacity: u32, between: impl Fn()) -> Result<(), Unfilled> {
    let zeros = vec![0; SCAN_CHUNK.min(capacity as usize)];
    let mut at = 0;
    while at < capacity as usize {
        if at > 0 {
            // A whole segment at once would hold up everyone who syncs a log on
            // this disk. Whoever names the segment syncs the rest.
            file.sync_data().map_err(Unfilled::Sync)?;
            between();
        }
        let len = zeros.len().min(capacity as usize - at);
        file.write_at(at as u64, &zeros[..len])
            .map_err(Unfilled::Write)?;
        at += len;
    }
    Ok(())
}

/// Gives a file its segment header and, once that is durable, its final name.
fn name_segment(
    fs: &dyn LogFs,
    header: &SegmentHeader,
    spare: Spare,
) -> Result<Arc<Segment>, Failure> {
    let describe = |operation, offset, source| {
        WalError::io(operation, fs.describe(&spare.name), offset, source)
    };
    spare
        .file
        .write_at(0, &header.encode())
        .map_err(|source| Failure::Again(describe("write", Some(0), source)))?;
    spare
        .file
        .sync_data()
        .map_err(|source| Failure::Fatal(describe("sync", None, source)))?;
    let name = segment_name(header.id);
    fs.rename(&spare.name, &name)
        .map_err(|source| Failure::Again(describe("rename", None, source)))?;
    fs.sync_dir().map_err(|source| {
        Failure::Fatal(WalError::io(
            "sync directory",
            fs.describe(""),
            None,
            source,
        ))
    })?;
    Ok(Arc::new(Segment {
        id: header.id,
        name,
        capacity: header.capacity,
        file: spare.file,
    }))
}
