//! What commands that were carried out did to leases.

use std::time::Duration;

use mizzen_core::{Command, Reply};

use mizzen_planted::bug;

use crate::lease::Lessor;

/// A lease came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Granted { id: i64, ttl: i64 },
    Revoked { id: i64 },
}

impl Change {
    /// What a command that was carried out did to leases.
    pub fn of(command: &Command, reply: &Reply) -> Option<Self> {
        match (command, reply) {
            (_, Reply::LeaseGrant { id, ttl, .. }) => Some(Self::Granted { id: *id, ttl: *ttl }),
            (Command::LeaseRevoke(revoke), _) => Some(Self::Revoked { id: revoke.id }),
            _ => None,
        }
    }

    pub(super) fn make(self, lessor: &mut Lessor, now: Duration) {
        match self {
            Self::Granted { id, ttl } => lessor.grant(now, id, ttl),
            Self::Revoked { id } => bug!("revoked-lease-renewed", lessor.revoked(id) => ()),
        }
    }
}
