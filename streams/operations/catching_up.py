"""What brings a namespace near the live one before a promotion: what that one has applied is folded as by a replay.

No further than the live namespace has come: it has sent the dead letters of what it applied and queued the users, so
that here neither is done again, and what nobody has applied yet is left to the workers, which then do both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from streams.operations.between import ground
from streams.replay.folding import Folding
from streams.replay.job import Job
from streams.replay.ranges import Range
from streams.replay.work import Items, Users, Work
from streams.service.redis import Client
from streams.settings import FoldSettings

SOON = 5_000
"""Records that workers apply in about a second: with no more than these to go, they may take over."""
LOOK_S = 0.5

Tell = Callable[[int], Awaitable[None]]


class CatchingUp:
    """Folds into the namespace that the settings name what `live` has applied; `told` hears how much is left."""

    def __init__(self, client: Client, settings: FoldSettings, live: str, told: Tell) -> None:
        self.client, self.settings, self.live, self.told = client, settings, live, told
        self._item_partitions = 0

    async def run(self) -> None:
        """Return with at most SOON records to go, or when nothing moves any more: a log may end in what is no record.

        Raises ReplayError, OutboxError, what tables refuse, KafkaError and OSError.
        """
        before, (users, items) = -1, await self._lacking()
        while SOON < (left := sum(r.records for r in (*users, *items))) != before:
            before = left
            await self._fold("users", users, left)
            await self._fold("items", items, left - sum(r.records for r in users))
            users, items = await self._lacking()

    async def _lacking(self) -> tuple[list[Range], list[Range]]:
        """Ranges of users, and those of items with the deltas that folding the former has made."""
        seen = await ground(self.client, self.settings, self.live)
        self._item_partitions = next(fact.partitions for fact in seen.facts if fact.topic == seen.topics.deltas)
        shared = seen.one_lacks()
        users = [r for r in shared if r.topic in seen.topics.user_inputs]
        return users, [r for r in shared if r.topic in seen.topics.item_inputs] + seen.deltas()

    async def _fold(self, side: Literal["users", "items"], ranges: list[Range], left: int) -> None:
        if not ranges:
            return
        namespace, chunk = self.settings.connections.namespace, self.settings.chunk
        job = Job(side, namespace, "rebuild", ranges, chunk, item_partitions=self._item_partitions)
        work: Work = Users(job, self.settings) if side == "users" else Items(job, self.settings)
        folding = Folding(job, self.settings, work)
        try:
            await followed(folding, lambda: self.told(left - folding.behind))
        finally:
            await work.close()


async def followed(folding: Folding, told: Callable[[], Awaitable[None]]) -> None:
    """Run a folding to its end, and call `told` all the while. Raises the first thing that either raises."""
    working = asyncio.create_task(folding.run())
    try:
        while not (await asyncio.wait({working}, timeout=LOOK_S))[0]:
            await told()
        await working
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
