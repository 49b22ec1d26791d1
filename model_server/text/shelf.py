"""Vectors of titles in Redis, so that of several workers one reads a title and the others take what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from schemas.keys import Keys

if TYPE_CHECKING:
    from model_server.queue import Client
    from model_server.retrieval.pairs import F32
    from model_server.scoring import U64, Bools

KEPT_S = 30 * 86_400
"""After this a vector is forgotten; a title that is still needed is put back from disk, or read again."""
CLAIM_S = 120
"""For so long a title that somebody reads is left to them."""
SHARDS = 16
"""Hash tags of an installation's vectors, so that a Cluster spreads them."""


class Found(NamedTuple):
    """there bool[N]: vectors f32[N, D] were found; ours bool[N]: nobody has read them, and the claim is ours."""

    there: Bools
    vectors: F32
    ours: Bools


class Shelf:
    """Vectors of width D of one installation and back end, 2 bytes a number, each for `KEPT_S`."""

    def __init__(self, redis: Client, installation: str, back_end: str, width: int) -> None:
        self._redis: Any = redis
        self._tags = [Keys(installation).title_tag(shard) for shard in range(SHARDS)]
        self._back_end = back_end.encode()
        self._width = width

    async def get(self, keys: U64) -> Found:
        """Look these up in one round trip, and claim in a second one what is not there. Raises RedisError."""
        shards = [np.flatnonzero(keys % SHARDS == shard) for shard in range(SHARDS)]
        asked = [(shard, rows) for shard, rows in enumerate(shards) if len(rows)]
        pipe = self._redis.pipeline(transaction=False)
        for shard, rows in asked:
            pipe.execute_command("MGET", *[self._key(shard, int(keys[row])) for row in rows])
        found = Found(
            np.zeros(len(keys), np.bool_), np.zeros((len(keys), self._width), np.float32), np.zeros(len(keys), np.bool_)
        )
        missing: list[int] = []
        for (_, rows), blobs in zip(asked, await pipe.execute(), strict=True):
            for row, blob in zip(rows.tolist(), blobs, strict=True):
                if blob is None:
                    missing.append(row)
                elif len(blob) == 2 * self._width:
                    found.there[row], found.vectors[row] = True, np.frombuffer(blob, "<f2")
        found.ours[missing] = await self._claim(keys[missing])
        return found

    async def put(self, keys: U64, vectors: F32) -> None:
        """Show these to the others. Raises RedisError."""
        pipe = self._redis.pipeline(transaction=False)
        for key, vector in zip(keys.tolist(), vectors.astype("<f2"), strict=True):
            pipe.set(self._key(key % SHARDS, key), vector.tobytes(), ex=KEPT_S)
        await pipe.execute()

    async def _claim(self, keys: U64) -> list[bool]:
        """Which of these nobody else is reading."""
        if not len(keys):
            return []
        pipe = self._redis.pipeline(transaction=False)
        for key in keys.tolist():
            pipe.set(self._key(key % SHARDS, key), b"", nx=True, ex=CLAIM_S)
        return [bool(answer) for answer in await pipe.execute()]

    def _key(self, shard: int, key: int) -> bytes:
        return Keys.title_vector(self._tags[shard], self._back_end, key)
