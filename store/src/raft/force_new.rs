//! A group made anew of one member, when a majority of it is lost for good.

use std::{collections::BTreeMap, io};

use mizzen_wal as wal;
use openraft::EntryPayload;
use tokio::sync::oneshot;

use super::types::{self, LogId, Payload, PeerNode, RaftMembership};

/// Appends to the log of `id`, before the group is started, a membership of
/// that member alone and then `proposals`. All entries before count as
/// committed from then on, also those that were not: any of them may have been
/// acknowledged by the members that are lost.
///
/// The new entries have a term of their own, in which this member has voted for
/// itself, so that no entry of the old group can have their log ids.
pub async fn force_new_group(
    wal: &wal::Wal,
    recovered: &mut wal::Recovered,
    id: u64,
    node: PeerNode,
    proposals: Vec<Payload>,
) -> io::Result<()> {
    let last = recovered.last.map(LogId::from);
    let last = last.ok_or_else(|| io::Error::other("the raft log has not begun"))?;
    let voted = match &recovered.vote {
        Some(vote) => {
            let vote = types::decode_vote(vote).map_err(io::Error::other)?;
            vote.leader_id.term
        }
        None => 0,
    };
    let term = voted.max(last.term) + 1;
    let membership = RaftMembership::new(vec![[id].into()], BTreeMap::from([(id, node)]))
        .map_err(io::Error::other)?;
    let payloads = std::iter::once(EntryPayload::Membership(membership))
        .chain(proposals.into_iter().map(EntryPayload::Normal));
    let entries: Vec<wal::Entry> = (last.index + 1..)
        .zip(payloads)
        .map(|(index, payload)| wal::Entry {
            term,
            index,
            payload: types::encode_payload(&payload),
        })
        .collect();
    let appended = entries.last().map(|entry| (entry.term, entry.index));
    let vote = types::encode_vote(&types::vote(term, id, false));
    wal.save_vote(vote.clone(), Box::new(|_| ()))
        .map_err(io::Error::other)?;
    let (done, written) = oneshot::channel();
    let done = Box::new(move |result| {
        // The receiver lives as long as this call.
        let _ = done.send(result);
    });
    wal.append(entries, done).map_err(io::Error::other)?;
    // Records are durable in their order, the vote before the entries.
    written
        .await
        .map_err(|_| io::Error::other("the raft log was closed"))??;
    recovered.vote = Some(vote);
    recovered.last = appended;
    Ok(())
}
