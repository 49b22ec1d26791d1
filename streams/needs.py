"""What a worker waits for before it starts, readable on /ready: Kafka, Redis, a clock, topics, first offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from streams.admin import administering, describe
from streams.service.entry import entering
from streams.service.kafka import client_options
from streams.service.settings import Connections
from streams.service.waiting import Waiting
from streams.tables.errors import NotInitialised
from streams.tables.weather import Weather
from streams.wiring import Wiring

T = TypeVar("T")

KAFKA_ANSWERS_WITHIN_S = 10.0
INITIALISED_WITHIN_S = 15.0
KAFKA_TROUBLE = (KafkaError, OSError, TimeoutError)


async def reach_kafka(connections: Connections, waiting: Waiting) -> None:
    """Return once the brokers answer."""
    options = client_options(connections)

    async def attempt() -> None:
        async with entering(connections), asyncio.timeout(KAFKA_ANSWERS_WITHIN_S), administering(options):
            pass

    await waiting.until(f"Kafka at {connections.kafka} (KAIROS_KAFKA)", attempt, KAFKA_TROUBLE)


async def reach_redis(weather: Weather, waiting: Waiting, asking: Coroutine[Any, Any, T]) -> T:
    """What Redis answers, by a call that rides out trouble by itself; its words are shown meanwhile."""
    asked, name = asyncio.create_task(asking), "Redis (KAIROS_REDIS)"
    try:
        while not (await asyncio.wait({asked}, timeout=0.2))[0]:
            if weather.trouble:
                waiting.on(name, weather.trouble)
            else:
                waiting.over(name)
    finally:
        asked.cancel()
    waiting.over(name)
    return await asked


class TopicsMissingError(Exception):
    """Topics that the worker reads or writes are not there yet."""


class Needs:
    """Waits with back-off for as long as it takes; raises only what no waiting can mend."""

    def __init__(self, wiring: Wiring, waiting: Waiting) -> None:
        self.wiring, self.waiting = wiring, waiting
        self._connections = wiring.settings.connections
        self._kafka = client_options(self._connections)

    async def arrive(self) -> Mapping[str, int]:
        """Partition counts of all topics, once everything is there; raises Refused and Broken."""
        await reach_kafka(self._connections, self.waiting)
        table = self.wiring.tables.users
        await reach_redis(table.weather, self.waiting, table.check_server())
        await self.waiting.until("the clock", self._compare_clocks, (OSError,))
        return await self._find_topics()

    async def _compare_clocks(self) -> None:
        table, tables = self.wiring.tables.users, self.wiring.tables
        await self.wiring.clock.compare(lambda: table.weather.ride("asking the time", tables.time))

    async def _find_topics(self) -> Mapping[str, int]:
        topics = self.wiring.topics
        wanted = {*self.wiring.inputs, topics.deltas, topics.dead_letters}
        waited = False

        async def attempt() -> dict[str, int]:
            nonlocal waited
            async with entering(self._connections), administering(self._kafka) as admin:
                known = await describe(admin, sorted(wanted))
            if absent := sorted(wanted - known.keys()):
                waited = True
                message = f"{', '.join(absent)} not in Kafka yet, run `kairos topics create`"
                raise TopicsMissingError(message)
            return {name: facts.partitions for name, facts in known.items()}

        found = await self.waiting.until("topics", attempt, (TopicsMissingError, *KAFKA_TROUBLE))
        if waited:
            await self._find_offsets()
        return found

    async def _find_offsets(self) -> None:
        """Topics that came up just now are initialised a moment later; a start refuses what is not even then."""
        tables = self.wiring.tables.of_topics(self.wiring.topics)

        async def attempt() -> None:
            for topic in self.wiring.inputs:
                await tables[topic].reload_fence(topic, 0)

        try:
            async with asyncio.timeout(INITIALISED_WITHIN_S):
                await self.waiting.until("first offsets", attempt, (NotInitialised,), 1.0)
        except TimeoutError:
            self.waiting.over("first offsets")
