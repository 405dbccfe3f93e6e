//! What probes ask: whether this member can do its work, whoever asks.

use bytes::Bytes;
use mizzen_core::{Alarm, Range};
use mizzen_engine::Engine;

use super::{Error, Server, level};

impl<E: Engine> Server<E> {
    /// Whether this member knows a leader that it can reach.
    pub fn has_leader(&self) -> bool {
        self.group.leader().is_some() && !self.is_cut_off()
    }

    /// The alarms as this member has them.
    pub async fn known_alarms(&self) -> Result<Vec<Alarm>, Error> {
        self.read((), |(), _, view, _| Ok(Ok(mizzen_core::alarms(view)?)))
            .await
    }

    /// Tries a read: of this member's rows, and unless `serializable` of what a
    /// quorum confirms.
    pub async fn probe(&self, serializable: bool) -> Result<(), Error> {
        if !serializable {
            self.read_index.wait().await?;
        }
        let range = Range {
            key: Bytes::from_static(b"health"),
            limit: 1,
            keys_only: true,
            serializable: true,
            ..Range::default()
        };
        let read = self.read(range, |range, state, view, room| {
            mizzen_core::range(state, view, range, room)
        });
        match read.await {
            // What that alarm means is not that rows cannot be read.
            Ok(_) | Err(Error::Refused(mizzen_core::Error::Corrupt)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The version that all members have agreed on, in etcd's terms.
    pub fn cluster_version(&self) -> Option<&'static str> {
        level::cluster_version(self.published.load().members.level())
    }
}
