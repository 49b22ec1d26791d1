"""The store of record in Redis or Valkey: one node, Sentinel or Cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, cast

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError

from schemas.keys import Keys
from streams.service.redis import eviction_policies
from streams.tables.scripts import ERASE, ITEMS, KEEP_AWAY, USERS
from streams.tables.store import Erasure, ItemWrite, Move, Removed, UserWrite

if TYPE_CHECKING:
    from redis.asyncio import Redis

TOUCHED_KEPT = 10_000
"""Entries of the stream of touched items that are kept, about: a reader further behind reloads everything."""

KEPT_AWAY_AT_ONCE = 1000
"""Tombstones that one call lays."""


class RedisStore:
    """Reads with plain commands, commits by script; all keys of a call carry one tag, so a Cluster routes it whole."""

    def __init__(self, client: Redis | RedisCluster, *, touched_kept: int = TOUCHED_KEPT) -> None:
        self.client: Any = client
        self.touched_kept = touched_kept
        self._cluster = isinstance(client, RedisCluster)
        self._sha = {script: _sha(script) for script in (USERS, ITEMS, ERASE, KEEP_AWAY)}

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", await self.client.hgetall(Keys.meta(tag)))

    async def standing(self, tag: bytes) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
        # In this order: tombstones that are read before their `ver` would be missing for good.
        meta = await self.meta(tag)
        return meta, {user: int(ms) for user, ms in (await self.client.hgetall(Keys.erased(tag))).items()}

    async def set_once(self, tag: bytes, field: str, value: str) -> None:
        await self.client.hsetnx(Keys.meta(tag), field, value)

    async def set_note(self, tag: bytes, field: str, value: bytes) -> None:
        await self.client.hset(Keys.meta(tag), field, value)

    async def user_rows(self, tag: bytes, users: Sequence[bytes]) -> list[bytes | None]:
        row = Keys.row(tag, b"")
        return cast("list[bytes | None]", await self._call([b"MGET", *[row + user for user in users]]))

    async def item_rows(self, tag: bytes, items: Sequence[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", await self._call([b"HMGET", Keys.item_rows(tag), *items]))

    async def commit(self, tag: bytes, move: Move, write: UserWrite | ItemWrite) -> bool:
        if isinstance(write, UserWrite):
            row = Keys.row(tag, b"")
            keys = [Keys.meta(tag), Keys.queue(tag), *[row + user for user in write.users]]
            words = [*_fence(move), b"%d" % len(row), write.urgency, write.rows, *write.scores]
            return bool(await self._run(USERS, keys, words))
        keys = [Keys.meta(tag), Keys.item_rows(tag), Keys.catalogue(tag), Keys.touched(tag)]
        words = [*_fence(move), write.touched, b"%d" % self.touched_kept, *_flat(write)]
        return bool(await self._run(ITEMS, keys, words))

    async def erase(self, tag: bytes, erasure: Erasure) -> Removed | None:
        user = erasure.user
        keys = [Keys.meta(tag), Keys.erased(tag), Keys.row(tag, user), Keys.pushes(tag, user)]
        words = [user, b"%d" % erasure.erased_ms, erasure.ver, erasure.seen or b""]
        keys += [Keys.queue(tag), Keys.leased(tag), Keys.shadow_pushes(tag, user)]
        reply = await self._run(ERASE, keys, words)
        if not reply:
            return None
        size, pushes, queued, leased, before = reply
        return Removed(size, bool(pushes), bool(queued), bool(leased), int(before) if before else None)

    async def keep_away(self, tag: bytes, ver: bytes, erased: Mapping[bytes, int]) -> None:
        pairs = list(erased.items())
        for first in range(0, len(pairs), KEPT_AWAY_AT_ONCE):
            words = [word for user, ms in pairs[first : first + KEPT_AWAY_AT_ONCE] for word in (user, b"%d" % ms)]
            await self._run(KEEP_AWAY, [Keys.meta(tag), Keys.erased(tag)], [ver, *words])

    async def eviction_policies(self) -> dict[str, str]:
        return await eviction_policies(self.client)

    async def _run(self, script: str, keys: list[bytes], words: list[bytes]) -> Any:
        call = [b"EVALSHA", self._sha[script], b"%d" % len(keys), *keys, *words]
        try:
            return await self._call(call)
        except NoScriptError:
            await self.client.script_load(script)
            return await self._call(call)

    async def _call(self, words: list[bytes]) -> Any:
        """The raw reply to a command; to a single server it goes packed here, several times as fast as by redis-py."""
        if self._cluster:
            return await self.client.execute_command(words[0].decode(), *words[1:])
        pool = self.client.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(packed(words))
            return await connection.read_response()
        finally:
            await pool.release(connection)


def _sha(script: str) -> bytes:
    return sha1(script.encode(), usedforsecurity=False).hexdigest().encode()


def packed(words: Sequence[bytes]) -> bytes:
    """A command in the protocol of Redis."""
    parts = [b""] * (2 * len(words))
    parts[::2] = [b"\r\n$%d\r\n" % len(word) for word in words]
    parts[1::2] = words
    return b"*%d%b\r\n" % (len(words), b"".join(parts))


def _fence(move: Move) -> list[bytes]:
    words = [move.seen_ver, move.ver, b"%d" % len(move.steps)]
    for topic, seen, offset in move.steps:
        words += (f"o:{topic}".encode(), b"" if seen is None else b"%d" % seen, b"%d" % offset)
    return words


def _flat(write: ItemWrite) -> list[bytes]:
    """Four counts of words, then the words."""
    rows = [word for pair in zip(write.items, write.rows, strict=True) for word in pair]
    entries = [word for pair in write.entries.items() for word in pair]
    sources = [word for name, offset in write.sources.items() for word in (name, b"%d" % offset)]
    counts = [b"%d" % len(words) for words in (rows, entries, write.removed, sources)]
    return [*counts, *rows, *entries, *write.removed, *sources]
