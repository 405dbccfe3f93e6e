use std::borrow::Cow;

use super::*;

fn identity(user: &str, groups: &[&str]) -> Identity {
    Identity {
        user: user.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..Identity::default()
    }
}

fn resource<'a>(
    verb: &'a str,
    group: &'a str,
    namespace: &'a str,
    resource: &'a str,
) -> Attributes<'a> {
    Attributes {
        verb,
        is_resource: true,
        group,
        version: "v1",
        namespace,
        resource,
        name: Cow::Borrowed(""),
        ..Attributes::default()
    }
}

#[test]
fn requests_belong_to_upstreams_schemas() {
    let fairness = Fairness::new(600);
    let rules = fairness.rules.load();
    let path = |path| Attributes {
        verb: "get",
        path,
        ..Attributes::default()
    };
    let leases = resource("update", "coordination.k8s.io", "kube-node-lease", "leases");
    let pods = resource("list", "", "", "pods");
    let everybody = "system:authenticated";
    let node = identity("system:node:one", &["system:nodes", everybody]);
    let manager = identity("system:kube-controller-manager", &[everybody]);
    let account = identity(
        "system:serviceaccount:kube-system:x",
        &["system:serviceaccounts", everybody],
    );
    for (who, asked, schema, level) in [
        (
            &identity("a", &["system:masters"]),
            &pods,
            "exempt",
            "exempt",
        ),
        (
            &identity("a", &["system:unauthenticated"]),
            &path("/healthz"),
            "probes",
            "exempt",
        ),
        (&node, &leases, "system-node-high", "node-high"),
        (&node, &pods, "system-nodes", "system"),
        (
            &manager,
            &leases,
            "system-leader-election",
            "leader-election",
        ),
        (&manager, &pods, "kube-controller-manager", "workload-high"),
        (
            &account,
            &pods,
            "kube-system-service-accounts",
            "workload-high",
        ),
        (
            &identity("system:serviceaccount:a:b", &["system:serviceaccounts"]),
            &pods,
            "service-accounts",
            "workload-low",
        ),
        (
            &identity("a", &[everybody]),
            &pods,
            "global-default",
            "global-default",
        ),
        (
            &identity("a", &[everybody]),
            &path("/version"),
            "global-default",
            "global-default",
        ),
    ] {
        let found = rules.of(who, asked).expect("a schema");
        assert_eq!(
            (found.name.as_str(), &*found.level),
            (schema, level),
            "{}",
            who.user
        );
    }
    assert!(rules.of(&identity("nobody", &[]), &pods).is_none());
}

#[tokio::test]
async fn a_noisy_user_leaves_room_for_nodes() {
    let fairness = Fairness::new(60);
    let pods = resource("list", "", "", "pods");
    let noisy = identity("noisy", &["system:authenticated"]);
    let mut turns = Vec::new();
    // As many as are served at once; the others would wait.
    while fairness.seats.has("global-default") {
        turns.push(fairness.turn(&noisy, &pods).await.expect("a turn"));
    }
    assert!(turns.len() >= 10, "{}", turns.len());
    let node = identity("system:node:one", &["system:nodes"]);
    let leases = resource("update", "coordination.k8s.io", "kube-node-lease", "leases");
    let turn = fairness.turn(&node, &leases).await.expect("at once");
    assert!(turn.seat.is_some());
    let master = identity("admin", &["system:masters"]);
    let turn = fairness.turn(&master, &pods).await.expect("at once");
    assert!(turn.seat.is_none());
}

#[test]
fn what_somebody_changed_himself_stays() {
    let expected = objects().into_iter().next().expect("an object");
    assert_eq!(reconciled(&expected, &expected), None);
    let mut other = expected.clone();
    other["spec"]["type"] = "Exempt".into();
    let back = reconciled(&expected, &other).expect("it is put back");
    assert_eq!(back, expected);
    other["metadata"]["annotations"][AUTOUPDATE] = "false".into();
    assert_eq!(reconciled(&expected, &other), None);
}
