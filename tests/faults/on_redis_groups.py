"""Faults of several Valkeys: a fail-over to a replica that lags, and slots that move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import redis

from deploy.stack import Valkey, ports
from tests.faults.fault import EXIT_AGAIN, Layout, fault
from tests.faults.servers import client
from tests.faults.stage import PARTITIONS, Stage, until

SENTINEL, CLUSTER = frozenset({Layout.SENTINEL}), frozenset({Layout.CLUSTER})
BATCH = 20


@fault("redis", lasts_s=(1, 4), layouts=SENTINEL, forgets=True, exits=(EXIT_AGAIN,))
async def redis_failover_to_a_lagging_replica(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The primary dies and a replica is promoted that has not heard of the last second: the fence goes back."""
    servers = stage.servers
    primary = servers.primary()
    (replica,) = [valkey for valkey in servers.valkeys if valkey is not primary]
    with client(replica) as server:
        server.execute_command("REPLICAOF", "127.0.0.1", str(ports.free_port()))
    await asyncio.sleep(1.0)
    await asyncio.to_thread(primary.kill)

    async def promoted() -> bool:
        with client(replica) as server:
            return servers.primary() is replica and dict(server.info("replication"))["role"] == "master"

    await until(promoted, 40, "the promotion of the replica")
    yield
    await asyncio.to_thread(primary.start)

    async def follows() -> bool:
        with client(primary) as server:
            return dict(server.info("replication")).get("master_link_status") == "up"

    await until(follows, 40, "the return of the old primary as a replica")


@fault("redis", lasts_s=(0, 2), layouts=CLUSTER)
async def redis_slots_move(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The slots of half the partitions move to other nodes, key by key, while they are written."""
    nodes = stage.servers.valkeys
    for partition in random.sample(range(PARTITIONS), PARTITIONS // 2):
        await asyncio.to_thread(_move, nodes, stage.keys.user_tag(partition), random)
    yield


@fault("redis", lasts_s=(0, 2), layouts=CLUSTER, exits=(EXIT_AGAIN,))
async def redis_node_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """One node of a Cluster without replicas is killed, and comes back with its slots."""
    node = random.choice(stage.servers.valkeys)
    await asyncio.to_thread(node.kill)
    yield
    await asyncio.to_thread(node.start)


def _move(nodes: list[Valkey], tag: bytes, random: Random) -> None:
    """Move the slot of a tag to another node, as a resharding does."""
    with client(nodes[0]) as any_node:
        slot = int(any_node.execute_command("CLUSTER", "KEYSLOT", tag))
    source = next(node for node in nodes if _owns(node, slot))
    target = random.choice([node for node in nodes if node is not source])
    with client(source) as giver, client(target) as taker:
        names = {node.port: _id(node) for node in nodes}
        taker.execute_command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", names[source.port])
        giver.execute_command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", names[target.port])
        while keys := giver.execute_command("CLUSTER", "GETKEYSINSLOT", str(slot), str(BATCH)):
            giver.execute_command("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
        for node in (taker, giver, *[redis.Redis(port=node.port) for node in nodes if node not in (source, target)]):
            node.execute_command("CLUSTER", "SETSLOT", str(slot), "NODE", names[target.port])


def _id(node: Valkey) -> str:
    with client(node) as server:
        return str(server.execute_command("CLUSTER", "MYID").decode())


def _owns(node: Valkey, slot: int) -> bool:
    with client(node) as server:
        mine = _id(node)
        for shard in server.execute_command("CLUSTER", "SHARDS"):
            bounds = shard[b"slots"]
            here = any(node[b"id"].decode() == mine for node in shard[b"nodes"])
            if here and any(a <= slot <= b for a, b in zip(bounds[::2], bounds[1::2], strict=True)):
                return True
    return False
