"""Places that keep tables: the memory twin and real servers, with a look behind the table's back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.keys import Keys
from streams.tables.memory import MemoryStore
from streams.tables.redis_store import RedisStore
from streams.tables.store import ItemWrite, Move, Store, UserWrite
from streams.tables.users import UserTable

MakeTable = Callable[..., UserTable]
"""Makes the table of another process."""


class Backend(Protocol):
    """A place that keeps tables, and a look behind the table's back."""

    store: Any  # a Store, of which some tests look behind the protocol

    async def rows(self, tag: bytes) -> dict[bytes, bytes]: ...
    async def queue(self, tag: bytes) -> dict[bytes, int]: ...
    async def meta(self, tag: bytes) -> dict[bytes, bytes]: ...
    async def save(self, tag: bytes) -> object: ...
    async def restore(self, tag: bytes, saved: Any) -> None: ...
    async def clear(self, tag: bytes) -> None: ...


class InMemory:
    """The twin."""

    def __init__(self) -> None:
        self.store: Any = MemoryStore()

    async def rows(self, tag: bytes) -> dict[bytes, bytes]:
        return dict(self.store.tag(tag).users)

    async def queue(self, tag: bytes) -> dict[bytes, int]:
        return dict(self.store.tag(tag).queue)

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        return dict(self.store.tag(tag).meta)

    async def save(self, tag: bytes) -> object:
        return copy.deepcopy(self.store.tag(tag))

    async def restore(self, tag: bytes, saved: Any) -> None:
        self.store.tags[tag] = copy.deepcopy(saved)

    async def clear(self, tag: bytes) -> None:
        del self.store.tags[tag]


class InRedis:
    """A real server or Cluster."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.store: Any = RedisStore(client)

    async def keys(self, tag: bytes) -> list[bytes]:
        pattern = tag + b":*"
        return [key async for key in self.client.scan_iter(pattern, count=10_000)]

    async def rows(self, tag: bytes) -> dict[bytes, bytes]:
        prefix = Keys.row(tag, b"")
        found = [key for key in await self.keys(tag) if key.startswith(prefix)]
        values = await self.client.mget(found) if found else []
        return {key.removeprefix(prefix): value for key, value in zip(found, values, strict=True)}

    async def queue(self, tag: bytes) -> dict[bytes, int]:
        return {user: int(score) for user, score in await self.client.zrange(Keys.queue(tag), 0, -1, withscores=True)}

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        return dict(await self.client.hgetall(Keys.meta(tag)))

    async def save(self, tag: bytes) -> object:
        return {key: await self.client.dump(key) for key in await self.keys(tag)}

    async def restore(self, tag: bytes, saved: Any) -> None:
        for key in await self.keys(tag):
            await self.client.unlink(key)
        for key, value in saved.items():
            await self.client.restore(key, 0, value)

    async def clear(self, tag: bytes) -> None:
        await self.restore(tag, {})


def client_of(url: str, **options: Any) -> Any:
    """A client as the product builds it: no retries of its own."""
    retry = Retry(NoBackoff(), 0)
    if url.startswith("redis+cluster:"):
        return RedisCluster.from_url(url.replace("redis+cluster:", "redis:"), retry=retry, **options)
    return Redis.from_url(url, retry=retry, **options)


class Watched:
    """A store that keeps the moves it was asked for; `luck` says of each whether its connection is lost."""

    def __init__(self, store: Store, *luck: str) -> None:
        self._store = store
        self.luck = list(luck)
        self.moves: list[Move] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, tag: bytes, move: Move, write: UserWrite | ItemWrite) -> bool:
        self.moves.append(move)
        luck = self.luck.pop(0) if self.luck else "fine"
        if luck == "lost":
            raise RedisConnectionError(luck)
        done = await self._store.commit(tag, move, write)
        if luck == "unheard":
            raise RedisConnectionError(luck)
        return done
