//! The file of a backup: a database, and behind it its SHA-256.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use mizzen_bolt::ReadAt;
use sha2::{Digest as _, Sha256};

const HASH_BYTES: u64 = 32;
/// A database has whole sectors, so what is beyond them is the hash.
const SECTOR_BYTES: u64 = 512;

pub struct Backup {
    file: File,
    /// Of the database.
    bytes: u64,
    hash: Option<[u8; 32]>,
}

impl ReadAt for Backup {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }
}

impl Backup {
    pub fn open(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let length = file.metadata().map_err(named)?.len();
        if length % SECTOR_BYTES != HASH_BYTES {
            return Ok(Self {
                file,
                bytes: length,
                hash: None,
            });
        }
        let (bytes, mut hash) = (length - HASH_BYTES, [0; 32]);
        file.read_exact_at(&mut hash, bytes).map_err(named)?;
        Ok(Self {
            file,
            bytes,
            hash: Some(hash),
        })
    }

    /// Compares the hash with the database, in etcdutl's words.
    pub fn check_hash(&self) -> io::Result<()> {
        let Some(expected) = self.hash else {
            return Err(io::Error::other(
                "snapshot missing hash but --skip-hash-check=false",
            ));
        };
        let mut hasher = Sha256::new();
        let mut database = (&self.file).take(self.bytes);
        let mut piece = vec![0; 1 << 20];
        loop {
            match database.read(&mut piece)? {
                0 => break,
                read => hasher.update(&piece[..read]),
            }
        }
        let found: [u8; 32] = hasher.finalize().into();
        if found == expected {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "expected sha256 {}, got {}",
            listed(&expected),
            listed(&found)
        )))
    }
}

/// As Go prints bytes.
fn listed(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}
