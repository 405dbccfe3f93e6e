//! Removes large files slowly and on a thread of its own, so that the syncs of other
//! files are not held up.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Bytes given back to the file system at once. It may hand them on to the
/// disk, which others then wait for.
const STEP_BYTES: u64 = 4 << 20;
/// Between two steps: some 100 MB in a second.
const PAUSE: Duration = Duration::from_millis(40);

/// Removes a directory and the files in it in the background. What stays
/// behind is removed when the rows are opened again.
pub fn in_background(dir: PathBuf) {
    let _ = std::thread::Builder::new()
        .name("remove-rows".to_owned())
        .spawn(move || {
            let _ = rustix::process::nice(super::options::BACKGROUND_NICE);
            remove(&dir)
        });
}

fn remove(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        shrink(&path)?;
        fs::remove_file(path)?;
    }
    fs::remove_dir(dir)
}

/// Makes a file short, unless it has another name that must keep its bytes.
fn shrink(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() || found.nlink() > 1 {
        return Ok(());
    }
    let mut size = found.len();
    if size <= STEP_BYTES {
        return Ok(());
    }
    let file = File::options().write(true).open(path)?;
    while size > STEP_BYTES {
        size -= STEP_BYTES;
        file.set_len(size)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_and_files_with_another_name_stay_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let doomed = dir.path().join("doomed");
        fs::create_dir(&doomed).expect("made");
        let bytes = usize::try_from(3 * STEP_BYTES + 1).expect("few");
        for name in ["alone", "shared"] {
            fs::write(doomed.join(name), vec![7; bytes]).expect("written");
        }
        let kept = dir.path().join("kept");
        fs::hard_link(doomed.join("shared"), &kept).expect("linked");
        remove(&doomed).expect("removed");
        assert!(!doomed.exists());
        assert_eq!(fs::read(&kept).expect("read"), vec![7; bytes]);
    }
}
