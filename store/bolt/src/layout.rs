//! How pages look.

use std::hash::Hasher as _;

use fnv::FnvHasher;

/// What etcd uses where pages of memory have this size. A reader takes it from
/// the file.
pub const PAGE_BYTES: usize = 4096;

pub const MAX_KEY_BYTES: usize = 32_768;
pub const MAX_VALUE_BYTES: usize = (1 << 31) - 2;

pub const PAGE_HEADER: usize = 16;
pub const LEAF_ELEMENT: usize = 16;
pub const BRANCH_ELEMENT: usize = 16;
/// Root page and sequence number of a bucket: what stands as its name's value.
pub const BUCKET: usize = 16;

pub const BRANCH: u16 = 0x01;
pub const LEAF: u16 = 0x02;
pub const META: u16 = 0x04;
pub const FREELIST: u16 = 0x10;

/// Flag of a leaf's element whose value is a bucket.
pub const IS_BUCKET: u32 = 0x01;

pub const MAGIC: u32 = 0xED0C_DAED;
pub const VERSION: u32 = 2;

/// Bytes of a meta page's content, with its checksum.
pub const META_BYTES: usize = 64;

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_bytes: u32,
    /// Page of the tree of buckets.
    pub root: u64,
    pub freelist: u64,
    /// Number of pages.
    pub pages: u64,
    /// The newer one of the two meta pages counts.
    pub transaction: u64,
}

impl Meta {
    pub fn encode(&self) -> [u8; META_BYTES] {
        let mut out = [0; META_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            put(&number.to_le_bytes());
        }
        let root_sequence = 0;
        for number in [
            self.root,
            root_sequence,
            self.freelist,
            self.pages,
            self.transaction,
        ] {
            put(&number.to_le_bytes());
        }
        let checksum = checksum(&out);
        out[META_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `None` if these bytes are no meta page's.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; META_BYTES] = bytes.first_chunk()?;
        let intact = word(bytes, 0)? == MAGIC
            && word(bytes, 4)? == VERSION
            && long(bytes, META_BYTES - 8)? == checksum(bytes);
        intact.then_some(Self {
            page_bytes: word(bytes, 8)?,
            root: long(bytes, 16)?,
            freelist: long(bytes, 32)?,
            pages: long(bytes, 40)?,
            transaction: long(bytes, 48)?,
        })
    }
}

/// FNV-1a of all but the checksum itself.
fn checksum(meta: &[u8; META_BYTES]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(&meta[..META_BYTES - 8]);
    hasher.finish()
}

/// Header of a page that goes on over `overflow` pages.
pub fn page_header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; PAGE_HEADER] {
    let mut out = [0; PAGE_HEADER];
    out[..8].copy_from_slice(&id.to_le_bytes());
    out[8..10].copy_from_slice(&flags.to_le_bytes());
    out[10..12].copy_from_slice(&count.to_le_bytes());
    out[12..].copy_from_slice(&overflow.to_le_bytes());
    out
}

pub fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

pub fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}
