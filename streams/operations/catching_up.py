"""How far a namespace is behind the log, and what brings it near the live tail: a worker's life inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.keys import Keys
from schemas.topics import Topics
from streams.admin import administering, describe, reading
from streams.service.kafka import client_options
from streams.service.redis import Client
from streams.settings import StreamSettings
from streams.tables import scan

SOON = 5_000
"""Records that workers apply in about a second: with no more than these to go, they may take over."""
LOOK_S = 0.5


class Tail:
    """The ends of the logs that one namespace is built from."""

    def __init__(self, client: Client, consumer: AIOKafkaConsumer, topics: Topics, keys: Keys) -> None:
        self._client, self._consumer, self._topics, self._keys = client, consumer, topics, keys
        self._counts: dict[str, int] = {}

    async def lag(self) -> int:
        """Records in the logs that the namespace has not applied, item deltas included."""
        parts = [TopicPartition(name, p) for name, count in self._counts.items() for p in range(count)]
        ends = await self._consumer.end_offsets(parts)
        behind = 0
        for names, tag_of in (
            (self._topics.user_inputs, self._keys.user_tag),
            (self._topics.item_inputs, self._keys.item_tag),
        ):
            count = self._counts[names[0]]
            metas = await scan.metas(self._client, [tag_of(p) for p in range(count)])
            for partition, fences in enumerate(map(scan.fences, metas)):
                behind += sum(max(0, ends[TopicPartition(n, partition)] - 1 - fences[n]) for n in names if n in fences)
        return behind


@asynccontextmanager
async def tail(client: Client, settings: StreamSettings) -> AsyncIterator[Tail]:
    """The tail of the namespace that the settings name. Raises KafkaError and OSError."""
    connections = settings.connections
    kafka, topics = client_options(connections), connections.topics
    names = [*topics.user_inputs, *topics.item_inputs]
    async with administering(kafka) as admin:
        known = await describe(admin, names)
    async with reading(kafka) as consumer:
        made = Tail(client, consumer, topics, connections.keys)
        made._counts = {name: facts.partitions for name, facts in known.items()}
        yield made


async def catch_up(
    settings: StreamSettings, far: Callable[[], Awaitable[int]], told: Callable[[int], Awaitable[None]]
) -> None:
    """Apply the log to the namespace that the settings name until `far` says at most SOON; `told` hears how far it is.

    Raises what ends a worker's life.
    """
    from streams.life import Life
    from streams.service.waiting import Waiting
    from streams.wiring import SIDES, Wiring

    life = Life(Wiring(settings, SIDES), Waiting(), lambda: 1)
    living = asyncio.create_task(life.live())
    try:
        while (left := await far()) > SOON:
            await told(left)
            done, _ = await asyncio.wait({living}, timeout=LOOK_S)
            if done:
                living.result()
    finally:
        await life.stop(living)
        await life.close()
