//! The file that events are appended to, a line each, and its predecessors.
//!
//! Who records waits for nobody: a line for which there is no room is dropped and
//! counted. Must not know what is in a line.

use std::{
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt as _,
    sync::mpsc,
};

use crate::{
    codec::{self, Precision},
    limits,
};

/// The standard output.
const OUTPUT: &str = "-";

/// Where lines go and when a new file begins; 0 is no bound.
#[derive(Clone, Debug)]
pub struct LogFiles {
    /// `-` is the standard output.
    pub path: PathBuf,
    /// Bytes of one file.
    pub size: u64,
    /// LogFiles that were before.
    pub backups: usize,
    /// How long these are kept.
    pub age: Duration,
}

/// What became of lines.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub written: AtomicU64,
    pub dropped: AtomicU64,
}

/// Where lines are handed in.
#[derive(Debug)]
pub(super) struct Sink {
    lines: mpsc::Sender<Vec<u8>>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    pub counts: Arc<Counts>,
}

impl Sink {
    pub fn take(&self, line: Vec<u8>) {
        let length = line.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting + length > limits::AUDIT_BYTES_WAITING || self.lines.try_send(line).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes what is handed in.
#[derive(Debug)]
pub struct LogWriter {
    lines: mpsc::Receiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    files: LogFiles,
    open: Option<(File, u64)>,
}

pub(super) fn new(files: LogFiles) -> (Sink, LogWriter) {
    let (sender, receiver) = mpsc::channel(limits::AUDIT_EVENTS_WAITING);
    let sink = Sink {
        lines: sender,
        waiting: Arc::default(),
        counts: Arc::default(),
    };
    let writer = LogWriter {
        lines: receiver,
        waiting: sink.waiting.clone(),
        counts: sink.counts.clone(),
        files,
        open: None,
    };
    (sink, writer)
}

impl LogWriter {
    /// Opens the file, so that a wrong path is known at the start.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn prepare(&mut self) -> io::Result<()> {
        self.open = Some(open(&self.files.path).await?);
        Ok(())
    }

    /// Writes until nobody can hand in any more.
    pub async fn run(mut self) {
        let mut lines = Vec::new();
        let mut failing = false;
        while self.lines.recv_many(&mut lines, limits::AUDIT_TURN).await > 0 {
            let bytes: usize = lines.iter().map(Vec::len).sum();
            let count = lines.len() as u64;
            match self.write(&lines).await {
                Ok(()) => {
                    failing = false;
                    self.counts.written.fetch_add(count, Ordering::Relaxed);
                }
                Err(error) => {
                    // The next lines try with a new file; the log is told once.
                    self.open = None;
                    self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(path = %self.files.path.display(), %error, "the audit log cannot be written: events are lost");
                    }
                }
            }
            lines.clear();
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    async fn write(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let (mut file, mut size) = match self.open.take() {
                Some(open) => open,
                None => open(&self.files.path).await?,
            };
            // As many as the file has room for, and one more only if it is empty.
            let mut text = Vec::new();
            while let Some((line, others)) = rest.split_first() {
                let length = line.len() as u64;
                let full = size > 0 && size + length > self.files.size;
                if self.files.size > 0 && full && self.files.path != Path::new(OUTPUT) {
                    break;
                }
                text.extend_from_slice(line);
                size += length;
                rest = others;
            }
            file.write_all(&text).await?;
            file.flush().await?;
            if rest.is_empty() {
                self.open = Some((file, size));
            } else {
                drop(file);
                self.rotate().await?;
            }
        }
        Ok(())
    }

    /// Moves the file away, under a name with the time, and removes those that are
    /// too many or too old.
    async fn rotate(&self) -> io::Result<()> {
        let path = &self.files.path;
        let (seconds, nanos) = codec::now();
        let time = codec::format_time(seconds, nanos, Precision::Micros);
        // Upstream's form, to the microsecond: no two of one file are the same.
        let time = time.trim_end_matches('Z').replace(':', "-");
        tokio::fs::rename(path, backup(path, &time)).await?;
        let mut found = backups(path).await?;
        // The newest first.
        found.sort_unstable_by(|one, other| other.cmp(one));
        let now = SystemTime::now();
        for (index, old) in found.iter().enumerate() {
            let many = self.files.backups > 0 && index >= self.files.backups;
            let modified = tokio::fs::metadata(old)
                .await
                .and_then(|meta| meta.modified());
            let age = modified.ok().and_then(|time| now.duration_since(time).ok());
            let aged = !self.files.age.is_zero() && age.is_some_and(|age| age > self.files.age);
            if many || aged {
                tokio::fs::remove_file(old).await?;
            }
        }
        Ok(())
    }
}

async fn open(path: &Path) -> io::Result<(File, u64)> {
    if path == Path::new(OUTPUT) {
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        return Ok((File::from_std(output.into()), 0));
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let file = options.open(path).await?;
    let size = file.metadata().await?.len();
    Ok((file, size))
}

/// The parts of a path's name before and from the last dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let extension = text(path.extension());
    let dot = if extension.is_empty() { "" } else { "." };
    (text(path.file_stem()), format!("{dot}{extension}"))
}

fn backup(path: &Path, time: &str) -> PathBuf {
    let (stem, extension) = parts(path);
    path.with_file_name(format!("{stem}-{time}{extension}"))
}

/// The files that were before.
async fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = parts(path);
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir(folder.unwrap_or(Path::new("."))).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let time = name
            .strip_prefix(&format!("{stem}-"))
            .and_then(|rest| rest.strip_suffix(&extension));
        if time.is_some_and(is_time) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether it is of the form of a time in a name: no other file is removed.
fn is_time(text: &str) -> bool {
    text.len() == "2006-01-02T15-04-05.000000".len()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"-T.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: PathBuf, size: u64, backups: usize) -> LogFiles {
        LogFiles {
            path,
            size,
            backups,
            age: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn files_are_as_long_and_as_many_as_they_may_be() {
        let folder = std::env::temp_dir().join(format!("audit-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("audit.log");
        std::fs::write(folder.join("audit-notes.log"), "mine").expect("written");
        let (sink, mut writer) = new(files(path.clone(), 25, 2));
        writer.prepare().await.expect("it can be opened");
        for number in 0..10 {
            sink.take(format!("line {number:04}\n").into_bytes());
        }
        let counts = sink.counts.clone();
        drop(sink);
        writer.run().await;
        assert_eq!(counts.written.load(Ordering::Relaxed), 10);
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        assert_eq!(read(&path), "line 0008\nline 0009\n");
        let mut before = backups(&path).await.expect("a folder");
        before.sort_unstable();
        let before: Vec<String> = before.iter().map(|path| read(path)).collect();
        assert_eq!(before, ["line 0004\nline 0005\n", "line 0006\nline 0007\n"]);
        assert_eq!(read(&folder.join("audit-notes.log")), "mine");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let (sink, writer) = new(files(PathBuf::from("/nowhere/audit.log"), 0, 0));
        for _ in 0..limits::AUDIT_EVENTS_WAITING + 3 {
            sink.take(vec![b'x'; 10]);
        }
        assert_eq!(sink.counts.dropped.load(Ordering::Relaxed), 3);
        let counts = sink.counts.clone();
        drop(sink);
        // Nor can the rest be written: nothing is lost without a count.
        writer.run().await;
        assert_eq!(counts.written.load(Ordering::Relaxed), 0);
        let all = limits::AUDIT_EVENTS_WAITING as u64 + 3;
        assert_eq!(counts.dropped.load(Ordering::Relaxed), all);
    }

    #[tokio::test]
    async fn large_lines_find_less_room() {
        let (sink, _writer) = new(files(PathBuf::from("-"), 0, 0));
        let half = limits::AUDIT_BYTES_WAITING / 2;
        for _ in 0..3 {
            sink.take(vec![b'x'; half]);
        }
        assert_eq!(sink.counts.dropped.load(Ordering::Relaxed), 1);
    }
}
