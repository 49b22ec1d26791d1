"""What only a Cluster can do to the fenced table: lose a primary for a while, and move the table's slot under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from deploy.stack import ValkeyCluster
from schemas.keys import Keys
from streams.tables.part import Outcome
from streams.tables.users import UserTable
from streams.tables.weather import Weather
from tests.chunked import LAYOUT, PARTITION, TOPICS, apply_one, change, chunks, facts, records, truth
from tests.contract.backends import InRedis, client_of

CLICKS = TOPICS.clicks


async def table_in(backend: InRedis, namespace: str) -> tuple[UserTable, bytes]:
    """A table with its partition initialised, and the partition's tag."""
    keys = Keys(namespace)
    weather = Weather(first_pause_s=0.01, longest_pause_s=0.1)
    table = UserTable(backend.store, keys, LAYOUT, writer="a", weather=weather)
    await table.initialise(facts(CLICKS))
    return table, keys.user_tag(PARTITION)


async def apply_all(table: UserTable, log: Any, size: int) -> list[Outcome]:
    return [await apply_one(table, chunk, change(chunk.records)) for chunk in chunks(CLICKS, log, size)]


async def test_a_killed_primary_that_comes_back_is_waited_for(
    make_cluster: Callable[..., ValkeyCluster], namespace: str
) -> None:
    cluster = make_cluster(config={"appendfsync": "always"})
    client = client_of(cluster.url, socket_timeout=2)
    backend = InRedis(client)
    table, tag = await table_in(backend, namespace)
    log = records(CLICKS, 300)
    owner = client.get_node_from_key(Keys.meta(tag).decode())
    (node,) = [node for node in cluster.nodes if node.port == owner.port]
    await apply_all(table, log[:100], 20)
    node.kill()
    held = asyncio.ensure_future(apply_all(table, log, 20))
    await asyncio.sleep(1.0)
    assert not held.done()
    assert table.weather.trouble
    await asyncio.to_thread(node.start)
    assert (await held)[-1] is Outcome.APPLIED
    assert await backend.rows(tag) == truth(log)
    await client.aclose()


async def test_a_slot_that_moves_under_load_loses_and_doubles_nothing(
    make_cluster: Callable[..., ValkeyCluster], namespace: str
) -> None:
    cluster = make_cluster()
    client = client_of(cluster.url, socket_timeout=2)
    backend = InRedis(client)
    table, tag = await table_in(backend, namespace)
    log = records(CLICKS, 2000)
    await apply_all(table, log[:200], 20)
    applying = asyncio.ensure_future(apply_all(table, log, 10))
    await move_slot(client, cluster, Keys.meta(tag))
    assert not applying.done()
    assert (await applying)[-1] is Outcome.APPLIED
    assert await backend.rows(tag) == truth(log)
    await client.aclose()


async def move_slot(client: Any, cluster: ValkeyCluster, key: bytes) -> None:
    """Hand the slot of a key to another primary, a few keys at a time, as an operator's tool does."""
    slot = client.keyslot(key)
    nodes: list[Any] = [Redis(port=node.port) for node in cluster.nodes]
    ids = [(await node.cluster("MYID")).decode() for node in nodes]
    owner = client.get_node_from_key(key.decode()).port
    source = next(i for i, node in enumerate(cluster.nodes) if node.port == owner)
    target = (source + 1) % len(nodes)
    await nodes[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    await nodes[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    port = cluster.nodes[target].port
    while keys := await nodes[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
        await nodes[source].execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        await asyncio.sleep(0.01)
    for node in (nodes[target], nodes[source], *nodes):
        await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    for node in nodes:
        await node.aclose()
