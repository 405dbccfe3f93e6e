"""What Patroni does with etcd (HTTP with JSON), by its own code: two nodes of one
PostgreSQL cluster that share a leader's key, on members with mutual TLS and users.

Arguments: ca certificate key host:port...
"""

import json
import os
import sys
import time

from patroni.dcs import get_dcs

ca, certificate, key, *members = sys.argv[1:]


def node(name, hosts, **more):
    return get_dcs(
        {
            "scope": "patroni",
            "namespace": "/service/",
            "name": name,
            "ttl": 20,
            "loop_wait": 5,
            "retry_timeout": 10,
            "etcd3": {
                "hosts": hosts,
                "protocol": "https",
                "cacert": ca,
                "cert": certificate,
                "key": key,
                **more,
            },
        }
    )


def eventually(seen):
    """What one node writes reaches the others by their watch; this waits for it."""
    for _ in range(200):
        value = seen()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it was never seen")


def calls(one, other):
    assert one.initialize(create_new=True, sysid="7"), "the first one begins"
    assert not other.initialize(create_new=True, sysid="8"), "the second one does not"
    assert one.set_config_value(json.dumps({"ttl": 20}))
    for each in (one, other):
        assert each.touch_member({"conn_url": "postgres://" + each._name, "state": "running"})
    assert one.attempt_to_acquire_leader() and not other.attempt_to_acquire_leader()
    cluster = eventually(lambda: (lambda c: c.leader and len(c.members) == 2 and c)(other.get_cluster()))
    assert cluster.leader.name == "one" and cluster.initialize == "7", cluster
    assert cluster.config.data == {"ttl": 20}
    assert one.update_leader(cluster, 100, {}, {"one": "postgres://one"})
    assert eventually(lambda: other.get_cluster().status.last_lsn == 100)
    assert not other._delete_leader(cluster.leader), "a key of somebody else"
    compared(one, other)
    assert one.take_leader() and one.set_history_value("[]")
    one.watch(None, 0.1)
    assert one.delete_leader(one.get_cluster().leader, 101)
    assert eventually(lambda: other.get_cluster().is_unlocked())
    assert other.attempt_to_acquire_leader()
    assert eventually(lambda: (lambda leader: leader and leader.name == "other")(one.get_cluster().leader))
    assert one.cancel_initialization() and one.delete_cluster()
    assert eventually(lambda: not other.get_cluster().members)


def compared(one, other):
    """Writes that name the revision they replace."""
    revision = one.set_sync_state_value(json.dumps({"leader": "one"}))
    assert revision and not other.set_sync_state_value("{}", version="1")
    assert other.set_sync_state_value("{}", version=str(revision))
    assert not one.delete_sync_state(version=str(revision)) and one.delete_sync_state()
    assert one.set_failover_value("{}") and not one.set_failover_value("{}", version="1")


def users(one):
    """As etcdctl would, by the client's own calls."""
    client = one._client
    client.call_rpc("/auth/user/add", {"name": "root", "password": "p"})
    client.call_rpc("/auth/role/add", {"name": "root"})
    client.call_rpc("/auth/user/grant", {"user": "root", "role": "root"})
    client.call_rpc("/auth/enable", {})


def without_users(one):
    one._client.call_rpc("/auth/disable", {})


calls(node("one", members), node("other", members[1:] + members[:1]))
last = node("last", members)
users(last)
try:
    login = {"username": "root", "password": "p"}
    calls(node("one", members, **login), node("other", members[1:] + members[:1], **login))
finally:
    without_users(node("last", members, username="root", password="p"))
print(f"every call on {len(members)} members")
# Threads of the library watch for ever.
sys.stdout.flush()
os._exit(0)
