//! Proposals: the content of a log entry, with the id by which the member that
//! proposed it knows it again.

use bytes::{Buf, Bytes};
use mizzen_core::Command;

use super::{level, members::Change};
use crate::raft::Payload;

/// A request is known by the member that proposed it and a number that member
/// gave it: whoever applies it there answers the waiting client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    pub member: u64,
    pub number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Command(Command),
    /// Who is a member, or what is known of one.
    Members(Change),
    /// Leases whose time has run out: each ends in a revision of its own.
    Expiry(Vec<i64>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub id: RequestId,
    pub body: Body,
}

const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;
const EXPIRY: u8 = 3;
const HEAD: usize = 17;

/// An entry of the log that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("undecodable proposal: {0}")]
pub struct DecodeError(String);

impl Proposal {
    pub fn encode(&self) -> Payload {
        let (kind, body) = match &self.body {
            Body::Command(command) => (COMMAND, command.encode()),
            Body::Members(change) => (MEMBERS, change.encode()),
            Body::Expiry(ids) => (EXPIRY, ids.iter().flat_map(|id| id.to_be_bytes()).collect()),
        };
        Payload::new(HEAD + body.len(), |bytes| {
            bytes.extend_from_slice(&self.id.member.to_be_bytes());
            bytes.extend_from_slice(&self.id.number.to_be_bytes());
            bytes.push(kind);
            bytes.extend_from_slice(&body);
        })
    }

    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() < HEAD {
            return Err(DecodeError(format!("{} bytes", bytes.len())));
        }
        let id = RequestId {
            member: bytes.get_u64(),
            number: bytes.get_u64(),
        };
        let body = match bytes.get_u8() {
            COMMAND => {
                let command =
                    Command::decode(&bytes).map_err(|error| DecodeError(error.to_string()))?;
                if !level::allows(level::own(), &command) {
                    return Err(DecodeError("a command of a newer version".to_owned()));
                }
                Body::Command(command)
            }
            MEMBERS => Body::Members(
                Change::decode(&bytes).map_err(|error| DecodeError(error.to_string()))?,
            ),
            EXPIRY => {
                let (ids, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(DecodeError("half a lease's id".to_owned()));
                }
                Body::Expiry(ids.iter().map(|id| i64::from_be_bytes(*id)).collect())
            }
            kind => return Err(DecodeError(format!("kind {kind}"))),
        };
        Ok(Self { id, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_leases_are_found_again() {
        let proposal = |ids| Proposal {
            id: RequestId {
                member: 7,
                number: 9,
            },
            body: Body::Expiry(ids),
        };
        for ids in [vec![], vec![1], vec![i64::MAX, -1, 0, i64::MIN]] {
            let decoded = Proposal::decode(proposal(ids.clone()).encode().content());
            assert_eq!(decoded.expect("own bytes"), proposal(ids));
        }
        let bytes = proposal(vec![1, 2]).encode().content();
        assert!(Proposal::decode(bytes.slice(..bytes.len() - 1)).is_err());
    }
}
