//! What a member puts into the log, and finds there again.

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
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub id: RequestId,
    pub body: Body,
}

const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;
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
            kind => return Err(DecodeError(format!("kind {kind}"))),
        };
        Ok(Self { id, body })
    }
}
