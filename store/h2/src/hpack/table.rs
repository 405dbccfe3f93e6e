//! The two tables: names and values that everybody knows (RFC 7541, Appendix
//! A), and those that one peer has sent.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Bytes,
    pub value: Bytes,
}

impl Field {
    /// What it counts for (RFC 7541, 4.1).
    pub fn size(&self) -> usize {
        self.name.len() + self.value.len() + 32
    }
}

const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Both tables in one address space (RFC 7541, 2.3.3).
pub struct Table {
    /// The newest first.
    fields: VecDeque<Field>,
    size: usize,
    max_size: usize,
    changes: u64,
}

impl Table {
    pub fn new() -> Self {
        Self {
            fields: VecDeque::new(),
            size: 0,
            max_size: limits::TABLE_BYTES,
            changes: 0,
        }
    }

    /// Grows with each change: what an index means stays the same as long as
    /// this does.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn get(&self, index: usize) -> Option<Field> {
        let at = index.checked_sub(1)?;
        match STATIC.get(at) {
            Some((name, value)) => Some(Field {
                name: Bytes::from_static(name.as_bytes()),
                value: Bytes::from_static(value.as_bytes()),
            }),
            None => self.fields.get(at - STATIC.len()).cloned(),
        }
    }

    pub fn insert(&mut self, field: Field) {
        self.changes += 1;
        self.make_room(field.size());
        // One that is larger than the table empties it (RFC 7541, 4.4).
        if field.size() <= self.max_size {
            self.size += field.size();
            self.fields.push_front(field);
        }
    }

    /// False: more than was announced.
    pub fn resize(&mut self, max_size: usize) -> bool {
        self.changes += 1;
        self.max_size = max_size;
        self.make_room(0);
        max_size <= limits::TABLE_BYTES
    }

    fn make_room(&mut self, more: usize) {
        while self.size + more > self.max_size
            && let Some(oldest) = self.fields.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}
