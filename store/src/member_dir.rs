//! The directory of one member: who it is, and where its log and rows are.
//!
//! Knows names of files. Must not know what is in log and rows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Who a member is, from its first start to its end: later flags do not
/// change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub member_id: u64,
    pub cluster_id: u64,
}

/// The directory of a member, which has an identity from the end of its first
/// start on.
pub struct MemberDir {
    path: PathBuf,
}

const MEMBER: &str = "member";
const IDENTITY: &str = "identity";
const RESTORING: &str = "restoring";

impl MemberDir {
    /// Opens the directory below `data_dir`, or makes it.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(MEMBER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| named(error, &path))?;
        Ok(Self { path })
    }

    /// Who the member is; `None` before the end of its first start.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        let file = self.identity_file();
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| named(io::Error::other(error), &file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(error, &file)),
        }
    }

    /// Makes this the directory of `identity`, durably: the last step of a first
    /// start. All that the member cannot do without has been made before, some of
    /// it in `others`; a crash before this leaves what the next start makes use
    /// of or makes again.
    pub fn settle(&self, identity: Identity, others: &[&Path]) -> io::Result<()> {
        let dirs = others.iter().copied().chain([self.path.as_path()]);
        for dir in dirs {
            sync_names(dir).map_err(|error| named(error, dir))?;
        }
        let file = self.identity_file();
        write_durably(&self.path, &file, &identity).map_err(|error| named(error, &file))
    }

    /// Says that rows are being put here from elsewhere, until the member has an
    /// identity: without this, a start would take what an interrupted attempt has left
    /// for a member's own.
    pub fn begin_restoring(&self) -> io::Result<()> {
        let file = self.path.join(RESTORING);
        let made = File::create(&file).and_then(|made| made.sync_all());
        made.and_then(|()| sync_names(&self.path))
            .map_err(|error| named(error, &file))
    }

    /// The end of [`MemberDir::begin_restoring`], once there is an identity, with which
    /// the file means nothing any more.
    pub fn end_restoring(&self) -> io::Result<()> {
        let file = self.path.join(RESTORING);
        fs::remove_file(&file).map_err(|error| named(error, &file))
    }

    /// Whether an attempt to put rows here has not come to its end.
    pub fn is_half_restored(&self) -> io::Result<bool> {
        Ok(self.identity()?.is_none() && self.path.join(RESTORING).try_exists()?)
    }

    /// The file with the identity, for messages.
    pub fn identity_file(&self) -> PathBuf {
        self.path.join(IDENTITY)
    }

    /// Where the rows are.
    pub fn rows(&self) -> PathBuf {
        self.path.join("rows")
    }

    /// Where the Raft log is, unless the operator has put it elsewhere.
    pub fn raft_log(&self) -> PathBuf {
        self.path.join("raft-log")
    }
}

/// etcd's text for a directory that others may look into, if it is one.
pub fn too_open(dir: &Path) -> io::Result<Option<String>> {
    let mode = match fs::metadata(dir) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(error, dir)),
    };
    if mode == 0o700 {
        return Ok(None);
    }
    let letters: String = (0..9)
        .map(|bit| match mode & (0o400 >> bit) {
            0 => '-',
            _ => ['r', 'w', 'x'][bit % 3],
        })
        .collect();
    Ok(Some(format!(
        "directory {dir:?} exist, but the permission is \"d{letters}\". The recommended permission is \
         \"-rwx------\" to prevent possible unprivileged access to the data"
    )))
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes the names in `dir`, and its own in its parents, durable, whoever made
/// them: a start that was killed may have made some and not come to sync them.
fn sync_names(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    let device = fs::metadata(&dir)?.dev();
    for (level, dir) in dir.ancestors().enumerate() {
        if fs::metadata(dir)?.dev() != device {
            return Ok(());
        }
        match File::open(dir) {
            Ok(dir) => dir.sync_all()?,
            // Not made by this user.
            Err(error) if level > 0 && error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The file is there whole, or not at all, whatever happens meanwhile.
fn write_durably(dir: &Path, file: &Path, identity: &Identity) -> io::Result<()> {
    let draft = dir.join("identity.new");
    let mut draft_file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    draft_file.write_all(&serde_json::to_vec(identity).map_err(io::Error::other)?)?;
    draft_file.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_an_identity_once_it_is_settled() {
        let data = tempfile::tempdir().unwrap();
        let dir = MemberDir::open(data.path()).unwrap();
        assert_eq!(dir.identity().unwrap(), None);
        let first = Identity {
            member_id: u64::MAX,
            cluster_id: 2,
        };
        dir.settle(first, &[]).unwrap();
        let later = MemberDir::open(data.path()).unwrap();
        assert_eq!(later.identity().unwrap(), Some(first));
    }

    #[test]
    fn what_is_restored_is_nobodys_until_there_is_an_identity() {
        let data = tempfile::tempdir().unwrap();
        let dir = MemberDir::open(data.path()).unwrap();
        assert!(!dir.is_half_restored().unwrap());
        dir.begin_restoring().unwrap();
        assert!(dir.is_half_restored().unwrap());
        let identity = Identity {
            member_id: 1,
            cluster_id: 2,
        };
        dir.settle(identity, &[]).unwrap();
        assert!(!dir.is_half_restored().unwrap());
        dir.end_restoring().unwrap();
        assert!(!data.path().join("member/restoring").exists());
    }

    #[test]
    fn a_directory_that_others_look_into_is_told_of() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(too_open(data.path()).unwrap(), None);
        assert_eq!(too_open(&data.path().join("none")).unwrap(), None);
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            too_open(data.path()).unwrap(),
            Some(format!(
                "directory {:?} exist, but the permission is \"drwxr-xr-x\". The recommended permission is \
                 \"-rwx------\" to prevent possible unprivileged access to the data",
                data.path()
            ))
        );
    }

    #[test]
    fn a_damaged_identity_is_refused_by_name() {
        let data = tempfile::tempdir().unwrap();
        let dir = MemberDir::open(data.path()).unwrap();
        fs::write(data.path().join("member/identity"), b"{").unwrap();
        let error = dir.identity().unwrap_err();
        assert!(error.to_string().contains("member/identity"), "{error}");
    }
}
