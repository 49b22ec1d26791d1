"""Walks over all rows of a namespace, and its fences: for verbs that compare or move whole tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from redis.asyncio.cluster import RedisCluster

from schemas.keys import Keys
from streams.service.redis import Client

COUNT = 10_000
HASH_COUNT = 1_000

ByPartition = Mapping[int, list[bytes]]
"""Ids of rows by partition. In a walk one id may come twice: Redis promises only that none is left out."""


async def users(client: Client, keys: Keys) -> AsyncIterator[ByPartition]:
    """Ids of the users that have a row, some thousands at a time; one walk over the keys of each server."""
    redis: Any = client
    nodes = redis.get_primaries() if isinstance(client, RedisCluster) else [None]
    head = keys.user_tag(0)[:-2]  # without the partition and the closing brace
    pattern = head + b"*}:u:*"
    for node in nodes:
        at: Any = 0
        while True:
            options = {} if node is None else {"target_nodes": node}
            at, found = await redis.scan(at, match=pattern, count=COUNT, **options)
            at = at[node.name] if node is not None else at
            if found:
                yield _split(found, len(head))
            if not at:
                break


def _split(found: list[bytes], start: int) -> ByPartition:
    parts: dict[int, list[bytes]] = defaultdict(list)
    for key in found:
        end = key.index(b"}", start)
        if key[end : end + 4] == b"}:u:" and key[start:end].isdigit():  # not a push log of somebody called like this
            parts[int(key[start:end])].append(key[end + 4 :])
    return parts


async def items(
    client: Client, keys: Keys, partitions: int, hash_of: Callable[[bytes], bytes] = Keys.item_rows
) -> AsyncIterator[ByPartition]:
    """Ids of the items that have a row, or of what else `hash_of` a tag holds, about a thousand at a time."""
    redis: Any = client
    for partition in range(partitions):
        at = 0
        while True:
            at, found = await redis.hscan(hash_of(keys.item_tag(partition)), at, count=HASH_COUNT)
            if found:
                yield {partition: list(found)}
            if not at:
                break


async def metas(client: Client, tags: list[bytes]) -> list[dict[bytes, bytes]]:
    """The meta hashes of tags, empty where there is none."""
    pipe: Any = client.pipeline(transaction=False)
    for tag in tags:
        pipe.hgetall(Keys.meta(tag))
    return list(await pipe.execute())


def fences(meta: Mapping[bytes, bytes]) -> dict[str, int]:
    """Last applied offset by topic; base - 1 where nothing was applied yet."""
    bases = {name[2:].decode(): int(value) - 1 for name, value in meta.items() if name.startswith(b"b:")}
    return bases | {name[2:].decode(): int(value) for name, value in meta.items() if name.startswith(b"o:")}
