"""The stored state of leased users: feature row and push log, all of them in one round trip."""

from collections.abc import Sequence
from typing import Any

from model_server.policy.pushes import together
from model_server.queue import Client, Lease
from schemas.keys import Keys

Stored = tuple[bytes | None, bytes | None]
"""Bytes of a user's row and of its push log, None where there is none yet."""


async def read(redis: Client, keys: Keys, leases: Sequence[Lease], former: Sequence[Keys] = ()) -> list[Stored]:
    """Row and push log of each lease, in order: one MGET a partition, all in one pipeline. Raises RedisError.

    `former` are the namespaces that served before: what was pushed from there counts as well, and is asked for alike.
    """
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
        for old in former:
            old_tag = old.user_tag(partition)
            pipe.execute_command("MGET", *[old.pushes(old_tag, user) for user in users])
    stored: list[Stored] = [(None, None)] * len(leases)
    answers = await pipe.execute()
    for at, members in enumerate(groups.values()):
        values, *older = answers[at * (1 + len(former)) : (at + 1) * (1 + len(former))]
        logs = zip(values[len(members) :], *older, strict=True)
        for i, row, kept in zip(members, values[: len(members)], logs, strict=True):
            stored[i] = (row, together(kept))
    return stored
