"""What the tables in Redis have applied so far, and every row in them, read from outside the services."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.keys import Keys
from schemas.partition import partition_of
from schemas.topics import Topics
from streams.features.declaration import Declaration
from streams.features.items import ItemLayout
from streams.features.rows import Layout

READ_AT_ONCE = 2_000
POLL_S = 0.2


@dataclass(frozen=True)
class Applied:
    """Records of some topics: `done` are applied to the tables, of `total` that are in the topics."""

    done: int
    total: int

    @property
    def complete(self) -> bool:
        return self.done >= self.total


class StandstillError(Exception):
    """The worker applies nothing any more; the text says how far it came."""

    def __init__(self, users: Applied, items: Applied, seconds: float) -> None:
        super().__init__(
            f"Nothing was applied for {seconds:.0f} s: users are at {users.done:,} of {users.total:,} records, items "
            f"at {items.done:,} of {items.total:,}. The worker's log says why."
        )


class Tables:
    """The user and item tables of one installation; `redis` is a client of redis.asyncio."""

    def __init__(self, consumer: AIOKafkaConsumer, redis: Any, topics: Topics, keys: Keys) -> None:
        self._consumer, self._redis, self._topics, self._keys = consumer, redis, topics, keys

    @classmethod
    @asynccontextmanager
    async def reading(cls, kafka: Mapping[str, Any], redis: Any, topics: Topics, keys: Keys) -> AsyncIterator[Self]:
        """The tables, with a consumer of their own while they are read; `kafka` are client options."""
        consumer = AIOKafkaConsumer(**kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            yield cls(consumer, redis, topics, keys)
        finally:
            await consumer.stop()

    async def users_applied(self) -> Applied:
        """Progress over the four user topics."""
        return await self._applied(self._topics.user_inputs, self._keys.user_tag)

    async def items_applied(self) -> Applied:
        """Progress over the catalogue and the item deltas."""
        return await self._applied(self._topics.item_inputs, self._keys.item_tag)

    async def _applied(self, topics: Iterable[str], tag_of: Any) -> Applied:
        ends: dict[TopicPartition, int] = {}
        for topic in topics:
            partitions = [TopicPartition(topic, p) for p in await self._partitions(topic)]
            ends |= await self._consumer.end_offsets(partitions)
        done = 0
        metas: dict[bytes, dict[bytes, bytes]] = {}
        for place in ends:
            tag = tag_of(place.partition)
            if tag not in metas:
                metas[tag] = await self._redis.hgetall(Keys.meta(tag))
            done += int(metas[tag].get(b"o:" + place.topic.encode(), b"-1")) + 1
        return Applied(done, sum(ends.values()))

    async def _partitions(self, topic: str) -> list[int]:
        await self._consumer._client._wait_on_metadata(topic)
        return sorted(self._consumer.partitions_for_topic(topic) or ())

    async def forget_queue(self) -> int:
        """Ask for nobody's rescore any more; how many were waiting."""
        waiting = 0
        for partition in await self._partitions(self._topics.clicks):
            queue = Keys.queue(self._keys.user_tag(partition))
            waiting += await self._redis.zcard(queue)
            await self._redis.delete(queue)
        return waiting

    async def records(self, topic: str) -> int:
        """Records in a topic so far."""
        partitions = [TopicPartition(topic, p) for p in await self._partitions(topic)]
        return sum((await self._consumer.end_offsets(partitions)).values())

    async def user_rows(self, layout: Layout, users: Iterable[str]) -> AsyncIterator[tuple[str, np.void]]:
        """The row of each of the users; an empty row where there is none."""
        count = len(await self._partitions(self._topics.clicks))
        by_partition: dict[int, list[str]] = {}
        for user in users:
            by_partition.setdefault(partition_of(user.encode(), count), []).append(user)
        for partition, names in by_partition.items():
            tag = self._keys.user_tag(partition)
            for start in range(0, len(names), READ_AT_ONCE):
                part = names[start : start + READ_AT_ONCE]
                blobs = await self._redis.mget([Keys.row(tag, name.encode()) for name in part])
                for name, row in zip(part, layout.unpack(blobs), strict=True):
                    yield name, row

    async def stored_users(self) -> set[str]:
        """Ids of all users that have a row."""
        found: set[str] = set()
        for partition in await self._partitions(self._topics.clicks):
            prefix = Keys.row(self._keys.user_tag(partition), b"")
            async for key in self._redis.scan_iter(match=glob(prefix) + b"*", count=1_000):
                found.add(key[len(prefix) :].decode())
        return found

    async def item_rows(self, layout: ItemLayout) -> AsyncIterator[tuple[str, np.void]]:
        """Every item's row."""
        for partition in await self._partitions(self._topics.items):
            rows = await self._redis.hgetall(Keys.item_rows(self._keys.item_tag(partition)))
            for item, row in zip(rows, layout.unpack(list(rows.values())), strict=True):
                yield item.decode(), row


def glob(text: bytes) -> bytes:
    """The pattern that matches exactly this text in a Redis SCAN."""
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^" else bytes([c]) for c in text)


async def counted_users(tables: Tables, declaration: Declaration, expected: Iterable[str]) -> Counter[tuple[str, str]]:
    """Events that the rows of all users hold, by (user, wire kind), also of users that nobody expected."""
    kinds = [kind.wire for kind in declaration.kinds]
    users = sorted(await tables.stored_users() | set(expected))
    counts: Counter[tuple[str, str]] = Counter()
    async for user, row in tables.user_rows(Layout(declaration), users):
        counts.update({(user, kind): n for kind, n in zip(kinds, row["totals"].tolist(), strict=True) if n})
    return counts


async def counted_items(tables: Tables, declaration: Declaration) -> Counter[tuple[str, str]]:
    """Events that the rows of all items hold, by (item, wire kind)."""
    kinds = [kind.wire for kind in declaration.item_kinds]
    counts: Counter[tuple[str, str]] = Counter()
    async for item, row in tables.item_rows(ItemLayout(declaration)):
        counts.update({(item, kind): n for kind, n in zip(kinds, row["totals"].tolist(), strict=True) if n})
    return counts


async def until_applied(
    tables: Tables,
    sending: asyncio.Task[None] | None,
    tell: Callable[[int, int], None],
    stands_still_s: float = 60.0,
) -> None:
    """Return when `sending` is done and every record of the user and item topics is in its row.

    `tell`, which may raise, is given the records of the user topics that are applied, and how many there are.
    Raises what `sending` did, and StandstillError when nothing has moved for so long.
    """
    best, moved_s = -1, time.monotonic()
    while True:
        sent = sending is None or sending.done()
        if sending is not None and sent:
            sending.result()
        users, items = await tables.users_applied(), await tables.items_applied()
        tell(users.done, users.total)
        if sent and users.complete and items.complete:
            # Deltas are in their topic before a user row moves, so the item side can be judged by what it sees now.
            return
        if users.done + items.done > best:
            best, moved_s = users.done + items.done, time.monotonic()
        if time.monotonic() - moved_s > stands_still_s:
            raise StandstillError(users, items, stands_still_s)
        await asyncio.sleep(POLL_S)
