//! The rows in which a member keeps how far it has applied the log. They are
//! written in the same batch as what the entries did.

use bytes::Bytes;
use mizzen_core::{Family, View, ViewError};

use super::{Applied, LogId};

/// First byte of this module's keys in the Meta family.
const OWNER: u8 = 0x02;
const APPLIED: [u8; 2] = [OWNER, b'a'];
const MEMBERSHIP: [u8; 2] = [OWNER, b'm'];

impl LogId {
    /// 16 bytes: term and index, big-endian.
    pub fn encode(self) -> Bytes {
        encode(self, &[])
    }

    /// `None` if they are not what [`LogId::encode`] gives.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        decode(bytes)
            .ok()
            .filter(|(_, rest)| rest.is_empty())
            .map(|(log_id, _)| log_id)
    }
}

fn encode(log_id: LogId, rest: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(16 + rest.len());
    bytes.extend_from_slice(&log_id.term.to_be_bytes());
    bytes.extend_from_slice(&log_id.index.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes.into()
}

fn decode(bytes: &Bytes) -> Result<(LogId, Bytes), ViewError> {
    let damaged = || ViewError::Failed("a row of the raft group is damaged".to_owned());
    let (term, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (index, _) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok((
        LogId {
            term: u64::from_be_bytes(*term),
            index: u64::from_be_bytes(*index),
        },
        bytes.slice(16..),
    ))
}

impl Applied {
    /// As the rows have it.
    pub fn load(view: &(impl View + ?Sized)) -> Result<Self, ViewError> {
        let log_id = view
            .get(Family::Meta, &APPLIED)?
            .map(|bytes| decode(&bytes))
            .transpose()?
            .map(|(log_id, _)| log_id);
        let membership = view
            .get(Family::Meta, &MEMBERSHIP)?
            .map(|bytes| decode(&bytes))
            .transpose()?;
        Ok(Self { log_id, membership })
    }

    /// The Meta rows that say this.
    pub fn rows(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        let applied = self
            .log_id
            .map(|log_id| (Bytes::from_static(&APPLIED), encode(log_id, &[])));
        let membership = self
            .membership
            .as_ref()
            .map(|(log_id, bytes)| (Bytes::from_static(&MEMBERSHIP), encode(*log_id, bytes)));
        applied.into_iter().chain(membership)
    }
}
