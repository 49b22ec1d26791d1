"""What a worker waits for before it starts, readable on /ready: Kafka, Redis, a clock, topics, first offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from streams.admin import administering, describe
from streams.service.entry import entering
from streams.service.kafka import client_options
from streams.service.waiting import Waiting
from streams.tables.errors import NotInitialised
from streams.wiring import Wiring

KAFKA_ANSWERS_WITHIN_S = 10.0
INITIALISED_WITHIN_S = 15.0
KAFKA_TROUBLE = (KafkaError, OSError, TimeoutError)


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
        address = self._connections.kafka
        await self.waiting.until(f"Kafka at {address} (KAIROS_KAFKA)", self._reach_kafka, KAFKA_TROUBLE)
        await self._reach_redis()
        await self.waiting.until("the clock", self._compare_clocks, (OSError,))
        return await self._find_topics()

    async def _reach_kafka(self) -> None:
        async with entering(self._connections), asyncio.timeout(KAFKA_ANSWERS_WITHIN_S), administering(self._kafka):
            pass

    async def _reach_redis(self) -> None:
        """The table rides out trouble by itself; its words are shown meanwhile."""
        table, name = self.wiring.tables.users, "Redis (KAIROS_REDIS)"
        asked = asyncio.create_task(table.check_server())
        try:
            while not (await asyncio.wait({asked}, timeout=0.2))[0]:
                if table.weather.trouble:
                    self.waiting.on(name, table.weather.trouble)
        finally:
            asked.cancel()
        await asked
        self.waiting.over(name)

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
