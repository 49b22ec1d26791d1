"""Reading one user's keys and the names of items, for people who ask; nothing here writes."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import orjson
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.columns import item_code

SCAN_COUNT = 1000


class Looked(NamedTuple):
    """A user's keys as they were: row blob, partition's meta hash, queue and lease scores, push log (newest last).

    `erased_ms`: up to when the user's events are left out, None for somebody who was never erased.
    `shadow_pushes`: what a shadow would have pushed.
    """

    partition: int
    row: bytes | None
    meta: dict[bytes, bytes]
    queued: float | None
    leased: float | None
    pushes: list[dict[str, Any]]
    erased_ms: int | None = None
    shadow_pushes: Sequence[dict[str, Any]] = ()


async def partitions_of(client: Redis | RedisCluster, tag: bytes) -> int | None:
    """Partition count that a table was built over, None when it was never initialised."""
    count = await client.hget(Keys.meta(tag), "n")
    return None if count is None else int(count)


async def look(
    client: Redis | RedisCluster, keys: Keys, user: str, partitions: int, former: Sequence[Keys] = ()
) -> Looked:
    """Everything kept about a user, what was pushed from `former` namespaces included."""
    name = user.encode()
    partition = partition_of(name, partitions)
    tag = keys.user_tag(partition)
    counted = [(old, count) for old in former if (count := await partitions_of(client, old.user_tag(0)))]
    pipe = client.pipeline(transaction=False)
    pipe.get(Keys.row(tag, name))
    pipe.hgetall(Keys.meta(tag))
    pipe.zscore(Keys.queue(tag), name)
    pipe.zscore(Keys.leased(tag), name)
    pipe.get(Keys.pushes(tag, name))
    pipe.hget(Keys.erased(tag), name)
    pipe.get(Keys.shadow_pushes(tag, name))
    for old, count in counted:
        pipe.get(Keys.pushes(old.user_tag(partition_of(name, count)), name))
    row, meta, queued, leased, pushed, erased, shadow, *earlier = await pipe.execute()
    pushes = [push for log in (pushed, *earlier) if log for push in orjson.loads(log)]
    newest = {push["dedup_key"]: push for push in reversed(pushes)}
    log, erased_ms = sorted(newest.values(), key=lambda push: push["ts_ms"]), None if erased is None else int(erased)
    return Looked(partition, row, meta, queued, leased, log, erased_ms, orjson.loads(shadow) if shadow else ())


async def item_names(
    client: Redis | RedisCluster, keys: Keys, partitions: int, codes: Iterable[int]
) -> dict[int, tuple[str, str]]:
    """Item id and title (perhaps empty) of item codes, as far as rows or catalogue know them; reads all item ids."""
    wanted, found = set(codes), dict[int, tuple[str, str]]()
    for partition in range(partitions):
        tag = keys.item_tag(partition)
        mine = [
            item.decode()
            async for item, _ in client.hscan_iter(Keys.item_rows(tag), count=SCAN_COUNT)
            if item_code(item.decode()) in wanted
        ]
        if mine:
            entries = await client.hmget(Keys.catalogue(tag), mine)
            titles = [orjson.loads(entry).get("title") or "" if entry else "" for entry in entries]
            found |= {item_code(item): (item, title) for item, title in zip(mine, titles, strict=True)}
    return found


async def beside_fences(client: Redis | RedisCluster, tag: bytes) -> dict[str, tuple[int, bytes]]:
    """By topic of a partition: the last applied offset, -1 before the first, and what was noted beside it."""
    meta = cast("dict[bytes, bytes]", await cast("Awaitable[Any]", client.hgetall(Keys.meta(tag).decode())))
    noted = {name[2:]: value for name, value in meta.items() if name.startswith(b"w:")}
    return {topic.decode(): (int(meta.get(b"o:" + topic, -1)), note) for topic, note in noted.items()}
