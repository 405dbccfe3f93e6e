//! The log of a member whose rows come from elsewhere.

use std::{collections::BTreeMap, io, sync::mpsc};

use mizzen_wal as wal;

use super::{
    Applied, LogId,
    types::{self, PeerNode, RaftMembership},
};

/// Begins the log of `id` as that of a member of the group of `nodes` which has
/// forgotten its log through `last`, because the rows have all of it. Whoever joins
/// the group gets rows. Gives what the rows have to say of it.
///
/// All members of the group must be begun with the same rows.
pub fn begin_after(
    log: &wal::Wal,
    id: u64,
    nodes: BTreeMap<u64, PeerNode>,
    last: LogId,
) -> io::Result<Applied> {
    let voters = nodes.keys().copied().collect();
    let membership = RaftMembership::new(vec![voters], nodes).map_err(io::Error::other)?;
    // Nobody else can have been voted for in a term that is over.
    let vote = types::encode_vote(&types::vote(last.term, id, false));
    let (done, written) = mpsc::sync_channel(1);
    log.save_vote(vote, Box::new(|_| ()))
        .map_err(io::Error::other)?;
    log.purge(last.into()).map_err(io::Error::other)?;
    let done = Box::new(move |result| {
        // The receiver lives as long as this call.
        let _ = done.send(result);
    });
    log.barrier(done).map_err(io::Error::other)?;
    let closed = |_| io::Error::other("the raft log was closed");
    written.recv().map_err(closed)?.map_err(io::Error::other)?;
    Ok(Applied {
        log_id: Some(last),
        membership: Some((last, types::encode_membership(&membership))),
    })
}
