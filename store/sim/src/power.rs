//! The power of a few simulated disks, which goes off for all at once, after a
//! given number of writes, syncs, changes of names and flushes.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use mizzen_wal::{LogFile, LogFs};

use crate::{Fault, MemEngine, MemFs, MemOptions};

/// What is left of each member's disks.
#[derive(Clone)]
pub struct Image {
    pub log: MemFs,
    pub rows: MemEngine,
}

impl Image {
    /// Of disks on which nothing was ever written. Rows are flushed now and then
    /// without being asked, as `seed` has it.
    pub fn empty(seed: u64) -> Self {
        Self {
            log: MemFs::new(),
            rows: MemEngine::new(MemOptions {
                seed,
                flush_one_in: 3,
                cold_one_in: 0,
            }),
        }
    }
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
    power: Power,
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
    pub fn attach(&self, image: Image, flaw: Flaw) -> Disk {
        let disk = Disk {
            log: image.log,
            rows: image.rows,
            flaw,
            power: self.clone(),
        };
        self.state.lock().disks.push(disk.clone());
        let power = self.clone();
        disk.rows.watch(move |_| {
            // The engine goes on, but what it flushes now does not count any more.
            drop(power.step(None, || Ok(())));
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

    /// Has the power go off at a later step, counted from the next one as 1.
    pub fn go_off_after(&self, steps: u64) {
        let mut state = self.state.lock();
        state.event = Event::PowerOff(state.steps + steps);
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
    pub fn is_off(&self) -> bool {
        self.power.is_off()
    }

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
        match self.disk.flaw {
            Flaw::NoSync => self.disk.power.step(None, || Ok(())),
            Flaw::None | Flaw::Hasty => self.disk.change(|_| self.file.sync_data()),
        }
    }
}
