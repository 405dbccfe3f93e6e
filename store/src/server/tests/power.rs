//! The power of a few simulated disks, which goes off for all at once, after a
//! given number of writes, syncs, changes of names and flushes.

use std::{io, sync::Arc, time::Duration};

use mizzen_engine::MemEngine;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::wal::{Fault, LogFile, LogFs, MemFs};

/// What is left of each member's disks.
pub struct Image {
    pub log: MemFs,
    pub rows: MemEngine,
}

/// A mistake that is planted in order to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    #[default]
    None,
    /// fdatasync does nothing.
    NoSync,
    /// Rows are written before the log is durable.
    Hasty,
}

/// What happens, and at which step, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    PowerOff(u64),
    /// The operation fails with EIO.
    Failure(u64),
    Never,
}

#[derive(Clone)]
pub struct Power {
    state: Arc<Mutex<State>>,
    off: watch::Sender<bool>,
}

struct State {
    steps: u64,
    event: Event,
    happened: bool,
    disks: Vec<Disk>,
    /// The rows at the moment the power went off.
    rows: Option<Vec<MemEngine>>,
}

/// The disks of one member: its log's, and its rows', of which all but the
/// moment of their flushes is the engine's own.
#[derive(Clone)]
pub struct Disk {
    log: MemFs,
    rows: MemEngine,
    flaw: Flaw,
    stall: Option<Stall>,
    stalls: Arc<Stalls>,
    power: Power,
}

/// How a disk syncs a log slowly: [`SYNC_TIME`], and one time in
/// [`STALL_ONE_IN`] until rows have been flushed. Whoever writes them before
/// the log is durable is ahead of it meanwhile, however slow the machine is;
/// who makes no mistake waits for the whole of this time.
pub type Stall = Duration;

const SYNC_TIME: Duration = Duration::from_millis(1);
const STALL_ONE_IN: u64 = 8;
/// Flushes of the rows, each counted before and after, that a stall waits for:
/// between the first and the last are the moments of the mistake.
const ROWS_AHEAD: u64 = 4;

#[derive(Default)]
struct Counts {
    syncs: u64,
    /// Of the rows, before and after each.
    flushes: u64,
}

/// What stalls go by.
#[derive(Default)]
struct Stalls {
    counts: Mutex<Counts>,
    flushed: Condvar,
}

impl Stalls {
    fn rows_flush(&self) {
        self.counts.lock().flushes += 1;
        self.flushed.notify_all();
    }

    fn log_syncs(&self, limit: Stall) {
        std::thread::sleep(SYNC_TIME);
        let mut counts = self.counts.lock();
        counts.syncs += 1;
        let enough = counts.flushes + ROWS_AHEAD;
        if counts.syncs.is_multiple_of(STALL_ONE_IN) {
            let more = |counts: &mut Counts| counts.flushes < enough;
            // Whether they came or the time is over: the sync begins.
            let _ = self.flushed.wait_while_for(&mut counts, more, limit);
        }
    }
}

fn is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl Power {
    pub fn new(event: Event) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                steps: 0,
                event,
                happened: false,
                disks: Vec::new(),
                rows: None,
            })),
            off: watch::channel(false).0,
        }
    }

    /// Puts the disks of one member on this power.
    pub fn attach(&self, image: Image, flaw: Flaw, stall: Option<Stall>) -> Disk {
        let disk = Disk {
            log: image.log,
            rows: image.rows,
            flaw,
            stall,
            stalls: Arc::default(),
            power: self.clone(),
        };
        self.state.lock().disks.push(disk.clone());
        let (power, stalls) = (self.clone(), disk.stalls.clone());
        disk.rows.watch(move |_| {
            // The engine goes on, but what it flushes now does not count any more.
            drop(power.step(None, || Ok(())));
            stalls.rows_flush();
        });
        disk
    }

    pub fn is_off(&self) -> bool {
        *self.off.borrow()
    }

    pub async fn went_off(&self) {
        // Cannot fail: the sender is this one's.
        let _ = self.off.subscribe().wait_for(|off| *off).await;
    }

    /// Whether what was to happen did.
    pub fn happened(&self) -> bool {
        self.state.lock().happened
    }

    pub fn steps(&self) -> u64 {
        self.state.lock().steps
    }

    fn cut(&self, state: &mut State) {
        if state.rows.is_some() {
            return;
        }
        for disk in &state.disks {
            disk.log.power_off();
        }
        state.rows = Some(state.disks.iter().map(|disk| disk.rows.crash()).collect());
        self.off.send_replace(true);
    }

    /// What restarts find: of what was not synced, an arbitrary part.
    pub fn images(&self, seed: u64) -> Vec<Image> {
        let mut state = self.state.lock();
        self.cut(&mut state);
        let rows = state.rows.take().unwrap_or_default();
        let disks = std::mem::take(&mut state.disks);
        (seed..)
            .zip(disks.iter().zip(rows))
            .map(|(seed, (disk, rows))| Image {
                log: disk.log.crash(seed),
                rows,
            })
            .collect()
    }

    /// One step. `log` is whose operation it is, if it can be lost or fail.
    fn step<T>(
        &self,
        log: Option<&MemFs>,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        if *self.off.borrow() {
            return Err(is_off());
        }
        state.steps += 1;
        let happens = match state.event {
            Event::PowerOff(at) | Event::Failure(at) => at == state.steps,
            Event::Never => false,
        };
        state.happened |= happens;
        if !happens {
            return operation();
        }
        if let Event::Failure(_) = state.event {
            if let Some(log) = log {
                log.fail_operation(log.operations() + 1, Fault::Eio);
            }
            return operation();
        }
        if let Some(log) = log {
            // Begun, and never confirmed.
            log.power_off_after(log.operations());
            drop(operation());
        }
        self.cut(&mut state);
        Err(is_off())
    }
}

impl Disk {
    pub fn rows(&self) -> MemEngine {
        self.rows.clone()
    }

    fn change<T>(&self, operation: impl FnOnce(&MemFs) -> io::Result<T>) -> io::Result<T> {
        self.power.step(Some(&self.log), || operation(&self.log))
    }

    fn file(&self, file: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(OpenFile {
            disk: self.clone(),
            file,
        })
    }
}

impl LogFs for Disk {
    fn describe(&self, name: &str) -> String {
        self.log.describe(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.log.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.log.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.change(|log| log.create(name))
            .map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|log| log.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|log| log.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change(|log| log.sync_dir())
    }
}

struct OpenFile {
    disk: Disk,
    file: Arc<dyn LogFile>,
}

impl LogFile for OpenFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.change(|_| self.file.write_at(offset, data))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(stall) = self.disk.stall {
            self.disk.stalls.log_syncs(stall);
        }
        match self.disk.flaw {
            Flaw::NoSync => self.disk.power.step(None, || Ok(())),
            Flaw::None | Flaw::Hasty => self.disk.change(|_| self.file.sync_data()),
        }
    }
}
