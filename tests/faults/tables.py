"""What Redis holds at the end of a run: rows of users and items, the catalogue, and who still waits."""

from __future__ import annotations

from typing import Any, NamedTuple

from schemas.keys import Keys
from tests.faults.stage import ITEM_PARTITIONS, PARTITIONS, Stage

BATCH = 500


class Tables(NamedTuple):
    """Blobs by id."""

    users: dict[str, bytes]
    items: dict[str, bytes]
    catalogue: dict[str, bytes]


async def read(stage: Stage, redis: Any) -> Tables:
    """Everything of the namespace that serves now."""
    tables = Tables({}, {}, {})
    for partition in range(PARTITIONS):
        prefix = Keys.row(stage.keys.user_tag(partition), b"")
        names = [key async for key in redis.scan_iter(prefix + b"*", count=1000)]
        for at in range(0, len(names), BATCH):
            part = names[at : at + BATCH]
            rows = await redis.mget(part)
            tables.users.update({k.removeprefix(prefix).decode(): row for k, row in zip(part, rows, strict=True)})
    for partition in range(ITEM_PARTITIONS):
        tag = stage.keys.item_tag(partition)
        rows = await redis.hgetall(Keys.item_rows(tag))
        entries = await redis.hgetall(Keys.catalogue(tag))
        tables.items.update({name.decode(): row for name, row in rows.items()})
        tables.catalogue.update({name.decode(): entry for name, entry in entries.items()})
    return tables


async def waiting(stage: Stage, redis: Any) -> int:
    """Users that are queued or leased."""
    count = 0
    for partition in range(PARTITIONS):
        tag = stage.keys.user_tag(partition)
        count += await redis.zcard(Keys.queue(tag)) + await redis.zcard(Keys.leased(tag))
    return count
