//! Maintenance's Downgrade call. Data of this store is never etcd's of an earlier
//! minor version, so there is nothing that could be enabled: what the call checks is
//! checked as etcd does, and the way back is named.

use bytes::Bytes;
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb::{self as wire, downgrade_request::DowngradeAction};
use prost::Message;
use tonic::Status;

use super::{api::Api, frame::decode, framed::Framed, status::status};
use crate::server::Caller;

/// Major and minor number of a version of three numbers, or of two.
fn minor(version: &str) -> Option<(i64, i64)> {
    let three = |version: &str| {
        let version = version
            .split_once('+')
            .map_or(version, |(version, _)| version);
        let version = version
            .split_once('-')
            .map_or(version, |(version, _)| version);
        let numbers: Vec<i64> = version
            .splitn(3, '.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        match numbers[..] {
            [major, minor, _] => Some((major, minor)),
            _ => None,
        }
    };
    three(version).or_else(|| three(&format!("{version}.0")))
}

impl<E: Engine> Api<E> {
    pub(super) async fn downgrade(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::DowngradeRequest = decode(body)?;
        let cluster = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => self.validated(caller, &request.version).await?,
            Ok(DowngradeAction::Enable) => {
                let target = &request.version;
                self.validated(caller, target).await?;
                return Err(Status::failed_precondition(format!(
                    "mizzen: data cannot become etcd {target}'s in place; save a snapshot and restore it with that version's etcdutl"
                )));
            }
            // etcd only logs that there is none to cancel.
            Ok(DowngradeAction::Cancel) => {
                self.server.linearize(caller).await.map_err(status)?;
                tracing::warn!("failed to cancel downgrade: no inflight downgrade job");
                self.cluster_minor()?
            }
            Err(_) => return Err(Status::unknown("etcdserver: unknown method")),
        };
        let reply = wire::DowngradeResponse {
            header: Some(self.header_now()),
            version: format!("{}.{}", cluster.0, cluster.1),
        };
        Ok(reply.encode_to_vec().into())
    }

    fn cluster_minor(&self) -> Result<(i64, i64), Status> {
        let version = self.server.cluster_version().and_then(minor);
        version.ok_or_else(|| {
            Status::failed_precondition("etcdserver: cluster version not found during downgrade")
        })
    }

    /// The cluster's version, if `target` is the one before it.
    async fn validated(&self, caller: &Caller, target: &str) -> Result<(i64, i64), Status> {
        let target = minor(target).ok_or_else(|| {
            Status::invalid_argument("etcdserver: wrong downgrade target version format")
        })?;
        let cluster = self.cluster_minor()?;
        self.server.linearize(caller).await.map_err(status)?;
        if target != (cluster.0, cluster.1 - 1) {
            return Err(Status::invalid_argument(
                "etcdserver: invalid downgrade target version",
            ));
        }
        Ok(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn versions_have_two_numbers_or_three() {
        for (text, expected) in [
            ("3.6", Some((3, 6))),
            ("3.6.9", Some((3, 6))),
            ("3.6.0-rc.1+x", Some((3, 6))),
            ("3", None),
            ("", None),
            ("a.b", None),
            ("3.6.0.0", None),
        ] {
            assert_eq!(minor(text), expected, "{text:?}");
        }
    }
}
