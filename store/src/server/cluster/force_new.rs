//! A cluster made anew of one member: `--force-new-cluster`.

use std::io;

use mizzen_core::auth::By;
use mizzen_engine::Engine;

use crate::raft::{self, Applied, PeerNode};
use crate::server::model::{
    level,
    members::Change,
    proposal::{Body, Proposal, RequestId},
    storage::Storage,
};

/// Makes `id` the only member of the cluster in `storage`, which has not been
/// served yet and whose log has begun. Done again, it changes nothing more.
pub async fn force_new_cluster<E: Engine>(
    storage: &mut Storage<E>,
    id: u64,
    peer_urls: Vec<String>,
) -> io::Result<()> {
    let applied = Applied::load(&storage.engine.snapshot()).map_err(io::Error::other)?;
    if applied.log_id > storage.recovered.last.map(Into::into) {
        return Err(io::Error::other(
            "the raft log does not reach as far as the rows: start this member once without --force-new-cluster",
        ));
    }
    let alone = Proposal {
        // Nobody waits for it.
        id: RequestId {
            member: id,
            number: 0,
        },
        by: By::Nobody,
        body: Body::Members(Change::Alone {
            id,
            peer_urls: peer_urls.clone(),
        }),
    };
    let node = PeerNode {
        peer_urls,
        name: String::new(),
    };
    let (wal, recovered) = (&storage.wal, &mut storage.recovered);
    raft::force_new_group(wal, recovered, id, node, vec![alone.encode(level::own())]).await
}
