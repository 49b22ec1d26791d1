"""Removing a user from every namespace of an installation, with a tombstone that keeps the user away from then on.

Each namespace takes one atomic step, so a kill leaves some of them done and the others untouched: run it again. The
live one is first, and the others are looked for after it: a run that is registered meanwhile copies its tombstone.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.faults import YEAR_2100_MS
from schemas.partition import partition_of
from streams.features.blobs import UnreadableError
from streams.features.rows import Layout
from streams.operations.people import Place, places
from streams.service.redis import Client
from streams.tables.erased import new_ver
from streams.tables.look import Looked, look
from streams.tables.redis_store import RedisStore
from streams.tables.store import Erasure, Removed, Store

FOR_EVER_MS = YEAR_2100_MS
"""No event is later than this: whose tombstone says so stays away for good."""


class Traces(NamedTuple):
    """What is kept of a user in one namespace; None in one that is not initialised."""

    place: Place
    looked: Looked | None

    @property
    def anything(self) -> bool:
        """Whether there is more than a tombstone."""
        seen = self.looked
        return seen is not None and bool(
            seen.row or seen.pushes or seen.shadow_pushes or seen.queued is not None or seen.leased is not None
        )

    @property
    def erased_ms(self) -> int | None:
        """The tombstone that lies there."""
        return None if self.looked is None else self.looked.erased_ms


async def find(client: Client, installation: str, user: str) -> list[Traces]:
    """What is kept of a user in each namespace."""
    return [
        Traces(place, None if place.partitions is None else await look(client, place.keys, user, place.partitions))
        for place in await places(client, installation)
    ]


class Eraser:
    """Erases one user up to `until_ms`, or the newest event that a row knows of where a clock runs ahead."""

    def __init__(self, client: Client, layout: Layout, installation: str, user: str, until_ms: int) -> None:
        self.client, self.layout, self.installation, self.user = client, layout, installation, user
        self.until_ms = until_ms
        self.removed: dict[str, Removed] = {}

    async def run(self) -> None:
        """Erase everywhere; the same time counts in all namespaces, so that a rebuild equals the live rows."""
        told_ms = -1
        while told_ms != self.until_ms:
            told_ms = self.until_ms
            live = (await places(self.client, self.installation))[0]
            await self._erase(live)
            for place in await places(self.client, self.installation):
                if place.name != live.name:
                    await self._erase(place)

    async def _erase(self, place: Place) -> None:
        if place.partitions is None:
            return
        name = self.user.encode()
        tag = place.keys.user_tag(partition_of(name, place.partitions))
        removed, self.until_ms = await erase(RedisStore(self.client), self.layout, tag, name, self.until_ms)
        before = self.removed.get(place.name)
        self.removed[place.name] = removed if before is None else _both(before, removed)


async def erase(store: Store, layout: Layout, tag: bytes, user: bytes, until_ms: int) -> tuple[Removed, int]:
    """Remove a user under one tag; what there was, and up to when events are left out: at least those in the row."""
    while True:
        (row,) = await store.user_rows(tag, [user])
        until_ms = max(until_ms, newest_ms(layout, row))
        removed = await store.erase(tag, Erasure(user, until_ms, new_ver(), row))
        if removed is not None:
            return removed, until_ms


def newest_ms(layout: Layout, row: bytes | None) -> int:
    """Time of the newest event in a stored row, 0 where there is none or another declaration made the row."""
    try:
        return int(layout.unpack([row])["last_ms"][0]) if row else 0
    except UnreadableError:
        return 0


def _both(first: Removed, second: Removed) -> Removed:
    return Removed(
        max(first.row_bytes, second.row_bytes),
        first.pushes or second.pushes,
        first.queued or second.queued,
        first.leased or second.leased,
        first.erased_ms,
    )
