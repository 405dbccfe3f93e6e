//! What is sealed in the store is opened as it comes in, and sealed as it leaves:
//! nobody above knows of it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Action, Pair, StoreError, Write};
use crate::encryption::{self, Encryption, Opened};

/// How values are sealed, if any are.
#[derive(Clone, Default)]
pub(super) struct Sealing(pub Option<Arc<Encryption>>);

impl Sealing {
    pub fn open(&self, key: &Bytes, value: Bytes) -> Result<Opened, StoreError> {
        let opened = match &self.0 {
            Some(encryption) => encryption.open(key, value),
            None => encryption::plain(value),
        };
        opened.map_err(|why| StoreError::Sealed {
            key: String::from_utf8_lossy(key).into_owned(),
            why,
        })
    }

    pub fn pair(&self, pair: Pair) -> Result<Pair, StoreError> {
        let opened = self.open(&pair.key, pair.value)?;
        Ok(Pair {
            value: opened.value,
            stale: opened.stale,
            ..pair
        })
    }

    /// The same write of what is to be stored. A write that is sent again is the
    /// same to the last byte: sealing it is no part of sending.
    pub fn write(&self, mut write: Write) -> Result<Write, StoreError> {
        if let (Some(encryption), Action::Put(value)) = (&self.0, &mut write.action) {
            *value = encryption
                .seal(write.key.as_bytes(), value)
                .map_err(StoreError::Other)?;
        }
        Ok(write)
    }
}
