"""The Faust agents: a chunk goes through its pipeline and is acknowledged when all its effects are kept."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from faust.types import TP

from streams.chunks.chunk import Chunk
from streams.chunks.consumer import ChunkConsumer
from streams.chunks.transport import ChunkedApp, RawSchema
from streams.tables.errors import Rewind
from streams.tables.part import Outcome

logger = logging.getLogger(__name__)


class Processor(Protocol):
    """What applies a chunk: the user pipeline or the item pipeline."""

    async def process(self, chunk: Chunk, stale: Callable[[], bool]) -> Outcome: ...


class ChunkAgent:
    """One actor a partition. No exception but the fatal ones leaves it; those end the process (CrashingSupervisor).

    `outcomes` counts chunks by what became of them; `applied_ms` is the record time of the newest applied record.
    """

    def __init__(self, app: ChunkedApp, topics: Sequence[str], processor: Processor, name: str) -> None:
        self.app, self.processor = app, processor
        self.outcomes: Counter[str] = Counter()
        self.applied_ms: dict[TP, int] = {}
        topic = app.topic(*topics, schema=RawSchema())
        app.agent(topic, name=name, isolated_partitions=True)(self._consume)

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            if await self.apply(cast("Chunk", event.value)):
                event.ack()

    async def apply(self, chunk: Chunk) -> bool:
        """Whether the chunk may be acknowledged; a stale or rewound one comes again and is not."""
        consumer, tp = cast("ChunkConsumer", self.app.consumer), TP(chunk.topic, chunk.partition)

        def stale() -> bool:
            return consumer.epoch(tp) != chunk.epoch

        if stale():
            self.outcomes["stale"] += 1
            return False
        try:
            outcome = await self.processor.process(chunk, stale)
        except Rewind as rewind:
            logger.warning("%s", rewind)
            self.outcomes["rewound"] += 1
            await consumer.rewind(tp, rewind.offset)
            return False
        self.outcomes[outcome.value] += 1
        self.applied_ms[tp] = chunk.records[-1].timestamp
        return outcome is not Outcome.STALE
