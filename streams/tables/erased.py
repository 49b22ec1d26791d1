"""Tombstones: who was erased, and until when events of theirs are left out, in whatever namespace rows are built."""

from __future__ import annotations

import secrets

from schemas.keys import Keys
from schemas.partition import partition_of
from streams.service.redis import Client
from streams.tables.look import partitions_of
from streams.tables.redis_store import RedisStore


async def copy_erased(client: Client, from_keys: Keys, to_keys: Keys, partitions: int) -> int:
    """Let a namespace of so many partitions, in which nothing is folded yet, know who was erased in another one.

    The number of tombstones there were. Whoever registers a namespace does that first and calls this then: an erasure
    lays its tombstone in the live namespace before it looks for others, so that one of the two sees the other.
    """
    store, placed = RedisStore(client), dict[int, dict[bytes, int]]()
    for partition in range(await partitions_of(client, from_keys.user_tag(0)) or 0):
        _, erased = await store.standing(from_keys.user_tag(partition))
        for user, ms in erased.items():
            # The two may differ in their number of partitions.
            placed.setdefault(partition_of(user, partitions), {})[user] = ms
    for partition, erased in placed.items():
        await store.keep_away(to_keys.user_tag(partition), new_ver(), erased)
    return sum(map(len, placed.values()))


def new_ver() -> bytes:
    """A `ver` that no writer holds."""
    return f"erased.{secrets.token_hex(8)}".encode()
