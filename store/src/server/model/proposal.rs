//! Proposals: the content of a log entry, with the id by which the member that
//! proposed it knows it again.

use bytes::{Buf, Bytes};
use mizzen_core::{
    Command,
    auth::{self, By},
};

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
    /// Users and roles.
    Auth(auth::AuthChange),
}

impl Body {
    /// The level of features that it came with, proposed by `by`.
    pub fn level(&self, by: &By) -> u32 {
        match (by, self) {
            (By::Store | By::User { .. }, _) | (_, Body::Auth(_)) => level::AUTH,
            (By::Nobody, Body::Command(Command::Alarm(_))) => level::ALARMS,
            (By::Nobody, _) => level::FIRST,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub id: RequestId,
    pub by: By,
    pub body: Body,
}

const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;
const EXPIRY: u8 = 3;
/// Who asks, then another kind.
const BY: u8 = 4;
const AUTH: u8 = 5;
const HEAD: usize = 17;

/// An entry of the log that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("undecodable proposal: {0}")]
pub struct DecodeError(String);

impl Body {
    fn encode(&self) -> (u8, Bytes) {
        match self {
            Body::Command(command) => (COMMAND, command.encode()),
            Body::Members(change) => (MEMBERS, change.encode()),
            Body::Expiry(ids) => (EXPIRY, ids.iter().flat_map(|id| id.to_be_bytes()).collect()),
            Body::Auth(change) => (AUTH, change.encode()),
        }
    }

    fn decode(kind: u8, bytes: &Bytes) -> Result<Self, DecodeError> {
        let malformed = |error: mizzen_core::DecodeError| DecodeError(error.to_string());
        Ok(match kind {
            COMMAND => Body::Command(Command::decode(bytes).map_err(malformed)?),
            MEMBERS => Body::Members(
                Change::decode(bytes).map_err(|error| DecodeError(error.to_string()))?,
            ),
            EXPIRY => {
                let (ids, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(DecodeError("half a lease's id".to_owned()));
                }
                Body::Expiry(ids.iter().map(|id| i64::from_be_bytes(*id)).collect())
            }
            AUTH => Body::Auth(auth::AuthChange::decode(bytes).map_err(malformed)?),
            kind => return Err(DecodeError(format!("kind {kind}"))),
        })
    }
}

impl Proposal {
    /// `level`: what the members have agreed to. Before they can tell who asks,
    /// nobody is asked.
    pub fn encode(&self, level: u32) -> Payload {
        let (kind, body) = self.body.encode();
        let mut by = Vec::new();
        if self.by != By::Nobody && level >= level::AUTH {
            by.push(BY);
            self.by.encode(&mut by);
        }
        Payload::new(HEAD + by.len() + body.len(), |bytes| {
            bytes.extend_from_slice(&self.id.member.to_be_bytes());
            bytes.extend_from_slice(&self.id.number.to_be_bytes());
            bytes.extend_from_slice(&by);
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
        let mut by = By::Nobody;
        let mut kind = bytes.get_u8();
        if kind == BY {
            by = By::decode(&mut bytes).map_err(|error| DecodeError(error.to_string()))?;
            kind = bytes
                .try_get_u8()
                .map_err(|error| DecodeError(error.to_string()))?;
        }
        let body = Body::decode(kind, &bytes)?;
        if body.level(&by) > level::own() {
            return Err(DecodeError("a command of a newer version".to_owned()));
        }
        Ok(Self { id, by, body })
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
            by: By::Store,
            body: Body::Expiry(ids),
        };
        for ids in [vec![], vec![1], vec![i64::MAX, -1, 0, i64::MIN]] {
            let decoded = Proposal::decode(proposal(ids.clone()).encode(level::NEWEST).content());
            assert_eq!(decoded.expect("own bytes"), proposal(ids));
        }
        let bytes = proposal(vec![1, 2]).encode(level::NEWEST).content();
        assert!(Proposal::decode(bytes.slice(..bytes.len() - 1)).is_err());
    }

    fn by(name: &str) -> By {
        By::User {
            name: name.into(),
            revision: 300,
        }
    }

    #[test]
    fn who_asks_is_found_again() {
        let change = auth::AuthChange::RoleAdd { name: "r".into() };
        for by in [By::Store, By::Nobody, by(""), by("a user")] {
            for body in [
                Body::Auth(change.clone()),
                Body::Members(Change::Remove { id: 3 }),
                Body::Expiry(vec![5]),
            ] {
                let proposal = Proposal {
                    id: RequestId {
                        member: 7,
                        number: 9,
                    },
                    by: by.clone(),
                    body,
                };
                let bytes = proposal.encode(level::NEWEST).content();
                assert_eq!(Proposal::decode(bytes).expect("own bytes"), proposal);
            }
        }
    }

    /// Members that cannot tell must be able to read it.
    #[test]
    fn who_asks_is_left_out_below_its_level() {
        let proposal = |by| Proposal {
            id: RequestId {
                member: 7,
                number: 9,
            },
            by,
            body: Body::Expiry(vec![5]),
        };
        let old = proposal(By::Store).encode(level::AUTH - 1).content();
        let plain = proposal(By::Nobody).encode(level::NEWEST).content();
        assert_eq!(old, plain);
    }

    #[test]
    fn bytes_cut_anywhere_are_no_proposal() {
        let proposal = Proposal {
            id: RequestId {
                member: 7,
                number: 9,
            },
            by: by("u"),
            body: Body::Auth(auth::AuthChange::UserDelete { name: "v".into() }),
        };
        let bytes = proposal.encode(level::NEWEST).content();
        for length in 0..bytes.len() {
            assert!(Proposal::decode(bytes.slice(..length)).is_err(), "{length}");
        }
    }
}
