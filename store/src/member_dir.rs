//! The directory of one member: who it is, and where its log and rows are.
//!
//! Knows names of files. Must not know what is in log and rows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
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

/// An existing member directory, with the identity in it.
pub struct MemberDir {
    path: PathBuf,
    pub identity: Identity,
    /// Nothing had been in it before.
    pub created: bool,
}

const MEMBER: &str = "member";
const IDENTITY: &str = "identity";

impl MemberDir {
    /// Who the member in `data_dir` is; `None` if none was made there yet.
    pub fn identity(data_dir: &Path) -> io::Result<Option<Identity>> {
        let file = data_dir.join(MEMBER).join(IDENTITY);
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| named(io::Error::other(error), &file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(error, &file)),
        }
    }

    /// Opens the directory below `data_dir`, or makes it for `first`.
    pub fn open(data_dir: &Path, first: Identity) -> io::Result<Self> {
        let path = data_dir.join(MEMBER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| named(error, &path))?;
        let file = path.join(IDENTITY);
        let (identity, created) = match Self::identity(data_dir)? {
            Some(identity) => (identity, false),
            None => {
                write_durably(&path, &file, &first).map_err(|error| named(error, &file))?;
                (first, true)
            }
        };
        Ok(Self {
            path,
            identity,
            created,
        })
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
    fn the_first_identity_stays() {
        let data = tempfile::tempdir().unwrap();
        let first = Identity {
            member_id: u64::MAX,
            cluster_id: 2,
        };
        let opened = MemberDir::open(data.path(), first).unwrap();
        assert!(opened.created);
        assert_eq!(opened.identity, first);
        let later = MemberDir::open(
            data.path(),
            Identity {
                member_id: 3,
                cluster_id: 4,
            },
        )
        .unwrap();
        assert!(!later.created);
        assert_eq!(later.identity, first);
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
        MemberDir::open(
            data.path(),
            Identity {
                member_id: 1,
                cluster_id: 2,
            },
        )
        .unwrap();
        fs::write(data.path().join("member/identity"), b"{").unwrap();
        let error = MemberDir::open(
            data.path(),
            Identity {
                member_id: 1,
                cluster_id: 2,
            },
        )
        .err()
        .unwrap();
        assert!(error.to_string().contains("member/identity"), "{error}");
    }
}
