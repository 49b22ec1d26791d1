"""What brings a namespace near the live one before a promotion: what that one has applied is folded as by a replay.

No further than the live namespace has come: it has sent the dead letters of what it applied and queued the users, so
that here neither is done again, and what nobody has applied yet is left to the workers, which then do both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

from schemas.keys import Keys
from streams.chunks.chunk import LogFacts
from streams.replay.folding import Folding
from streams.replay.job import Job
from streams.replay.ranges import Range
from streams.replay.survey import survey
from streams.replay.work import Items, Users
from streams.service.kafka import client_options
from streams.service.redis import Client
from streams.settings import StreamSettings
from streams.tables import survey as tables

SOON = 5_000
"""Records that workers apply in about a second: with no more than these to go, they may take over."""
LOOK_S = 0.5

Tell = Callable[[int], Awaitable[None]]
Metas = Mapping[bool, Sequence[tables.Meta]]
"""Meta hashes of the partitions of users (False) and items (True)."""


class CatchingUp:
    """Folds into the namespace that the settings name what `live` has applied; `told` hears how much is left."""

    def __init__(self, client: Client, settings: StreamSettings, live: str, told: Tell) -> None:
        self.client, self.settings, self.live, self.told = client, settings, Keys(live), told
        self.topics, self.keys = settings.connections.topics, settings.connections.keys
        self._items = 0

    async def run(self) -> None:
        """Return with at most SOON records to go, or when nothing moves any more: a log may end in what is no record.

        Raises ReplayError, OutboxError, what tables refuse, KafkaError and OSError.
        """
        before, ranges = -1, await self._ranges()
        while SOON < (left := sum(r.records for r in ranges)) != before:
            before = left
            users = [r for r in ranges if r.topic in self.topics.user_inputs]
            await self._fold("users", users, left)
            items = [r for r in ranges if r.topic in self.topics.item_inputs]
            await self._fold("items", items, left - sum(r.records for r in users))
            ranges = await self._ranges()

    async def _fold(self, side: Literal["users", "items"], ranges: list[Range], left: int) -> None:
        if not ranges:
            return
        job = Job(side, self.keys.namespace, "rebuild", ranges, self.settings.chunk, item_partitions=self._items)
        work = Users(job, self.settings) if side == "users" else Items(job, self.settings)
        folding = Folding(job, self.settings, work)
        working = asyncio.create_task(folding.run())
        try:
            while not (await asyncio.wait({working}, timeout=LOOK_S))[0]:
                await self.told(left - folding.behind)
            await working
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await work.close()

    async def _ranges(self) -> list[Range]:
        """What is to be folded: up to where the live namespace has come, and all deltas of our own."""
        inputs = (*self.topics.user_inputs, *self.topics.item_inputs)
        facts = await survey(client_options(self.settings.connections), inputs, self.settings.isolation)
        self._items = next(fact.partitions for fact in facts if fact.topic == self.topics.deltas)
        mine, theirs = await self._metas(self.keys, facts), await self._metas(self.live, facts)
        found = [self._range(fact, mine, theirs) for fact in facts]
        return [r for r in found if r is not None and r.records > 0]

    async def _metas(self, keys: Keys, facts: Sequence[LogFacts]) -> Metas:
        counts = {fact.topic in self.topics.item_inputs: fact.partitions for fact in facts}
        tags = {False: keys.user_tag, True: keys.item_tag}
        return {items: await tables.metas(self.client, [*map(tags[items], range(n))]) for items, n in counts.items()}

    def _range(self, fact: LogFacts, mine: Metas, theirs: Metas) -> Range | None:
        items = fact.topic in self.topics.item_inputs
        own, live = mine[items][fact.partition], theirs[items][fact.partition]
        if (fence := tables.fence(own, fact.topic)) is None:
            return None
        end = fact.log_end
        if fact.topic != self.topics.deltas:
            same = tables.topic_id(own, fact.topic) == tables.topic_id(live, fact.topic)
            applied = tables.fence(live, fact.topic) if same else None
            end = min(end, fence + 1 if applied is None else applied + 1)
        return Range(fact.topic, fact.partition, fence + 1, max(end, fence + 1), *fact[2:])


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
