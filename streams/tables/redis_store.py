"""The store of record in Redis or Valkey: one node, Sentinel or Cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, cast

from redis.asyncio.cluster import RedisCluster

from schemas.keys import Keys
from streams.tables.scripts import ITEMS, USERS
from streams.tables.store import ItemWrite, Move, UserWrite

if TYPE_CHECKING:
    from redis.asyncio import Redis

TOUCHED_KEPT = 10_000
"""Entries of the stream of touched items that are kept, about: a reader further behind reloads everything."""


class RedisStore:
    """Reads with plain commands, commits by script; all keys of a call carry one tag, so a Cluster routes it whole."""

    def __init__(self, client: Redis | RedisCluster, *, touched_kept: int = TOUCHED_KEPT) -> None:
        self.client: Any = client
        self.touched_kept = touched_kept
        self._users = self.client.register_script(USERS)
        self._items = self.client.register_script(ITEMS)

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", await self.client.hgetall(Keys.meta(tag)))

    async def set_once(self, tag: bytes, field: str, value: str) -> None:
        await self.client.hsetnx(Keys.meta(tag), field, value)

    async def user_rows(self, tag: bytes, users: Sequence[bytes]) -> list[bytes | None]:
        row = Keys.row(tag, b"")
        return cast("list[bytes | None]", await self.client.mget([row + user for user in users]))

    async def item_rows(self, tag: bytes, items: Sequence[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", await self.client.hmget(Keys.item_rows(tag), list(items)))

    async def commit(self, tag: bytes, move: Move, write: UserWrite | ItemWrite) -> bool:
        seen = b"" if move.seen_offset is None else move.seen_offset
        fence = [move.topic, move.seen_ver, seen, move.offset, move.ver]
        if isinstance(write, UserWrite):
            return await self._commit_users(tag, fence, write)
        return await self._commit_items(tag, fence, write)

    async def eviction_policies(self) -> dict[str, str]:
        cluster = isinstance(self.client, RedisCluster)
        infos = await self.client.info("memory", **({"target_nodes": RedisCluster.PRIMARIES} if cluster else {}))
        nodes = infos if cluster else {"the address given": infos}
        return {name: info["maxmemory_policy"] for name, info in nodes.items() if "maxmemory_policy" in info}

    async def _commit_users(self, tag: bytes, fence: list[Any], write: UserWrite) -> bool:
        row = Keys.row(tag, b"")
        keys = [Keys.meta(tag), Keys.queue(tag), *[row + user for user in write.users]]
        args = [*fence, len(write.queue), *write.queue, *write.rows]
        return bool(await cast("Awaitable[int]", self._users(keys, args)))

    async def _commit_items(self, tag: bytes, fence: list[Any], write: ItemWrite) -> bool:
        keys = [Keys.meta(tag), Keys.item_rows(tag), Keys.catalogue(tag), Keys.touched(tag)]
        rows = [part for pair in zip(write.items, write.rows, strict=True) for part in pair]
        entries = [part for pair in write.entries.items() for part in pair]
        sources = [part for pair in write.sources.items() for part in pair]
        counts = [len(rows), len(entries), len(write.removed), len(sources)]
        args = [*fence, write.touched, self.touched_kept, *counts, *rows, *entries, *write.removed, *sources]
        return bool(await cast("Awaitable[int]", self._items(keys, args)))
