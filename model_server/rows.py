"""The stored state of leased users: feature row and push log, all of them in one round trip."""

from collections.abc import Sequence
from typing import Any

from model_server.queue import Client, Lease
from schemas.keys import Keys

Stored = tuple[bytes | None, bytes | None]
"""Bytes of a user's row and of its push log, None where there is none yet."""


async def read(redis: Client, keys: Keys, leases: Sequence[Lease]) -> list[Stored]:
    """Row and push log of each lease, in order: one MGET a partition, all in one pipeline. Raises RedisError."""
    groups: dict[int, list[int]] = {}
    for i, lease in enumerate(leases):
        groups.setdefault(lease.partition, []).append(i)
    if not groups:
        return []
    pipe: Any = redis.pipeline(transaction=False)
    for partition, members in groups.items():
        tag = keys.user_tag(partition)
        users = [leases[i].user for i in members]
        pipe.execute_command(
            "MGET", *[keys.row(tag, user) for user in users], *[keys.pushes(tag, user) for user in users]
        )
    stored: list[Stored] = [(None, None)] * len(leases)
    for members, values in zip(groups.values(), await pipe.execute(), strict=True):
        for i, row, log in zip(members, values[: len(members)], values[len(members) :], strict=True):
            stored[i] = (row, log)
    return stored
