"""Every call of aetcd (gRPC, asyncio; it knows no TLS) on every member.

Arguments: host:port...
"""

import asyncio
import io
import sys

import aetcd


async def keys(one, other):
    await one.put(b"ae/a", b"1")
    assert (await other.get(b"ae/a")).value == b"1"
    before = await one.put(b"ae/a", b"2", prev_kv=True)
    assert before.prev_kv.value == b"1"
    await one.put(b"ae/b", b"3")
    assert [kv.key for kv in await other.get_prefix(b"ae/")] == [b"ae/a", b"ae/b"]
    assert len(list(await other.get_range(b"ae/a", b"ae/b"))) == 1
    assert len(list(await other.get_all())) >= 2
    assert await one.replace(b"ae/a", b"2", b"4")
    assert not await one.replace(b"ae/a", b"2", b"5")
    to = one.transactions
    done, replies = await one.transaction(
        compare=[to.value(b"ae/a") == b"4", to.version(b"ae/a") > 0],
        success=[to.put(b"ae/a", b"6"), to.get(b"ae/a"), to.delete(b"ae/none")],
        failure=[],
    )
    assert done and replies[1][0][0] == b"6"
    assert await one.delete(b"ae/b") is not None
    await one.put(b"ae/c1", b"")
    assert (await one.delete_prefix(b"ae/c")).deleted == 1
    await one.put(b"ae/d", b"")
    assert (await one.delete_range(b"ae/d", b"ae/e")).deleted == 1


async def leases_and_locks(one, other):
    lease = await one.lease(60)
    await one.put(b"ae/leased", b"x", lease=lease)
    assert list((await one.get_lease_info(lease.id)).keys) == [b"ae/leased"]
    await one.refresh_lease(lease.id)
    assert 0 < await lease.remaining_ttl() <= 60
    await one.revoke_lease(lease.id)
    assert await other.get(b"ae/leased") is None
    async with one.lock(b"ae-lock", ttl=30) as lock:
        assert await lock.is_acquired()


async def watches(one, other):
    watch = await one.watch_prefix(b"ae/w")
    await other.put(b"ae/w1", b"7")
    await other.delete(b"ae/w1")
    kinds = []
    async for event in watch:
        kinds.append((str(event.kind), event.kv.key))
        if len(kinds) == 2:
            break
    assert kinds == [("PUT", b"ae/w1"), ("DELETE", b"ae/w1")], kinds
    await watch.cancel()

    async def later():
        await asyncio.sleep(0.1)
        await other.put(b"ae/once", b"8")

    task = asyncio.create_task(later())
    assert (await one.watch_once(b"ae/once", timeout=20)).kv.value == b"8"
    await task
    await one.delete_prefix(b"ae/")
    await one.put(b"ae/a", b"9")


async def maintenance(one):
    status = await one.status()
    assert status.version.startswith("3.7.") and status.leader is not None
    assert len([member async for member in one.members()]) == 3
    await one.defragment()
    assert await one.hash() is not None
    file = io.BytesIO()
    await one.snapshot(file)
    assert len(file.getvalue()) % 512 == 32
    newest = (await one.get(b"ae/a")).mod_revision
    await one.compact(newest)
    await one.delete_prefix(b"ae/")


async def main(members):
    clients = []
    for member in members:
        host, port = member.rsplit(":", 1)
        clients.append(aetcd.Client(host, int(port), timeout=20))
    for client in clients:
        await client.connect()
    for index, one in enumerate(clients):
        other = clients[(index + 1) % len(clients)]
        await keys(one, other)
        await leases_and_locks(one, other)
        await watches(one, other)
        await maintenance(one)
    for client in clients:
        await client.close()
    print("aetcd: every call on", len(clients), "members")


asyncio.run(main(sys.argv[1:]))
