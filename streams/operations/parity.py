"""`kairos parity A B`: are the rows of two namespaces the same, and where not, which, in what, and by how much.

Stored bytes are compared first; only rows whose bytes differ are decoded. Rows of two declarations are compared in the
features that both have, as a reader at the later one's last event sees them.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schemas.keys import Keys
from streams.features.declaration import Declaration
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.operations.comparing import Columns, Tally, item_columns, last_ms, user_columns
from streams.service.redis import Client
from streams.service.verb import Bar
from streams.tables import scan
from streams.tables.look import partitions_of
from streams.tables.redis_store import RedisStore
from streams.tables.scan import ByPartition

DECODED = 1_000
"""Rows that are decoded at a time."""
LOOK_AGAIN_S = 1.0

Blobs = list[bytes | None]
Pairs = tuple[Sequence[bytes], Blobs, Blobs]


class ParityError(Exception):
    """Two namespaces cannot be compared; the sentence says what to do."""

    exit_code = 78


@dataclass(frozen=True)
class Sample:
    """One of every `of` rows, chosen by a hash of the id: the same ones on both sides."""

    of: int = 1

    def take(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those of the ids that are in the sample."""
        return list(ids) if self.of == 1 else [each for each in ids if zlib.crc32(each) % self.of == 0]


class Kind(NamedTuple):
    """Rows of one kind: how to walk over them, read them, and take them apart (None: bytes are all there is)."""

    name: str
    walk: Callable[[Keys], AsyncIterator[ByPartition]]
    read: Callable[[Keys, int, Sequence[bytes]], Any]
    columns: Callable[[Declaration, Blobs, Any], Columns] | None
    last_ms: Callable[[Declaration, Blobs], Any] | None


def kinds(client: Client, item_partitions: int) -> tuple[Kind, Kind, Kind]:
    """Users, items and catalogue of whatever namespace."""
    store, redis = RedisStore(client), client

    def users_of(keys: Keys, partition: int, ids: Sequence[bytes]) -> Any:
        return store.user_rows(keys.user_tag(partition), ids)

    def items_of(keys: Keys, partition: int, ids: Sequence[bytes]) -> Any:
        return store.item_rows(keys.item_tag(partition), ids)

    def entries_of(keys: Keys, partition: int, ids: Sequence[bytes]) -> Any:
        tag = keys.item_tag(partition)
        return redis.execute_command("HMGET", keys.catalogue(tag), *ids)

    return (
        Kind(
            "users",
            lambda keys: scan.users(client, keys),
            users_of,
            lambda declaration, blobs, at_ms: user_columns(Layout(declaration), blobs, at_ms),
            lambda declaration, blobs: last_ms(Layout(declaration), blobs),
        ),
        Kind(
            "items",
            lambda keys: scan.items(client, keys, item_partitions),
            items_of,
            lambda declaration, blobs, at_ms: item_columns(ItemLayout(declaration), blobs, at_ms),
            lambda declaration, blobs: last_ms(ItemLayout(declaration), blobs),
        ),
        Kind(
            "catalogue", lambda keys: scan.items(client, keys, item_partitions, Keys.catalogue), entries_of, None, None
        ),
    )


class Parity:
    """Compares namespaces `a` and `b`; `declarations` are those whose rows can be decoded, by schema number."""

    def __init__(
        self, client: Client, a: str, b: str, declarations: Mapping[int, Declaration], sample: Sample, wait_s: float
    ) -> None:
        self.client, self.sample, self.wait_s = client, sample, wait_s
        self.sides = Keys(a), Keys(b)
        self._declarations = declarations

    async def counts(self) -> tuple[int, int]:
        """Partitions of users and of items. Raises ParityError where the two sides cannot be compared."""
        found = []
        for keys in self.sides:
            counts = [await partitions_of(self.client, tag) for tag in (keys.user_tag(0), keys.item_tag(0))]
            if None in counts:
                text = (
                    f"Namespace {keys.namespace} is not initialised in this Redis: check the name and KAIROS_REDIS, or "
                    f"build it by `kairos replay --mode rebuild --into {keys.namespace} --execute`."
                )
                raise ParityError(text)
            found.append((counts[0] or 0, counts[1] or 0))
        if found[0] != found[1]:
            names = [f"{k.namespace} has {u} and {i}" for k, (u, i) in zip(self.sides, found, strict=True)]
            text = f"The namespaces differ in their partitions of users and items: {', '.join(names)}."
            raise ParityError(text)
        return found[0]

    async def fences(self) -> dict[str, tuple[int, int]]:
        """By topic that both read: how many records A has applied that B has not, and the other way round."""
        users, items = await self.counts()
        ahead: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for count, tag_of in ((users, "user_tag"), (items, "item_tag")):
            sides = [await scan.metas(self.client, [getattr(k, tag_of)(p) for p in range(count)]) for k in self.sides]
            for a, b in zip(*[[scan.fences(meta) for meta in side] for side in sides], strict=True):
                for topic in a.keys() & b.keys():
                    ahead[topic][0] += max(0, a[topic] - b[topic])
                    ahead[topic][1] += max(0, b[topic] - a[topic])
        return {topic: (some[0], some[1]) for topic, some in sorted(ahead.items())}

    async def compare(self, kind: Kind, bar: Bar) -> Tally:
        """Walk over both sides; rows that differ are looked at again for `wait_s`, then taken apart."""
        tally = Tally()
        apart = await self._unequal(kind, tally, bar)
        until_s = asyncio.get_running_loop().time() + self.wait_s
        while apart and asyncio.get_running_loop().time() < until_s:
            await asyncio.sleep(min(LOOK_AGAIN_S, self.wait_s))
            still: dict[int, list[bytes]] = {}
            async for partition, (ids, a, b) in self._read(kind, apart):
                still.setdefault(partition, []).extend(_unlike(ids, a, b))
            tally.equal += sum(map(len, apart.values())) - sum(map(len, still.values()))
            apart = {partition: ids for partition, ids in still.items() if ids}
        async for _, pairs in self._read(kind, apart):
            self._settle(kind, tally, pairs)
        return tally

    async def _unequal(self, kind: Kind, tally: Tally, bar: Bar) -> dict[int, list[bytes]]:
        """Ids of all rows whose bytes are not the same on both sides, by partition."""
        apart: dict[int, list[bytes]] = defaultdict(list)
        seen: set[bytes] = set()
        for keys in self.sides:
            async for batch in kind.walk(keys):
                for partition, ids in batch.items():
                    mine = [each for each in self.sample.take(ids) if each not in seen]
                    if not mine:
                        continue
                    mine = list(dict.fromkeys(mine))
                    seen.update(mine)
                    a, b = await self._both(kind, partition, mine)
                    unlike = _unlike(mine, a, b)
                    tally.compared += len(mine)
                    tally.equal += len(mine) - len(unlike)
                    apart[partition] += unlike
                bar.at(tally.compared, max(tally.compared, 1))
        return apart

    async def _both(self, kind: Kind, partition: int, ids: Sequence[bytes]) -> tuple[Blobs, Blobs]:
        a, b = await asyncio.gather(*[kind.read(keys, partition, ids) for keys in self.sides])
        return a, b

    async def _read(self, kind: Kind, apart: Mapping[int, list[bytes]]) -> AsyncIterator[tuple[int, Pairs]]:
        for partition, ids in apart.items():
            for start in range(0, len(ids), DECODED):
                some = ids[start : start + DECODED]
                yield partition, (some, *await self._both(kind, partition, some))

    def _settle(self, kind: Kind, tally: Tally, pairs: Pairs) -> None:
        """Say of each row what is wrong with it."""
        both: list[tuple[bytes, bytes, bytes]] = []
        for each, a, b in zip(*pairs, strict=True):
            if a == b:
                tally.equal += 1
            elif a is not None and b is not None:
                both.append((each, a, b))
            else:
                tally.missing += b is None
                tally.extra += a is None
                tally.example(each, {"only_in": self.sides[0 if b is None else 1].namespace})
        if not both:
            return
        ids, a_blobs, b_blobs = map(list, zip(*both, strict=True))
        if kind.columns is None or kind.last_ms is None:
            tally.different += len(ids)
            for each, a, b in both:
                tally.example(each, {"a": a.decode("utf-8", "replace"), "b": b.decode("utf-8", "replace")})
            return
        one, other = self._declared(0, a_blobs[0]), self._declared(1, b_blobs[0])
        at_ms = np.maximum(kind.last_ms(one, a_blobs), kind.last_ms(other, b_blobs))
        sides = kind.columns(one, a_blobs, at_ms), kind.columns(other, b_blobs, at_ms)
        tally.settle(ids, *sides, strict=one.schema == other.schema)

    def _declared(self, side: int, blob: bytes) -> Declaration:
        schema = int.from_bytes(blob[:4], "little")
        if schema not in self._declarations:
            text = (
                f"Rows of namespace {self.sides[side].namespace} have schema {schema}, and no declaration given here "
                "has it: name the features.toml they were built with by --features FILE (twice where there are two)."
            )
            raise ParityError(text)
        return self._declarations[schema]


def _unlike(ids: Sequence[bytes], a: Blobs, b: Blobs) -> list[bytes]:
    return [each for each, one, other in zip(ids, a, b, strict=True) if one != other]
