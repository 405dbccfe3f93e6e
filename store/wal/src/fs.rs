//! The file operations the log needs, and their implementation on a real directory.
//!
//! The traits are the whole contact with the outside: the simulator replaces them by
//! one that forgets, tears and fails writes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One directory of log files. Names are plain file names.
pub trait LogFs: Send + Sync + 'static {
    /// Path of `name` for error texts.
    fn describe(&self, name: &str) -> String;
    /// Names of all files in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// Creates a file, readable and writable by its owner only. Fails if the name exists.
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// Renames a file; an existing target is replaced. Durable after [`LogFs::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`LogFs::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all changes of names so far durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file of the log.
pub trait LogFile: Send + Sync + 'static {
    /// Writes all of `data` at `offset`, extending the file if needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Fills `buf` from `offset`, or up to the end of the file; returns the number of bytes read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Length of the file, bytes.
    fn size(&self) -> io::Result<u64>;
    /// Makes all writes so far durable, with the metadata needed to read them back.
    fn sync_data(&self) -> io::Result<()>;
    /// Nobody will read the file again, and it is about to be removed: it may give its bytes back
    /// before, in portions that those who sync other files on this disk do not notice.
    fn give_back(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory of the operating system. The directory is created with mode 0700, files with 0600.
#[derive(Debug)]
pub struct RealFs {
    path: PathBuf,
    dir: File,
}

impl RealFs {
    /// Opens the directory, creating it, and its missing parents, if absent.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        create_dir_durably(&path)?;
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
    }
}

/// Creates `path` and its missing parents; every directory that got a new name in it is synced.
fn create_dir_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_dir_durably(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl LogFs for RealFs {
    fn describe(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()
    }
}

/// Bytes that a file gives back at once; the file system may hand them on to the disk.
const GIVE_BACK_BYTES: u64 = 4 << 20;
/// Between two portions: a segment takes less than two tenths of a second.
const GIVE_BACK_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct RealFile(File);

impl LogFile for RealFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn give_back(&self) -> io::Result<()> {
        let mut size = self.size()?;
        while size > GIVE_BACK_BYTES {
            size -= GIVE_BACK_BYTES;
            self.0.set_len(size)?;
            std::thread::sleep(GIVE_BACK_PAUSE);
        }
        Ok(())
    }
}
