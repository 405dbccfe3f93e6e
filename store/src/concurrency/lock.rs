//! Named locks.

use std::sync::Arc;

use bytes::Bytes;
use mizzen_core::{Command, DeleteRange, Operation, Reply};
use mizzen_engine::Engine;
use mizzen_planted::{bug, sometimes};

use super::{Error, Session, key_range, oldest, prefix};
use crate::server::{Caller, Server};

/// A lock that the caller owns as long as the key exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    pub revision: i64,
    pub key: Bytes,
}

/// Returns when the session owns the lock `name`. If `gone` returns first, the
/// session's place in the queue is given up.
pub async fn lock<E: Engine>(
    session: &Session<E>,
    name: &Bytes,
    gone: impl Future<Output = ()>,
) -> Result<Option<Locked>, Error> {
    let prefix = prefix(name);
    let key = session.key(&prefix);
    let decided = session
        .if_created(
            &key,
            0,
            vec![
                session.put(&key, Bytes::new()),
                Operation::Range(oldest(&prefix)),
            ],
            vec![
                Operation::Range(key_range(&key)),
                Operation::Range(oldest(&prefix)),
            ],
        )
        .await?;
    let created = match decided.succeeded {
        true => decided.revision,
        false => decided
            .found(0)?
            .map_or(decided.revision, |own| own.create_revision),
    };
    let owner = decided.found(1)?;
    let owns = owner.is_none_or(|owner| owner.create_revision == created);
    if bug!("lock-not-waited-for", owns => true) {
        let revision = decided.revision;
        return Ok(Some(Locked { revision, key }));
    }
    sometimes!("lock-waited-for");
    let waited = tokio::select! {
        waited = wait(session, &prefix, &key, created) => waited,
        () = gone => Ok(None),
    };
    match waited {
        Ok(Some(revision)) => Ok(Some(Locked { revision, key })),
        // Nothing was there to be given up.
        Err(Error::SessionExpired) => Err(Error::SessionExpired),
        given_up => {
            unlock(&session.server, &session.caller, key).await?;
            given_up.map(|_| None)
        }
    }
}

async fn wait<E: Engine>(
    session: &Session<E>,
    prefix: &Bytes,
    key: &Bytes,
    created: i64,
) -> Result<Option<i64>, Error> {
    session.wait_for_turn(prefix, created).await?;
    match session.range(key_range(key)).await? {
        (revision, Some(_)) => Ok(Some(revision)),
        (_, None) => Err(Error::SessionExpired),
    }
}

/// Gives a lock up. Gives the store's revision.
pub async fn unlock<E: Engine>(
    server: &Arc<Server<E>>,
    caller: &Caller,
    key: Bytes,
) -> Result<i64, Error> {
    let delete = DeleteRange {
        key,
        ..DeleteRange::default()
    };
    let reply: Reply = server.write(caller, Command::DeleteRange(delete)).await?;
    Ok(reply.revision())
}
