"""The stored state of leased users: feature row and push log, all of them in one round trip."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from model_server.policy.pushes import together
from model_server.queue import Client, Lease
from schemas.keys import Keys
from schemas.partition import partition_of

StoredUser = tuple[bytes | None, bytes | None]
"""Bytes of a user's row and of its push log, None where there is none yet."""


class Former(NamedTuple):
    """A namespace that served before, and its partitions of users."""

    keys: Keys
    partitions: int

    def pushes(self, user: bytes) -> bytes:
        """The key of a user's push log there."""
        return self.keys.pushes(self.keys.user_tag(partition_of(user, self.partitions)), user)


async def read(redis: Client, keys: Keys, leases: Sequence[Lease], former: Sequence[Former] = ()) -> list[StoredUser]:
    """Row and push log of each lease, in order: one MGET a partition, all in one pipeline. Raises RedisError.

    `former` are the namespaces that served before: what was pushed from there counts as well.
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
    asked = [old.pushes(lease.user) for old in former for lease in leases]
    for key in asked:
        pipe.execute_command("GET", key)
    answers = await pipe.execute()
    older = [answers[len(groups) + at :: len(leases)] for at in range(len(leases))] if former else [[]] * len(leases)
    stored: list[StoredUser] = [(None, None)] * len(leases)
    for members, values in zip(groups.values(), answers[: len(groups)], strict=True):
        for i, row, log in zip(members, values[: len(members)], values[len(members) :], strict=True):
            stored[i] = (row, together([log, *older[i]]))
    return stored
