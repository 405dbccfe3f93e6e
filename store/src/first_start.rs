//! Who a member without data is: one of the first members of a new cluster, or
//! one that a running cluster was told to expect.
//!
//! Knows the configuration and what other members say. Must not know how a
//! member runs.

mod discovery;

use std::{collections::BTreeMap, io, time::Duration};

use crate::{
    config::{Bootstrap, Config, Discovery, FirstStart, InitialClusterState},
    member_dir::Identity,
    raft::{Dial, PeerNode},
    server::{self, Description, Member},
};

/// How long each member is asked whether this one was there before (etcd's
/// value). When a cluster begins, nobody answers.
const BEGINNING: Duration = Duration::from_secs(1);
/// How long each member is asked who the members are (etcd's value).
const JOINING: Duration = Duration::from_secs(10);

/// The first members of a new cluster.
pub fn first_members(bootstrap: &Bootstrap) -> BTreeMap<u64, PeerNode> {
    let members = bootstrap.identity.members.iter();
    members
        .map(|member| {
            let node = PeerNode {
                peer_urls: member.peer_urls.clone(),
                name: member.name.clone(),
            };
            (member.id, node)
        })
        .collect()
}

/// The ids of a new cluster that follow from the flags alone.
pub fn first_identity(bootstrap: &Bootstrap) -> Identity {
    Identity {
        member_id: bootstrap.identity.member_id,
        cluster_id: bootstrap.identity.cluster_id,
    }
}

/// Finds the other first members, if the flags only say where.
pub async fn discover(
    first_start: &mut FirstStart,
    dial: impl FnOnce(&Discovery) -> io::Result<Box<dyn Dial>>,
) -> io::Result<()> {
    let Some((discovery, own, alone)) = first_start.discovery().map_err(io::Error::other)? else {
        return Ok(());
    };
    let dial = dial(discovery)?;
    let cluster = discovery::join(discovery, &*dial, own, &alone).await?;
    first_start.found(cluster);
    Ok(())
}

/// Decides who this member is; asks the others where the flags do not tell.
pub async fn identify(config: &Config, dial: &dyn Dial) -> io::Result<Identity> {
    let bootstrap = config.first_start.bootstrap().map_err(io::Error::other)?;
    let others: Vec<&String> = bootstrap
        .cluster
        .iter()
        .filter(|(name, _)| **name != config.name)
        .flat_map(|(_, urls)| urls)
        .collect();
    match config.initial_cluster_state {
        InitialClusterState::New => {
            let identity = first_identity(&bootstrap);
            let running = server::describe(dial, others, BEGINNING).await;
            if running.is_some_and(|running| was_there(&running, identity)) {
                // It has lost its data. Under its old id it could vote away
                // what it had acknowledged.
                return Err(io::Error::other(format!(
                    "member {:x} has already been bootstrapped",
                    identity.member_id
                )));
            }
            Ok(identity)
        }
        InitialClusterState::Existing => {
            let running = server::describe(dial, others, JOINING).await.ok_or_else(|| {
                io::Error::other(
                    "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs",
                )
            })?;
            joined(&bootstrap, &config.name, &running).map_err(io::Error::other)
        }
    }
}

fn was_there(running: &Description, identity: Identity) -> bool {
    let started =
        |member: &Member| member.id == identity.member_id && !member.client_urls.is_empty();
    running.cluster_id == identity.cluster_id
        && (running.removed.contains(&identity.member_id) || running.members.iter().any(started))
}

/// The id that the running cluster gave to the member with this one's URLs.
fn joined(bootstrap: &Bootstrap, name: &str, running: &Description) -> Result<Identity, String> {
    let refused = |reason: String| {
        let listed: Vec<String> = running
            .members
            .iter()
            .map(|member| format!("{:x}={}", member.id, member.peer_urls.join(",")))
            .collect();
        format!("error validating peerURLs {}: {reason}", listed.join(" "))
    };
    if running.members.len() != bootstrap.cluster.len() {
        return Err(refused("member count is unequal".to_owned()));
    }
    let mut own = None;
    for member in &running.members {
        let listed = bootstrap
            .cluster
            .iter()
            .find(|(_, urls)| **urls == member.peer_urls);
        match listed {
            Some((listed, _)) if listed == name => own = Some(member.id),
            Some(_) => {}
            None => {
                return Err(refused(format!(
                    "PeerURLs: no match found for existing member ({:x}, {:?})",
                    member.id, member.peer_urls
                )));
            }
        }
    }
    if running.level > server::own_level() {
        return Err("incompatible with current running cluster".to_owned());
    }
    Ok(Identity {
        member_id: own.ok_or_else(|| refused("this member is not among them".to_owned()))?,
        cluster_id: running.cluster_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Identity as Ids, InitialMember};

    fn bootstrap(members: &[(&str, &str)]) -> Bootstrap {
        Bootstrap {
            cluster: members
                .iter()
                .map(|(name, url)| ((*name).to_owned(), vec![(*url).to_owned()]))
                .collect(),
            identity: Ids {
                cluster_id: 9,
                member_id: 1,
                members: vec![InitialMember {
                    id: 1,
                    name: "a".to_owned(),
                    peer_urls: vec!["http://a:1".to_owned()],
                }],
            },
        }
    }

    fn running(members: &[(u64, &str)]) -> Description {
        Description {
            cluster_id: 7,
            members: members
                .iter()
                .map(|(id, url)| Member {
                    id: *id,
                    peer_urls: vec![(*url).to_owned()],
                    ..Member::default()
                })
                .collect(),
            removed: [].into(),
            level: 1,
        }
    }

    #[test]
    fn a_joining_member_gets_the_id_of_its_urls() {
        let flags = bootstrap(&[("a", "http://a:1"), ("b", "http://b:1")]);
        let cluster = running(&[(21, "http://b:1"), (20, "http://a:1")]);
        let expected = Identity {
            member_id: 21,
            cluster_id: 7,
        };
        assert_eq!(joined(&flags, "b", &cluster), Ok(expected));
    }

    #[test]
    fn a_joining_member_must_list_the_members_there_are() {
        let flags = bootstrap(&[("a", "http://a:1"), ("b", "http://b:1")]);
        let alone = joined(&flags, "b", &running(&[(20, "http://a:1")]));
        assert!(alone.is_err_and(|text| text.ends_with("member count is unequal")));
        let other = running(&[(20, "http://a:1"), (21, "http://c:1")]);
        let other = joined(&flags, "b", &other);
        assert!(other.is_err_and(|text| text.contains("no match found")));
    }

    #[test]
    fn a_member_that_was_there_does_not_begin_again() {
        let identity = Identity {
            member_id: 20,
            cluster_id: 7,
        };
        let mut cluster = running(&[(20, "http://a:1")]);
        assert!(!was_there(&cluster, identity));
        cluster.members[0].client_urls.push("http://a:2".to_owned());
        assert!(was_there(&cluster, identity));
        cluster.members.clear();
        assert!(!was_there(&cluster, identity));
        cluster.removed.insert(20);
        assert!(was_there(&cluster, identity));
        cluster.cluster_id = 8;
        assert!(!was_there(&cluster, identity));
    }
}
