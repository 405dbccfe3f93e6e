//! Writes a file from front to back, from rows that come in order.
//!
//! A tree is written from its leaves up, in memory for one page of each level. But
//! page 0 says where the root is and how many pages there are, which is known only
//! at the end. So whoever writes goes through the rows twice: the first time
//! nothing is kept but these numbers ([`measure`]), the second time they stand at
//! the front.

use crate::layout::{
    BRANCH, BRANCH_ELEMENT, FREELIST, IS_BUCKET, LEAF, LEAF_ELEMENT, MAX_KEY_BYTES,
    MAX_VALUE_BYTES, META, Meta, PAGE_BYTES, PAGE_HEADER, page_header,
};

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum Refused<E> {
    /// Whoever takes the bytes took them no more.
    #[error(transparent)]
    Sink(#[from] E),
    #[error("a key of {0} bytes: 1 to {MAX_KEY_BYTES} are permitted")]
    Key(usize),
    #[error("a value of {0} bytes: at most {MAX_VALUE_BYTES} are permitted")]
    Value(usize),
    #[error("keys or names do not ascend")]
    Order,
    #[error("the rows are others than those that were measured")]
    Changed,
}

/// What has to be known of a file before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    root: u64,
    pages: u64,
}

impl Sizes {
    /// Of the whole file.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// The first pages: two meta pages and the list of free ones.
const FIRST_PAGES: u64 = 3;
const FREELIST_PAGE: u64 = 2;
/// Transactions of the two meta pages, each in the page it belongs to.
const TRANSACTIONS: [u64; 2] = [2, 3];

/// Elements of one page that is being filled.
struct Filling {
    flags: u16,
    element: usize,
    /// First key, for the level above.
    first: Vec<u8>,
    heads: Vec<Head>,
    /// Keys and values one after the other.
    content: Vec<u8>,
}

/// What stands before a key and its value.
struct Head {
    flags: u32,
    key: u32,
    value: u32,
    /// Of a branch: the page below.
    page: u64,
}

/// At most so many elements are counted in a page's header.
const MAX_ELEMENTS: usize = u16::MAX as usize;

impl Filling {
    fn new(flags: u16) -> Self {
        Self {
            flags,
            element: match flags {
                BRANCH => BRANCH_ELEMENT,
                _ => LEAF_ELEMENT,
            },
            first: Vec::new(),
            heads: Vec::new(),
            content: Vec::new(),
        }
    }

    fn bytes(&self) -> usize {
        PAGE_HEADER + self.heads.len() * self.element + self.content.len()
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.heads.is_empty()
            || self.heads.len() < MAX_ELEMENTS && self.bytes() + self.element + bytes <= PAGE_BYTES
    }

    fn push(&mut self, key: &[u8], value: &[&[u8]], head: Head) {
        if self.heads.is_empty() {
            self.first = key.to_vec();
        }
        self.heads.push(head);
        self.content.extend_from_slice(key);
        for part in value {
            self.content.extend_from_slice(part);
        }
    }

    /// The bytes of the page or pages, which begin at page `id`.
    fn encode(&self, id: u64) -> Vec<u8> {
        let bytes = self.bytes().next_multiple_of(PAGE_BYTES);
        let overflow = u32::try_from(bytes / PAGE_BYTES - 1).unwrap_or(u32::MAX);
        let count = u16::try_from(self.heads.len()).unwrap_or(u16::MAX);
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&page_header(id, self.flags, count, overflow));
        // From an element to its key: over the elements behind it and the content
        // before.
        let mut position = self.heads.len() * self.element;
        for head in &self.heads {
            let at = u32::try_from(position).unwrap_or(u32::MAX);
            if self.flags == BRANCH {
                out.extend_from_slice(&at.to_le_bytes());
                out.extend_from_slice(&head.key.to_le_bytes());
                out.extend_from_slice(&head.page.to_le_bytes());
            } else {
                for number in [head.flags, at, head.key, head.value] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
            position += head.key as usize + head.value as usize;
            position -= self.element;
        }
        out.extend_from_slice(&self.content);
        out.resize(bytes, 0);
        out
    }
}

/// A tree under way: its level 0 are the leaves.
struct Tree {
    levels: Vec<Filling>,
    last_key: Vec<u8>,
}

impl Tree {
    fn new() -> Self {
        Self {
            levels: vec![Filling::new(LEAF)],
            last_key: Vec::new(),
        }
    }
}

/// Where the bytes go, counted in pages.
struct Pages<S> {
    sink: S,
    next: u64,
}

impl<E, S: FnMut(Vec<u8>) -> Result<(), E>> Pages<S> {
    /// Writes the page out; gives its number.
    fn write(&mut self, filling: &Filling) -> Result<u64, Refused<E>> {
        let id = self.next;
        let bytes = filling.encode(id);
        self.next += (bytes.len() / PAGE_BYTES) as u64;
        (self.sink)(bytes)?;
        Ok(id)
    }

    fn add(
        &mut self,
        tree: &mut Tree,
        key: &[u8],
        value: &[&[u8]],
        flags: u32,
    ) -> Result<(), Refused<E>> {
        let length = value.iter().map(|part| part.len()).sum();
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Refused::Key(key.len()));
        }
        if length > MAX_VALUE_BYTES {
            return Err(Refused::Value(length));
        }
        if key <= &tree.last_key[..] && !tree.last_key.is_empty() {
            return Err(Refused::Order);
        }
        tree.last_key.clear();
        tree.last_key.extend_from_slice(key);
        if !tree.levels[0].has_room_for(key.len() + length) {
            self.close(tree, 0)?;
        }
        let head = Head {
            flags,
            key: key.len() as u32,
            value: length as u32,
            page: 0,
        };
        tree.levels[0].push(key, value, head);
        Ok(())
    }

    /// Writes the page of a level, and tells the level above.
    fn close(&mut self, tree: &mut Tree, level: usize) -> Result<(), Refused<E>> {
        let empty = Filling::new(tree.levels[level].flags);
        let full = std::mem::replace(&mut tree.levels[level], empty);
        let page = self.write(&full)?;
        let above = level + 1;
        if above == tree.levels.len() {
            tree.levels.push(Filling::new(BRANCH));
        }
        if !tree.levels[above].has_room_for(full.first.len()) {
            self.close(tree, above)?;
        }
        let head = Head {
            flags: 0,
            key: full.first.len() as u32,
            value: 0,
            page,
        };
        tree.levels[above].push(&full.first, &[], head);
        Ok(())
    }

    /// Writes what is left of the tree; gives the page of its root.
    fn finish(&mut self, mut tree: Tree) -> Result<u64, Refused<E>> {
        let mut level = 0;
        while level + 1 < tree.levels.len() {
            if !tree.levels[level].heads.is_empty() {
                self.close(&mut tree, level)?;
            }
            level += 1;
        }
        self.write(&tree.levels[level])
    }
}

/// Writes buckets one after the other, in the order of their names.
pub struct Writer<S> {
    pages: Pages<S>,
    buckets: Tree,
    bucket: Option<(Vec<u8>, Tree)>,
}

impl<E, S: FnMut(Vec<u8>) -> Result<(), E>> Writer<S> {
    fn new(sink: S) -> Self {
        Self {
            pages: Pages {
                sink,
                next: FIRST_PAGES,
            },
            buckets: Tree::new(),
            bucket: None,
        }
    }

    /// Writes the first pages of a file that has been measured. `sink` takes whole
    /// pages, one after the other.
    pub fn begin(sizes: Sizes, sink: S) -> Result<Self, Refused<E>> {
        let mut writer = Self::new(sink);
        for (page, transaction) in (0..).zip(TRANSACTIONS) {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: sizes.root,
                freelist: FREELIST_PAGE,
                pages: sizes.pages,
                transaction,
            };
            writer.first(&page_header(page, META, 0, 0), &meta.encode())?;
        }
        writer.first(&page_header(FREELIST_PAGE, FREELIST, 0, 0), &[])?;
        Ok(writer)
    }

    fn first(&mut self, header: &[u8], content: &[u8]) -> Result<(), Refused<E>> {
        let mut page = [header, content].concat();
        page.resize(PAGE_BYTES, 0);
        Ok((self.pages.sink)(page)?)
    }

    /// Begins the next bucket.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), Refused<E>> {
        self.end_bucket()?;
        self.bucket = Some((name.to_vec(), Tree::new()));
        Ok(())
    }

    fn end_bucket(&mut self) -> Result<(), Refused<E>> {
        if let Some((name, tree)) = self.bucket.take() {
            let root = self.pages.finish(tree)?;
            let sequence = [0; 8];
            let value: [&[u8]; 2] = [&root.to_le_bytes(), &sequence];
            self.pages
                .add(&mut self.buckets, &name, &value, IS_BUCKET)?;
        }
        Ok(())
    }

    /// Puts a row into the bucket begun last: keys ascend. The value may come in
    /// parts.
    pub fn put(&mut self, key: &[u8], value: &[&[u8]]) -> Result<(), Refused<E>> {
        match &mut self.bucket {
            Some((_, tree)) => self.pages.add(tree, key, value, 0),
            None => Err(Refused::Order),
        }
    }

    fn end(mut self) -> Result<Sizes, Refused<E>> {
        self.end_bucket()?;
        let root = self.pages.finish(self.buckets)?;
        Ok(Sizes {
            root,
            pages: self.pages.next,
        })
    }

    /// Writes what is left, of a file with these sizes.
    pub fn finish(self, sizes: Sizes) -> Result<(), Refused<E>> {
        match self.end()? == sizes {
            true => Ok(()),
            false => Err(Refused::Changed),
        }
    }
}

/// Goes through the rows as they will be written, and keeps nothing.
pub fn measure<E>(
    rows: impl FnOnce(&mut dyn Rows<E>) -> Result<(), Refused<E>>,
) -> Result<Sizes, Refused<E>> {
    let mut writer = Writer::new(|_| Ok(()));
    rows(&mut writer)?;
    writer.end()
}

/// Where rows are put, to be measured or written.
pub trait Rows<E> {
    fn bucket(&mut self, name: &[u8]) -> Result<(), Refused<E>>;
    fn put(&mut self, key: &[u8], value: &[&[u8]]) -> Result<(), Refused<E>>;
}

impl<E, S: FnMut(Vec<u8>) -> Result<(), E>> Rows<E> for Writer<S> {
    fn bucket(&mut self, name: &[u8]) -> Result<(), Refused<E>> {
        self.bucket(name)
    }

    fn put(&mut self, key: &[u8], value: &[&[u8]]) -> Result<(), Refused<E>> {
        self.put(key, value)
    }
}
