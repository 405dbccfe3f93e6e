//! Ids as etcd 3.7.3 printed them for members started with the same flags.

use super::{bootstrap, run};
use crate::config::identity::{cluster_id, member_id};

#[test]
fn a_member_started_without_flags_is_etcds() {
    let identity = bootstrap(&run(&[])).identity;
    assert_eq!(
        format!("{:x} {:x}", identity.member_id, identity.cluster_id),
        "8e9e05c52164694d cdf818194e3a8c32"
    );
}

/// Three members of a cluster `three`, one with two peer URLs given out of
/// order; the ids are those `etcdctl endpoint status` printed.
#[test]
fn three_members_have_etcds_ids() {
    let cluster = "a=http://127.0.0.1:35001,c=http://localhost:35005,b=http://127.0.0.1:35013,b=http://127.0.0.1:35003";
    for (name, advertised, id) in [
        ("a", "http://127.0.0.1:35001", MEMBER_A),
        (
            "b",
            "http://127.0.0.1:35013,http://127.0.0.1:35003",
            MEMBER_B,
        ),
        ("c", "HTTP://localhost:35005", MEMBER_C),
    ] {
        let config = run(&[
            "--name",
            name,
            "--initial-cluster",
            cluster,
            "--initial-cluster-token",
            "three",
            "--initial-advertise-peer-urls",
            advertised,
        ]);
        assert_eq!(
            format!("{:x}", bootstrap(&config).identity.member_id),
            id,
            "{name}"
        );
        assert_eq!(
            format!("{:x}", bootstrap(&config).identity.cluster_id),
            CLUSTER,
            "{name}"
        );
        assert_eq!(bootstrap(&config).identity.members.len(), 3);
        assert!(
            bootstrap(&config)
                .identity
                .members
                .is_sorted_by_key(|member| member.id)
        );
    }
}

const MEMBER_A: &str = "ed48ce255b896133";
const MEMBER_B: &str = "b928157c25121c23";
const MEMBER_C: &str = "3034ab895aa9c683";
const CLUSTER: &str = "e48ff5c935b711e5";

#[test]
fn ids_do_not_depend_on_order() {
    let [a, b] = ["http://b:1".to_owned(), "http://a:1".to_owned()];
    assert_eq!(
        member_id(&[a.clone(), b.clone()], "t"),
        member_id(&[b, a], "t")
    );
    assert_eq!(cluster_id([3, 1, 2]), cluster_id([1, 2, 3]));
}
