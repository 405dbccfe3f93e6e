//! How much memory this process may use, and what of it clients get.
//!
//! Knows the machine. Must not know what is done with the shares.

use std::{fs, path::Path};

use crate::{limits, server::Budget};

/// Bytes this process may use: the machine's memory, or less if a control group
/// or `ulimit -v` says so.
pub fn available() -> usize {
    let bounds = [machine(), control_group(), address_space()];
    let least = bounds.into_iter().flatten().min();
    // Without any knowledge as on a small machine.
    usize::try_from(least.unwrap_or(1 << 30)).unwrap_or(usize::MAX)
}

/// What clients may make a member hold that may use `bytes`.
pub fn budget(bytes: usize) -> Budget {
    let replies = bytes / limits::REPLIES_SHARE;
    Budget {
        replies,
        reply: (replies / limits::REPLY_SHARE).min(limits::REPLY_BYTES),
        proposals: (bytes / limits::PROPOSALS_SHARE).min(limits::PROPOSAL_BYTES_IN_FLIGHT),
        // So the largest reply may wait for its client.
        transport: replies,
    }
}

/// What rows may take of it.
#[derive(Clone, Copy, Debug)]
pub struct RowsShare {
    /// Bytes for the cache.
    pub cache: usize,
    /// Bytes for one buffer of writes; while flushes lag there are several.
    pub write_buffer: usize,
}

pub fn rows(bytes: usize) -> RowsShare {
    RowsShare {
        cache: bytes / limits::CACHE_SHARE,
        write_buffer: bytes / limits::WRITE_BUFFER_SHARE,
    }
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// The least limit of this process' control group and those above it, in either
/// version of control groups.
fn control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        if controllers.is_empty() {
            return least(Path::new("/sys/fs/cgroup"), path, "memory.max");
        }
        let memory = controllers.split(',').any(|name| name == "memory");
        let root = Path::new("/sys/fs/cgroup/memory");
        memory.then(|| least(root, path, "memory.limit_in_bytes"))?
    });
    limits.min()
}

fn least(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group = root.join(path.trim_start_matches('/'));
    let groups = group
        .ancestors()
        .take_while(|group| group.starts_with(root));
    let limit = |group: &Path| {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    groups.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_is_bounded_by_those_above_it() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        let write = |group: &Path, limit: &str| {
            fs::write(group.join("memory.max"), limit).expect("a file");
        };
        assert_eq!(least(root.path(), "/a/b", "memory.max"), None);
        write(&inner, "max\n");
        assert_eq!(least(root.path(), "/a/b", "memory.max"), None);
        write(&root.path().join("a"), "4096\n");
        assert_eq!(least(root.path(), "/a/b", "memory.max"), Some(4096));
        write(&inner, "1024\n");
        assert_eq!(least(root.path(), "/a/b", "memory.max"), Some(1024));
    }

    #[test]
    fn shares_fit_into_the_whole() {
        for bytes in [256 << 20, 1 << 30, 24 << 30] {
            let Budget {
                replies,
                reply,
                proposals,
                transport,
            } = budget(bytes);
            assert!(reply <= replies && reply <= limits::REPLY_BYTES);
            assert!(replies + transport + proposals <= bytes / 2, "{bytes}");
            assert!(reply <= transport / 2, "{bytes}");
            let rows = rows(bytes);
            // Up to four buffers of writes (EngineOptions).
            let held = rows.cache + 4 * rows.write_buffer;
            assert!(held <= bytes / 4, "{bytes}");
        }
        assert!(available() > 0);
    }
}
