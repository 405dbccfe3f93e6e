//! etcd's write-ahead log, read for one question: is anything in it that the database
//! beside it has not taken yet? etcd writes its database out ten times a second, so
//! after a crash there may be, and after an orderly stop there is not.
//!
//! Knows the records of the log and what an entry changes. Nothing is carried out.
//! Source: etcd 3.7.3, `server/storage/wal`, and `raftpb`; 3.4's requests of API
//! version 2 are told by not being one of version 3.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest};
use prost::Message;

/// What an entry changes in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Compaction(i64),
    LeaseGranted(i64),
    LeaseRevoked(i64),
    /// Keys, users, roles, alarms.
    Other,
}

/// What the log has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Entries after the one asked for that change a database, by their index.
    pub changes: BTreeMap<u64, Change>,
    /// The newest term.
    pub term: u64,
}

const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CHECKSUM: i64 = 4;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(uint32, tag = "2")]
    checksum: u32,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

/// raftpb.Entry.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    /// 0: a request; others change the membership.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
}

/// raftpb.HardState.
#[derive(Clone, PartialEq, Message)]
struct HardState {
    #[prost(uint64, tag = "1")]
    term: u64,
}

/// etcdserverpb.InternalRaftRequest: what changes a database. Questions, versions,
/// members' names and checkpoints of leases are left out.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "bytes", optional, tag = "4")]
    put: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    delete_range: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    txn: Option<Bytes>,
    #[prost(message, optional, tag = "7")]
    compaction: Option<CompactionRequest>,
    #[prost(message, optional, tag = "8")]
    lease_grant: Option<LeaseGrantRequest>,
    #[prost(message, optional, tag = "9")]
    lease_revoke: Option<LeaseRevokeRequest>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    alarm: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1000")]
    auth_enable: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1011")]
    auth_disable: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1100")]
    user_add: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1101")]
    user_delete: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1103")]
    user_change_password: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1104")]
    user_grant_role: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1105")]
    user_revoke_role: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1200")]
    role_add: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1201")]
    role_delete: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1203")]
    role_grant: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1204")]
    role_revoke: Option<Bytes>,
}

impl Request {
    fn change(self) -> Option<Change> {
        if let Some(compaction) = self.compaction {
            return Some(Change::Compaction(compaction.revision));
        }
        if let Some(lease) = self.lease_grant {
            return Some(Change::LeaseGranted(lease.id));
        }
        if let Some(lease) = self.lease_revoke {
            return Some(Change::LeaseRevoked(lease.id));
        }
        let others = [
            self.put,
            self.delete_range,
            self.txn,
            self.alarm,
            self.auth_enable,
            self.auth_disable,
            self.user_add,
            self.user_delete,
            self.user_change_password,
            self.user_grant_role,
            self.user_revoke_role,
            self.role_add,
            self.role_delete,
            self.role_grant,
            self.role_revoke,
        ];
        others.iter().any(Option::is_some).then_some(Change::Other)
    }
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {what}", path.display()),
    )
}

/// The files of a log in their order, which their names give.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    let entries = fs::read_dir(dir).map_err(named)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>().map_err(named)?;
    paths.retain(|path| path.extension().is_some_and(|found| found == "wal"));
    paths.sort();
    match paths.is_empty() {
        true => Err(damaged(dir, "no write-ahead log of etcd is there")),
        false => Ok(paths),
    }
}

impl Tail {
    /// What the log in `dir` has after the entry `index`.
    ///
    /// # Errors
    /// There is no log, or it is damaged; with the file's name.
    pub fn read(dir: &Path, index: u64) -> io::Result<Self> {
        let mut tail = Self::default();
        let mut checksum = 0;
        for path in files(dir)? {
            tail.read_file(&path, index, &mut checksum)?;
        }
        Ok(tail)
    }

    /// A file is made longer than it is in advance: it ends where there is no record.
    fn read_file(&mut self, path: &Path, index: u64, checksum: &mut u32) -> io::Result<()> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let bytes = file.metadata().map_err(named)?.len();
        let mut input = BufReader::new(file);
        let mut at = 0;
        while bytes - at >= 8 {
            let mut length = [0; 8];
            input.read_exact(&mut length).map_err(named)?;
            let length = u64::from_le_bytes(length);
            if length == 0 {
                break;
            }
            let (data, padding) = lengths(length);
            at += 8;
            if data + padding > bytes - at {
                return Err(damaged(path, "a record goes on behind the end of the file"));
            }
            at += data + padding;
            // Both are within the file's own length.
            let whole = usize::try_from(data + padding).map_err(io::Error::other)?;
            let mut record = vec![0; whole];
            input.read_exact(&mut record).map_err(named)?;
            record.truncate(whole - padding as usize);
            let record = Record::decode(&record[..])
                .map_err(|error| damaged(path, &format!("a record is damaged: {error}")))?;
            self.take(record, index, checksum)
                .map_err(|what| damaged(path, what))?;
        }
        Ok(())
    }

    fn take(&mut self, record: Record, index: u64, checksum: &mut u32) -> Result<(), &'static str> {
        if record.kind == CHECKSUM {
            // The first one of all says what came before.
            if *checksum != 0 && *checksum != record.checksum {
                return Err("a checksum does not match");
            }
            *checksum = record.checksum;
            return Ok(());
        }
        *checksum = crc32c::crc32c_append(*checksum, &record.data);
        if *checksum != record.checksum {
            return Err("a checksum does not match");
        }
        match record.kind {
            ENTRY => {
                let entry = Entry::decode(record.data).map_err(|_| "an entry is damaged")?;
                self.term = self.term.max(entry.term);
                // An entry takes the place of those that were there from it on.
                self.changes.split_off(&entry.index);
                if entry.index > index
                    && entry.kind == 0
                    && let Ok(request) = Request::decode(entry.data)
                    && let Some(change) = request.change()
                {
                    self.changes.insert(entry.index, change);
                }
            }
            STATE => {
                let state = HardState::decode(record.data).map_err(|_| "a state is damaged")?;
                self.term = self.term.max(state.term);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Bytes of a record, and behind it up to the next whole eight: in the highest byte,
/// if its highest bit is set.
fn lengths(field: u64) -> (u64, u64) {
    let data = field & ((1 << 56) - 1);
    let padding = match field >> 63 {
        1 => (field >> 56) & 7,
        _ => 0,
    };
    (data, padding)
}

#[cfg(test)]
mod tests {
    use mizzen_proto::etcdserverpb::PutRequest;

    use super::*;

    /// A file of records as etcd writes them.
    #[derive(Default)]
    struct Written {
        bytes: Vec<u8>,
        checksum: u32,
    }

    impl Written {
        fn record(&mut self, kind: i64, data: Vec<u8>) {
            if kind != CHECKSUM {
                self.checksum = crc32c::crc32c_append(self.checksum, &data);
            }
            let record = Record {
                kind,
                checksum: self.checksum,
                data: data.into(),
            };
            let record = record.encode_to_vec();
            let padding = (8 - record.len() % 8) % 8;
            let mut field = record.len() as u64;
            if padding != 0 {
                field |= (0x80 | padding as u64) << 56;
            }
            self.bytes.extend_from_slice(&field.to_le_bytes());
            self.bytes.extend_from_slice(&record);
            self.bytes.resize(self.bytes.len() + padding, 0);
        }

        fn entry(&mut self, term: u64, index: u64, request: Request) {
            let entry = Entry {
                kind: 0,
                term,
                index,
                data: request.encode_to_vec().into(),
            };
            self.record(ENTRY, entry.encode_to_vec());
        }
    }

    fn put() -> Request {
        Request {
            put: Some(PutRequest::default().encode_to_vec().into()),
            ..Request::default()
        }
    }

    fn compaction(revision: i64) -> Request {
        Request {
            compaction: Some(CompactionRequest {
                revision,
                physical: false,
            }),
            ..Request::default()
        }
    }

    /// Two files, the second one longer than its records.
    fn log() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut written = Written::default();
        written.record(CHECKSUM, Vec::new());
        written.record(1, b"metadata".to_vec());
        for index in 1..=4 {
            written.entry(1, index, put());
        }
        let first = dir.path().join("0000000000000000-0000000000000000.wal");
        fs::write(first, &written.bytes).expect("written");
        written.bytes.clear();
        written.record(CHECKSUM, Vec::new());
        // Another leader took the place of the third and fourth.
        written.entry(2, 3, compaction(7));
        written.entry(2, 4, Request::default());
        let state = HardState { term: 3 };
        written.record(STATE, state.encode_to_vec());
        let mut second = written.bytes;
        second.resize(second.len() + 4_096, 0);
        let path = dir.path().join("0000000000000001-0000000000000003.wal");
        fs::write(path, &second).expect("written");
        (dir, second)
    }

    #[test]
    fn entries_that_change_a_database_are_found_behind_an_index() {
        let (dir, _) = log();
        let read = |index| Tail::read(dir.path(), index).expect("read");
        let third = (3, Change::Compaction(7));
        let second = (2, Change::Other);
        assert_eq!(read(1).changes, BTreeMap::from([second, third]));
        assert_eq!(read(2).changes, BTreeMap::from([third]));
        assert_eq!(read(3).changes, BTreeMap::new());
        assert_eq!(read(0).term, 3);
    }

    #[test]
    fn damaged_files_are_refused_by_name() {
        let (dir, whole) = log();
        let path = dir.path().join("0000000000000001-0000000000000003.wal");
        let records = whole.len() - 4_096;
        let mut refused = 0;
        for bit in 0..records * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).expect("written");
            // The number that says what a record is has no checksum, as in etcd.
            if let Err(error) = Tail::read(dir.path(), 1) {
                refused += 1;
                assert!(error.to_string().contains(".wal: "), "{error}");
            }
        }
        assert!(refused > records * 6, "{refused} of {}", records * 8);
        for length in 0..records {
            fs::write(&path, &whole[..length]).expect("written");
            let _ = Tail::read(dir.path(), 1);
        }
    }

    #[test]
    fn what_is_no_request_of_version_3_changes_nothing() {
        // etcd 3.4's request of version 2: its field 5 is a number.
        let version_2 = [
            &[0x08, 1][..],
            &[0x12, 3],
            b"PUT",
            &[0x22, 1],
            b"x",
            &[0x28, 0],
        ]
        .concat();
        assert!(Request::decode(&version_2[..]).is_err());
    }

    #[test]
    fn a_directory_without_a_log_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = Tail::read(dir.path(), 0).expect_err("refused").to_string();
        assert!(refused.contains("no write-ahead log"), "{refused}");
    }
}
