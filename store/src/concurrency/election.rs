//! Elections: a lock whose owner announces a value.

use bytes::Bytes;
use mizzen_core::{DeleteRange, Operation};
use mizzen_engine::Engine;
use mizzen_proto::mvccpb::KeyValue;
use tokio::sync::mpsc;

use super::{Error, Session, events::is_delete, key_range, oldest, prefix, prefix_end};
use crate::concurrency::Events;

/// Proof of leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Exists as long as the leadership does.
    pub key: Bytes,
    /// The revision that created the key.
    pub created: i64,
}

/// What a leader has announced, and the revision for the reply's header.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    pub revision: i64,
    pub kv: KeyValue,
}

/// Returns when the session leads the election `name`, with the revision of
/// its candidacy. If `gone` returns first, the candidacy is withdrawn.
pub async fn campaign<E: Engine>(
    session: &Session<E>,
    name: &Bytes,
    value: Bytes,
    gone: impl Future<Output = ()>,
) -> Result<Option<(i64, Leadership)>, Error> {
    let prefix = prefix(name);
    let key = session.key(&prefix);
    let decided = session
        .if_created(
            &key,
            0,
            vec![session.put(&key, value.clone())],
            vec![Operation::Range(key_range(&key))],
        )
        .await?;
    let mut leadership = Leadership {
        key,
        created: decided.revision,
    };
    if !decided.succeeded
        && let Some(own) = decided.found(0)?
    {
        leadership.created = own.create_revision;
        if own.value != value {
            proclaim(session, &leadership, value).await?;
        }
    }
    tokio::select! {
        waited = session.wait_for_turn(&prefix, leadership.created) => {
            waited?;
            Ok(Some((decided.revision, leadership)))
        }
        () = gone => {
            resign(session, &leadership).await?;
            Ok(None)
        }
    }
}

/// Replaces what the leader has announced. Gives the store's revision.
pub async fn proclaim<E: Engine>(
    session: &Session<E>,
    leadership: &Leadership,
    value: Bytes,
) -> Result<i64, Error> {
    let Leadership { key, created } = leadership;
    let put = vec![session.put(key, value)];
    let decided = session.if_created(key, *created, put, vec![]).await?;
    match decided.succeeded {
        true => Ok(decided.revision),
        false => Err(Error::NotLeader),
    }
}

/// Gives leadership up, if it is still held. Gives the store's revision.
pub async fn resign<E: Engine>(
    session: &Session<E>,
    leadership: &Leadership,
) -> Result<i64, Error> {
    let Leadership { key, created } = leadership;
    let delete = Operation::DeleteRange(DeleteRange {
        key: key.clone(),
        ..DeleteRange::default()
    });
    let decided = session
        .if_created(key, *created, vec![delete], vec![])
        .await?;
    Ok(decided.revision)
}

/// What the present leader has announced.
pub async fn leader<E: Engine>(session: &Session<E>, name: &Bytes) -> Result<Announcement, Error> {
    match session.range(oldest(&prefix(name))).await? {
        (revision, Some(kv)) => Ok(Announcement { revision, kv }),
        (_, None) => Err(Error::NoLeader),
    }
}

/// Tells what leaders announce, one after the other, until nobody listens.
/// Announcements that are compacted before they are read are skipped.
pub async fn observe<E: Engine>(
    session: &Session<E>,
    name: &Bytes,
    listener: &mpsc::Sender<Announcement>,
) -> Result<(), Error> {
    let prefix = prefix(name);
    loop {
        let present = session.range(oldest(&prefix)).await?;
        let found = match present {
            (revision, Some(kv)) => Some(Announcement { revision, kv }),
            (revision, None) => first_put(session, &prefix, revision).await?,
        };
        let Some(found) = found else {
            continue;
        };
        let (key, next) = (found.kv.key.clone(), found.revision + 1);
        if listener.send(found).await.is_err() {
            return Ok(());
        }
        let mut events = Events::of_key(&session.server, &session.caller, key, next).await?;
        'leader: while let Some(told) = events.next().await? {
            for event in told {
                if is_delete(&event) {
                    break 'leader;
                }
                let Some(kv) = event.kv else {
                    continue;
                };
                let revision = kv.mod_revision;
                if listener.send(Announcement { revision, kv }).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// The first candidate from `revision` on; `None` if that is compacted.
async fn first_put<E: Engine>(
    session: &Session<E>,
    prefix: &Bytes,
    revision: i64,
) -> Result<Option<Announcement>, Error> {
    let to = prefix_end(prefix);
    let (server, caller) = (&session.server, &session.caller);
    let mut events = Events::of_keys(server, caller, prefix.clone(), to, revision).await?;
    while let Some(told) = events.next().await? {
        let put = told.into_iter().find(|event| !is_delete(event));
        if let Some(kv) = put.and_then(|event| event.kv) {
            let revision = kv.mod_revision;
            return Ok(Some(Announcement { revision, kv }));
        }
    }
    Ok(None)
}
