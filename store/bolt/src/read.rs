//! Reads a file, one page at a time.

use std::{io, ops::ControlFlow};

use crate::layout::{
    BRANCH, BRANCH_ELEMENT, BUCKET, IS_BUCKET, LEAF, LEAF_ELEMENT, META_BYTES, Meta, PAGE_HEADER,
    half, long, word,
};

/// Bytes at a place of a file.
pub trait ReadAt {
    /// Fills `into` from offset `at` on.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let part = usize::try_from(at).ok().and_then(|at| self.get(at..));
        match part.and_then(|part| part.get(..into.len())) {
            Some(part) => {
                into.copy_from_slice(part);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("no bbolt file: neither of its first two pages is intact")]
    NoFile,
    #[error("page {0} of the bbolt file is damaged")]
    Page(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Trees are at most so deep: at two keys to a page more than a file can have.
const MAX_DEPTH: usize = 64;
/// Pages over which one may go on: the largest key and value, and some.
const MAX_OVERFLOW: u64 = (1 << 31) / 512;

/// A file that is read.
pub struct File<'a, R: ?Sized> {
    bytes: &'a R,
    meta: Meta,
}

/// What is called for each key and value.
type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

impl<'a, R: ReadAt + ?Sized> File<'a, R> {
    /// Finds the newer intact meta page.
    pub fn open(bytes: &'a R) -> Result<Self, Damage> {
        // The second one's place depends on the size of pages.
        let sizes = (9..=16).map(|power| 1_u64 << power);
        let mut found: Vec<Meta> = Vec::new();
        for at in std::iter::once(0).chain(sizes) {
            let mut page = [0; PAGE_HEADER + META_BYTES];
            if bytes.read_at(at, &mut page).is_ok()
                && let Some(meta) = Meta::decode(&page[PAGE_HEADER..])
                && (at == 0 || at == u64::from(meta.page_bytes))
                && meta.page_bytes >= 512
            {
                found.push(meta);
            }
        }
        let meta = found.into_iter().max_by_key(|meta| meta.transaction);
        Ok(Self {
            bytes,
            meta: meta.ok_or(Damage::NoFile)?,
        })
    }

    /// Bytes of all its pages: what comes after them is no part of it.
    pub fn size(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// Names of all buckets, in order.
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, Damage> {
        let mut names = Vec::new();
        let mut walk = Walk::of(self);
        let _ = walk.page(self.meta.root, 0, true, &mut |name, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    /// Visits the keys and values of a bucket in order, until the visitor breaks.
    /// `false`: there is no such bucket.
    pub fn scan(
        &self,
        bucket: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<bool, Damage> {
        let mut found = None;
        let _ = Walk::of(self).page(self.meta.root, 0, true, &mut |name, value| {
            if name == bucket {
                found = Some(value.to_vec());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let Some(value) = found else {
            return Ok(false);
        };
        let root = long(&value, 0).ok_or(Damage::Page(self.meta.root))?;
        let mut walk = Walk::of(self);
        let _ = match root {
            // A small bucket stands in its name's value.
            0 => {
                let inline = value.get(BUCKET..).unwrap_or_default();
                walk.leaf(self.meta.root, inline, false, &mut visit)?
            }
            root => walk.page(root, 0, false, &mut visit)?,
        };
        Ok(true)
    }

    /// A page with those it goes on over.
    fn page(&self, id: u64) -> Result<Vec<u8>, Damage> {
        let size = u64::from(self.meta.page_bytes);
        if id < 2 || id >= self.meta.pages {
            return Err(Damage::Page(id));
        }
        let mut header = [0; PAGE_HEADER];
        self.bytes.read_at(id * size, &mut header)?;
        let overflow = u64::from(word(&header, 12).unwrap_or(u32::MAX));
        if long(&header, 0) != Some(id)
            || overflow > MAX_OVERFLOW
            || id + overflow >= self.meta.pages
        {
            return Err(Damage::Page(id));
        }
        let length = usize::try_from((1 + overflow) * size).map_err(|_| Damage::Page(id))?;
        let mut page = vec![0; length];
        self.bytes.read_at(id * size, &mut page)?;
        Ok(page)
    }
}

/// One pass over a tree: it comes to no page twice, or there are too many.
struct Walk<'f, 'a, R: ?Sized> {
    file: &'f File<'a, R>,
    left: u64,
}

impl<'f, 'a, R: ReadAt + ?Sized> Walk<'f, 'a, R> {
    fn of(file: &'f File<'a, R>) -> Self {
        Self {
            file,
            left: file.meta.pages,
        }
    }

    fn page(
        &mut self,
        id: u64,
        depth: usize,
        of_buckets: bool,
        visit: Visit<'_>,
    ) -> Result<ControlFlow<()>, Damage> {
        self.left = self.left.checked_sub(1).ok_or(Damage::Page(id))?;
        if depth > MAX_DEPTH {
            return Err(Damage::Page(id));
        }
        let page = self.file.page(id)?;
        if half(&page, 8) != Some(BRANCH) {
            return self.leaf(id, &page, of_buckets, visit);
        }
        let count = half(&page, 10).map_or(0, usize::from);
        for element in 0..count {
            let at = PAGE_HEADER + element * BRANCH_ELEMENT;
            let below = long(&page, at + 8).ok_or(Damage::Page(id))?;
            if self.page(below, depth + 1, of_buckets, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn leaf(
        &mut self,
        id: u64,
        page: &[u8],
        of_buckets: bool,
        visit: Visit<'_>,
    ) -> Result<ControlFlow<()>, Damage> {
        let damaged = || Damage::Page(id);
        if half(page, 8) != Some(LEAF) {
            return Err(damaged());
        }
        let count = half(page, 10).map_or(0, usize::from);
        for element in 0..count {
            let at = PAGE_HEADER + element * LEAF_ELEMENT;
            let field = |place: usize| word(page, at + place).ok_or_else(damaged);
            let is_bucket = field(0)? & IS_BUCKET != 0;
            if is_bucket != of_buckets {
                return Err(damaged());
            }
            let key_at = at + field(4)? as usize;
            let value_at = key_at + field(8)? as usize;
            let end = value_at + field(12)? as usize;
            let key = page.get(key_at..value_at).ok_or_else(damaged)?;
            let value = page.get(value_at..end).ok_or_else(damaged)?;
            if visit(key, value).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
