//! A directory in memory that behaves as badly as disks may: for the simulator and for tests.
//!
//! Every file has a volatile image (what reads see) and a durable one (what a crash leaves). A
//! crash keeps a seeded part of what was not synced, possibly half a write; changes of names are
//! lost unless the directory was synced. Changes can be made to fail, to hang in a sync, or to be
//! the last before the power goes off.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use mizzen_wal::{LogFile, LogFs};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Sectors are written whole or not at all; which ones of a torn write are, is random.
pub(crate) const SECTOR: u64 = 512;

/// An error to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error. A sync that fails so forgets the writes it should have made durable,
    /// while reads still see them: as Linux does with dirty pages.
    Eio,
    /// No space left. A write that fails so has written a part.
    Enospc,
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Eio => 5,
            Self::Enospc => 28,
        })
    }
}

/// The directory. Clones are the same directory.
#[derive(Clone, Default)]
pub struct MemFs {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    disk: Mutex<Disk>,
    released: Condvar,
}

#[derive(Default, Clone)]
struct Inode {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync: offset and bytes.
    pending: Vec<(u64, Vec<u8>)>,
}

enum DirOp {
    Link(String, u64),
    Unlink(String),
    Rename(String, String, u64),
}

#[derive(Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<DirOp>,
    next_inode: u64,
    operations: u64,
    syncs: u64,
    off: bool,
    power_off_after: Option<u64>,
    failing_operations: BTreeMap<u64, Fault>,
    failing_syncs: BTreeMap<u64, Fault>,
    hold_syncs: bool,
    held: usize,
}

/// What becomes of an operation that changes something.
enum Verdict {
    Done,
    Fails(Fault),
    /// The power goes off during it: it may or may not reach the disk, and it is never confirmed.
    PowerOff,
}

fn power_off() -> io::Error {
    io::Error::other("the simulated disk is off")
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl MemFs {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of operations so far that change something: write, sync, create, rename, remove.
    pub fn operations(&self) -> u64 {
        self.inner.disk.lock().operations
    }

    /// Number of file syncs so far.
    pub fn syncs(&self) -> u64 {
        self.inner.disk.lock().syncs
    }

    /// Turns the power off during the operation after the `count`-th, counted from the start.
    pub fn power_off_after(&self, count: u64) {
        self.inner.disk.lock().power_off_after = Some(count);
    }

    /// Makes the `number`-th operation, counted from 1, fail.
    pub fn fail_operation(&self, number: u64, fault: Fault) {
        self.inner
            .disk
            .lock()
            .failing_operations
            .insert(number, fault);
    }

    /// Makes the `number`-th file sync, counted from 1, fail.
    pub fn fail_sync(&self, number: u64, fault: Fault) {
        self.inner.disk.lock().failing_syncs.insert(number, fault);
    }

    /// Lets file syncs hang until [`MemFs::release_syncs`].
    pub fn hold_syncs(&self) {
        self.inner.disk.lock().hold_syncs = true;
    }

    /// Lets hanging syncs go on.
    pub fn release_syncs(&self) {
        self.inner.disk.lock().hold_syncs = false;
        self.inner.released.notify_all();
    }

    /// Waits until a sync hangs.
    pub fn wait_held(&self) {
        let mut disk = self.inner.disk.lock();
        while disk.held == 0 {
            self.inner.released.wait(&mut disk);
        }
    }

    /// Turns the power off at once. Every later operation fails.
    pub fn power_off(&self) {
        self.inner.disk.lock().off = true;
        self.release_syncs();
    }

    /// Power failure: turns this directory off and returns what a restart finds. The same seed and
    /// history give the same result.
    pub fn crash(&self, seed: u64) -> MemFs {
        self.power_off();
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = self.inner.disk.lock();
        let mut names = disk.durable_names.clone();
        crash_names(&mut names, &disk.pending_names, &mut rng);
        let mut inodes = BTreeMap::new();
        for &inode in names.values() {
            if let Some(file) = disk.inodes.get(&inode) {
                let bytes = crash_file(file, &mut rng);
                inodes.insert(
                    inode,
                    Inode {
                        volatile: bytes.clone(),
                        durable: bytes,
                        pending: Vec::new(),
                    },
                );
            }
        }
        Self::from_disk(Disk {
            inodes,
            names: names.clone(),
            durable_names: names,
            next_inode: disk.next_inode,
            ..Disk::default()
        })
    }

    /// Death of the process only: turns this directory off and returns it with all writes intact,
    /// those that were not synced still not durable.
    pub fn kill(&self) -> MemFs {
        self.power_off();
        let mut disk = self.inner.disk.lock();
        Self::from_disk(Disk {
            inodes: disk.inodes.clone(),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: std::mem::take(&mut disk.pending_names),
            next_inode: disk.next_inode,
            ..Disk::default()
        })
    }

    /// Copy of a file as reads see it.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.inner.disk.lock();
        let inode = disk.names.get(name)?;
        disk.inodes.get(inode).map(|file| file.volatile.clone())
    }

    /// Replaces a file, or creates it, durably and whatever its state: to damage it.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.inner.disk.lock();
        disk.next_inode += 1;
        let inode = disk.next_inode;
        disk.names.insert(name.to_owned(), inode);
        disk.durable_names.insert(name.to_owned(), inode);
        disk.inodes.insert(
            inode,
            Inode {
                volatile: bytes.clone(),
                durable: bytes,
                pending: Vec::new(),
            },
        );
    }

    /// A separate directory with the same files, all durable.
    pub fn duplicate(&self) -> MemFs {
        let disk = self.inner.disk.lock();
        let settle = |file: &Inode| Inode {
            volatile: file.volatile.clone(),
            durable: file.volatile.clone(),
            pending: Vec::new(),
        };
        Self::from_disk(Disk {
            inodes: disk
                .inodes
                .iter()
                .map(|(&id, file)| (id, settle(file)))
                .collect(),
            names: disk.names.clone(),
            durable_names: disk.names.clone(),
            next_inode: disk.next_inode,
            ..Disk::default()
        })
    }

    fn from_disk(disk: Disk) -> Self {
        Self {
            inner: Arc::new(Inner {
                disk: Mutex::new(disk),
                released: Condvar::new(),
            }),
        }
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        self.inner
            .disk
            .lock()
            .names
            .get(name)
            .copied()
            .ok_or_else(|| not_found(name))
    }
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        if self.off { Err(power_off()) } else { Ok(()) }
    }

    fn count(&mut self) -> io::Result<Verdict> {
        self.check()?;
        if self
            .power_off_after
            .is_some_and(|last| self.operations >= last)
        {
            self.off = true;
            return Ok(Verdict::PowerOff);
        }
        self.operations += 1;
        Ok(self
            .failing_operations
            .remove(&self.operations)
            .map_or(Verdict::Done, Verdict::Fails))
    }

    /// Counts a change of names; `true` if it takes place at all.
    fn change_names(&mut self, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        match self.count()? {
            Verdict::Fails(fault) => Err(fault.error()),
            Verdict::Done => {
                change(self);
                Ok(())
            }
            Verdict::PowerOff => {
                change(self);
                Err(power_off())
            }
        }
    }
}

fn crash_names(names: &mut BTreeMap<String, u64>, pending: &[DirOp], rng: &mut StdRng) {
    let keep_all_until = match rng.random_range(0..3) {
        0 => 0,
        1 => rng.random_range(0..pending.len() as u64 + 1),
        _ => u64::MAX,
    };
    for (number, operation) in pending.iter().enumerate() {
        // Either a prefix, or any subset: directories need not be written in order.
        let keep = if keep_all_until == u64::MAX {
            rng.random_range(0..2) == 0
        } else {
            (number as u64) < keep_all_until
        };
        if !keep {
            continue;
        }
        match operation {
            DirOp::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            DirOp::Unlink(name) => {
                names.remove(name);
            }
            DirOp::Rename(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

fn crash_file(file: &Inode, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = file.durable.clone();
    match rng.random_range(0..4) {
        0 => {}
        // A prefix of the writes, the last one cut in the middle.
        1 => {
            let whole = rng.random_range(0..file.pending.len() as u64 + 1) as usize;
            for (offset, data) in &file.pending[..whole] {
                write_into(&mut bytes, *offset, data);
            }
            if let Some((offset, data)) = file.pending.get(whole) {
                let cut = rng.random_range(0..data.len() as u64 + 1) as usize;
                write_into(&mut bytes, *offset, &data[..cut]);
            }
        }
        // Any sectors of any writes.
        2 => {
            for (offset, data) in &file.pending {
                for (at, sector) in sectors(*offset, data) {
                    if rng.random_range(0..2) == 0 {
                        write_into(&mut bytes, at, sector);
                    }
                }
            }
        }
        // All writes, though never synced.
        _ => {
            for (offset, data) in &file.pending {
                write_into(&mut bytes, *offset, data);
            }
        }
    }
    bytes
}

/// The parts of a write that fall into different sectors.
pub(crate) fn sectors(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = usize::try_from(SECTOR - at % SECTOR)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (sector, left) = rest.split_at(len);
        let item = (at, sector);
        at += len as u64;
        rest = left;
        Some(item)
    })
}

fn write_into(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).expect("a file in memory is addressable");
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

impl LogFs for MemFs {
    fn describe(&self, name: &str) -> String {
        format!("mem:{name}")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.inner.disk.lock();
        disk.check()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.inner.disk.lock().check()?;
        Ok(Arc::new(MemFile {
            fs: self.clone(),
            inode: self.inode(name)?,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut disk = self.inner.disk.lock();
        if disk.names.contains_key(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                name.to_owned(),
            ));
        }
        disk.next_inode += 1;
        let inode = disk.next_inode;
        disk.change_names(|disk| {
            disk.inodes.insert(inode, Inode::default());
            disk.names.insert(name.to_owned(), inode);
            disk.pending_names.push(DirOp::Link(name.to_owned(), inode));
        })?;
        Ok(Arc::new(MemFile {
            fs: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.inode(from)?;
        self.inner.disk.lock().change_names(|disk| {
            disk.names.remove(from);
            disk.names.insert(to.to_owned(), inode);
            disk.pending_names
                .push(DirOp::Rename(from.to_owned(), to.to_owned(), inode));
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inode(name)?;
        self.inner.disk.lock().change_names(|disk| {
            disk.names.remove(name);
            disk.pending_names.push(DirOp::Unlink(name.to_owned()));
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.inner.disk.lock();
        match disk.count()? {
            Verdict::Fails(fault) => Err(fault.error()),
            Verdict::PowerOff => Err(power_off()),
            Verdict::Done => {
                disk.durable_names = disk.names.clone();
                disk.pending_names.clear();
                Ok(())
            }
        }
    }
}

struct MemFile {
    fs: MemFs,
    inode: u64,
}

impl LogFile for MemFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.fs.inner.disk.lock();
        let verdict = disk.count()?;
        let file = disk
            .inodes
            .get_mut(&self.inode)
            .ok_or_else(|| not_found("inode"))?;
        let written = match verdict {
            Verdict::Fails(_) => &data[..data.len() / 2],
            _ => data,
        };
        write_into(&mut file.volatile, offset, written);
        file.pending.push((offset, written.to_vec()));
        match verdict {
            Verdict::Done => Ok(()),
            Verdict::Fails(fault) => Err(fault.error()),
            Verdict::PowerOff => Err(power_off()),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let disk = self.fs.inner.disk.lock();
        disk.check()?;
        let file = disk
            .inodes
            .get(&self.inode)
            .ok_or_else(|| not_found("inode"))?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(file.volatile.len());
        let len = buf.len().min(file.volatile.len() - start);
        buf[..len].copy_from_slice(&file.volatile[start..start + len]);
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        let disk = self.fs.inner.disk.lock();
        disk.check()?;
        disk.inodes
            .get(&self.inode)
            .map(|file| file.volatile.len() as u64)
            .ok_or_else(|| not_found("inode"))
    }

    fn sync_data(&self) -> io::Result<()> {
        let inner = &self.fs.inner;
        let mut disk = inner.disk.lock();
        let verdict = disk.count()?;
        disk.syncs += 1;
        while disk.hold_syncs && !disk.off {
            disk.held += 1;
            inner.released.notify_all();
            inner.released.wait(&mut disk);
            disk.held -= 1;
        }
        disk.check().or_else(|off| {
            if matches!(verdict, Verdict::PowerOff) {
                Ok(())
            } else {
                Err(off)
            }
        })?;
        let number = disk.syncs;
        let planned = disk.failing_syncs.remove(&number);
        let file = disk
            .inodes
            .get_mut(&self.inode)
            .ok_or_else(|| not_found("inode"))?;
        match (verdict, planned) {
            (Verdict::PowerOff, _) => Err(power_off()),
            (Verdict::Fails(fault), _) | (Verdict::Done, Some(fault)) => {
                file.pending.clear();
                Err(fault.error())
            }
            (Verdict::Done, None) => {
                for (offset, data) in std::mem::take(&mut file.pending) {
                    write_into(&mut file.durable, offset, &data);
                }
                Ok(())
            }
        }
    }
}
