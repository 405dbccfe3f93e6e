//! Wall clocks of members that can be moved: libfaketime reads how far from a
//! file each time a member asks for the time.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where Debian and others install the library for programs with threads.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

pub fn library() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What a process needs so that its clock follows the file.
pub fn environment(library: &Path, file: &Path) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    [
        ("LD_PRELOAD", text(library)),
        ("FAKETIME_TIMESTAMP_FILE", text(file)),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

/// Moves a clock to this many seconds from the true time.
pub fn shift(file: &Path, seconds: i64) -> Result<()> {
    // Renamed into place: a reader never finds half a number.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n"))
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("write {}", file.display()))
}

/// True when the library is part of this process.
pub fn reaches(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("faketime"))
}

/// True for a program made by Go, which asks the kernel for the time and not
/// the library. Its build information begins with these bytes.
pub fn is_go(binary: &Path) -> Result<bool> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    let bytes = std::fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    Ok(bytes.windows(MAGIC.len()).any(|window| window == MAGIC))
}
