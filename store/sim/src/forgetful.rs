//! A directory whose files forget, when the process ends, what was not synced: killing the process
//! is then a loss of power. Only in builds whose tests inject faults into real processes.
//!
//! What is written stays in memory until the file is synced, and reads see it. A sync takes some
//! milliseconds, now and then much longer, in which every other sector is on the disk and the rest
//! is not: a kill in that time leaves a torn write. Changes of names are not forgotten.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use parking_lot::Mutex;

use mizzen_wal::{LogFile, LogFs};

use crate::memfs::{SECTOR, sectors};

/// The middle of a sync, in which it can be torn.
const PAUSE: Duration = Duration::from_millis(2);
/// The same for one sync of [`STALL_EVERY`], as disks do it; less than an election timeout.
const STALL: Duration = Duration::from_millis(500);
const STALL_EVERY: u64 = 256;
/// More than this is written without being torn, bytes: new segments are.
const TEARABLE: usize = 1 << 20;

/// Another directory, with files that forget.
pub struct Forgetful<F> {
    inner: F,
    numbers: Arc<AtomicU64>,
    syncs: bool,
}

impl<F: LogFs> Forgetful<F> {
    /// Unless it `syncs`, a sync says that it did and did nothing, except of
    /// what is too long to be torn.
    pub fn new(inner: F, syncs: bool) -> Self {
        Self {
            inner,
            numbers: Arc::default(),
            syncs,
        }
    }

    fn file(&self, inner: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(ForgetfulFile {
            inner,
            pending: Mutex::default(),
            numbers: self.numbers.clone(),
            syncs: self.syncs,
        })
    }
}

impl<F: LogFs> LogFs for Forgetful<F> {
    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.inner.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.inner.create(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }
}

/// Offset and bytes of a write.
type Write = (u64, Arc<[u8]>);

/// The log opens a file once at a time, so what it has not synced is all here.
struct ForgetfulFile {
    inner: Arc<dyn LogFile>,
    /// In the order in which they were written.
    pending: Mutex<Vec<Write>>,
    numbers: Arc<AtomicU64>,
    syncs: bool,
}

impl LogFile for ForgetfulFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.pending.lock().push((offset, data.into()));
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // A write leaves the list only when it is in the file.
        let pending = self.pending.lock();
        let mut filled = self.inner.read_at(offset, buf)?;
        for (at, data) in pending.iter() {
            let end = at + data.len() as u64;
            let from = offset.max(*at);
            let to = end.min(offset + buf.len() as u64);
            if from >= to {
                continue;
            }
            let place = |position: u64, base: u64| {
                usize::try_from(position - base).expect("it is within the buffer")
            };
            let (start, stop) = (place(from, offset), place(to, offset));
            if start > filled {
                buf[filled..start].fill(0);
            }
            buf[start..stop].copy_from_slice(&data[place(from, *at)..place(to, *at)]);
            filled = filled.max(stop);
        }
        Ok(filled)
    }

    fn give_back(&self) -> io::Result<()> {
        self.inner.give_back()
    }

    fn size(&self) -> io::Result<u64> {
        let pending = self.pending.lock();
        let ends = pending.iter().map(|(at, data)| at + data.len() as u64);
        Ok(self.inner.size()?.max(ends.max().unwrap_or(0)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let writes = self.pending.lock().clone();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        if writes.iter().map(|(_, data)| data.len()).sum::<usize>() > TEARABLE {
            for (at, data) in &writes {
                self.inner.write_at(*at, data)?;
            }
        } else if !self.syncs {
            return Ok(());
        } else {
            let stalls = number % STALL_EVERY == STALL_EVERY - 1;
            self.write_half(&writes, number % 2)?;
            sleep(if stalls { STALL } else { PAUSE });
            self.write_half(&writes, (number + 1) % 2)?;
        }
        self.inner.sync_data()?;
        self.pending.lock().drain(..writes.len());
        Ok(())
    }
}

impl ForgetfulFile {
    /// Writes the sectors with even or with odd numbers.
    fn write_half(&self, writes: &[Write], parity: u64) -> io::Result<()> {
        for (at, data) in writes {
            for (at, sector) in sectors(*at, data) {
                if (at / SECTOR) % 2 == parity {
                    self.inner.write_at(at, sector)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::MemFs;

    fn contents(file: &dyn LogFile) -> Vec<u8> {
        let mut bytes = vec![0xff; usize::try_from(file.size().unwrap()).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn what_is_not_synced_is_read_and_is_not_in_the_file() {
        let disk = MemFs::new();
        let fs = Forgetful::new(disk.clone(), true);
        let file = fs.create("a").unwrap();
        file.write_at(0, &[1; 2000]).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.contents("a").unwrap(), vec![1; 2000]);
        file.write_at(1000, &[2; 1500]).unwrap();
        file.write_at(2600, &[3]).unwrap();
        file.write_at(999, &[4; 2]).unwrap();
        let mut expected = vec![1; 2601];
        expected[1000..2500].fill(2);
        expected[2500..2600].fill(0);
        expected[2600] = 3;
        expected[999..1001].fill(4);
        assert_eq!(contents(&*file), expected);
        let mut part = [0; 3];
        assert_eq!(file.read_at(998, &mut part).unwrap(), 3);
        assert_eq!(part, [1, 4, 4]);
        assert_eq!(disk.contents("a").unwrap(), vec![1; 2000]);
        file.sync_data().unwrap();
        assert_eq!(disk.contents("a").unwrap(), expected);
        assert_eq!(contents(&*file), expected);
    }

    #[test]
    fn without_syncs_only_the_reader_sees_what_was_written() {
        let disk = MemFs::new();
        let file = Forgetful::new(disk.clone(), false).create("a").unwrap();
        file.write_at(0, &[1; 2000]).unwrap();
        file.sync_data().unwrap();
        assert_eq!(contents(&*file), vec![1; 2000]);
        assert_eq!(disk.contents("a").unwrap(), Vec::<u8>::new());
    }
}
