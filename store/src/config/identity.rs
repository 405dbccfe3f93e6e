//! Member and cluster ids of the first members, which every member computes
//! alike from the flags, as etcd does: no message is needed to agree on them.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::{error::Error, url::Url};

/// One of the members a cluster starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    pub id: u64,
    pub name: String,
    /// Sorted, in their printed form.
    pub peer_urls: Vec<String>,
}

/// Who this member is, and in which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    /// All first members, this one among them, in the order of their ids.
    pub members: Vec<InitialMember>,
}

/// The ids that follow from an initial cluster and its token. The cluster must
/// contain `name`.
pub(super) fn identify(
    cluster: &BTreeMap<String, Vec<Url>>,
    name: &str,
    token: &str,
) -> Result<Identity, Error> {
    let mut members: Vec<InitialMember> = cluster
        .iter()
        .map(|(name, urls)| {
            let peer_urls: Vec<String> = urls.iter().map(|url| url.as_str().to_owned()).collect();
            InitialMember {
                id: member_id(&peer_urls, token),
                name: name.clone(),
                peer_urls,
            }
        })
        .collect();
    members.sort_by_key(|member| member.id);
    if members.iter().any(|member| member.id == 0) {
        return Err(Error::invalid("cannot use 0 as member id"));
    }
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(Error::invalid(format!(
            "member exists with identical ID {:x}",
            pair[0].id
        )));
    }
    let own = members
        .iter()
        .find(|member| member.name == name)
        .ok_or_else(|| {
            Error::invalid(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            ))
        })?;
    let cluster_id = cluster_id(members.iter().map(|member| member.id));
    Ok(Identity {
        cluster_id,
        member_id: own.id,
        members,
    })
}

/// The id of a first member: the first eight bytes, big-endian, of the SHA-1
/// of its sorted peer URLs and the cluster's token, one after the other.
pub fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let mut sorted: Vec<&String> = peer_urls.iter().collect();
    sorted.sort();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    leading_u64(hash)
}

/// The id of a cluster: the first eight bytes, big-endian, of the SHA-1 of the
/// sorted ids of its first members, eight bytes big-endian each.
pub fn cluster_id(members: impl IntoIterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = members.into_iter().collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    leading_u64(hash)
}

fn leading_u64(hash: Sha1) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 20]>::from(hash.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
