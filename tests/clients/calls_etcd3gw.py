"""Every call of etcd3gw (HTTP with JSON) on members with mutual TLS.

Arguments: ca certificate key host:port...
"""

import base64
import sys
import threading

import etcd3gw

ca, certificate, key, *members = sys.argv[1:]


def client(member):
    host, port = member.rsplit(":", 1)
    return etcd3gw.client(
        host=host,
        port=int(port),
        protocol="https",
        ca_cert=ca,
        cert_cert=certificate,
        cert_key=key,
        timeout=20,
        api_path="/v3/",
    )


def b64(text):
    return base64.b64encode(text.encode()).decode()


def calls(one, other):
    assert one.status()["version"].startswith("3.7.")
    assert len(one.members()) == 3
    assert one.put("gw/a", "1") and other.get("gw/a") == [b"1"]
    assert one.create("gw/b", "2") and not one.create("gw/b", "3")
    assert one.replace("gw/b", "2", "4") and not one.replace("gw/b", "2", "5")
    found = other.get_prefix("gw/", sort_order="descend", sort_target="key")
    assert [(value, meta["key"]) for value, meta in found] == [(b"4", b"gw/b"), (b"1", b"gw/a")]
    assert any(value == b"4" for value, _ in other.get_all())
    value, meta = other.get("gw/a", metadata=True)[0]
    assert value == b"1" and int(meta["version"]) == 1
    done = one.transaction(
        {
            "compare": [{"key": b64("gw/a"), "result": "EQUAL", "target": "VALUE", "value": b64("1")}],
            "success": [{"request_put": {"key": b64("gw/a"), "value": b64("6")}}],
            "failure": [],
        }
    )
    assert done["succeeded"] is True and other.get("gw/a") == [b"6"]
    lease = one.lease(ttl=60)
    assert one.put("gw/leased", "x", lease=lease)
    assert lease.keys() == [b"gw/leased"] and 0 < lease.ttl() <= 60
    assert lease.refresh() == 60 and lease.revoke()
    assert other.get("gw/leased") == []
    with one.lock("gw-lock", ttl=30) as lock:
        assert lock.is_acquired() and not other.lock("gw-lock").acquire()
        lock.refresh()
    watches(one, other)
    assert one.delete("gw/a") and not one.delete("gw/a")
    assert one.delete_prefix("gw/") and other.get_prefix("gw/") == []


def watches(one, other):
    events, cancel = one.watch_prefix("gw/w", start_revision=1 + revision(one))
    other.put("gw/w1", "7")
    other.delete("gw/w1")
    event = next(events)
    assert event["kv"]["key"] == b"gw/w1" and event["kv"]["value"] == b"7", event
    assert next(events)["type"] == "DELETE"
    cancel()
    from_here = 1 + revision(one)
    threading.Timer(0.1, lambda: other.put("gw/once", "8")).start()
    event = one.watch_once("gw/once", timeout=20, start_revision=from_here)
    assert event["kv"]["value"] == b"8", event


def revision(one):
    return int(one.status()["header"]["revision"])


clients = [client(member) for member in members]
for index, one in enumerate(clients):
    calls(one, clients[(index + 1) % len(clients)])
print("etcd3gw: every call on", len(clients), "members")
