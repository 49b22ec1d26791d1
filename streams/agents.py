"""The Faust agents: a chunk goes through its pipeline and is acknowledged when all its effects are kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from faust.types import TP

from streams.chunks.chunk import Chunk
from streams.chunks.consumer import ChunkConsumer
from streams.chunks.transport import ChunkedApp, RawSchema
from streams.grouping import Group
from streams.tables.attempt import Verdict
from streams.tables.errors import Rewind
from streams.tables.part import Chunk as TableChunk
from streams.tables.part import Outcome

logger = logging.getLogger(__name__)


class Processor(Protocol):
    """What applies chunks of one partition together: the user pipeline or the item pipeline."""

    async def process(self, chunks: Sequence[TableChunk], stale: Callable[[TableChunk], bool]) -> Sequence[Verdict]: ...


class ChunkAgent:
    """One actor a topic and partition; the actors of a partition apply what they hold at the same time together.

    No exception but the fatal ones leaves it; those end the process (CrashingSupervisor).
    `outcomes` counts chunks by what became of them; `applied_ms` is Kafka's time of the newest record
    that needs no more work.
    """

    def __init__(self, app: ChunkedApp, topics: Sequence[str], processor: Processor, name: str) -> None:
        self.app, self.processor = app, processor
        self.outcomes: Counter[str] = Counter()
        self.applied_ms: dict[TP, int] = {}
        self._groups: dict[int, Group[Chunk]] = {}
        topic = app.topic(*topics, schema=RawSchema())
        app.agent(topic, name=name, isolated_partitions=True)(self._consume)

    async def _consume(self, stream: Any) -> None:
        # Who cancels an actor wants it to end: its partition was taken away, or the app stops. Its chunk comes again,
        # but Faust would take an actor that is cancelled in the middle of one for a crash of the whole worker.
        with contextlib.suppress(asyncio.CancelledError):
            async for event in stream.noack().events():
                if await self.apply(cast("Chunk", event.value)):
                    event.ack()

    async def apply(self, chunk: Chunk) -> bool:
        """Whether the chunk may be acknowledged; a stale or rewound one comes again and is not."""
        tp = TP(chunk.topic, chunk.partition)
        if self._stale(chunk):
            self.outcomes["stale"] += 1
            return False
        group = self._groups.get(chunk.partition)
        if group is None:
            group = self._groups[chunk.partition] = Group(lambda chunks: self.processor.process(chunks, self._stale))
        verdict = await group.join(chunk)
        if isinstance(verdict, Rewind):
            logger.warning("%s", verdict)
            self.outcomes["rewound"] += 1
            await self._consumer.rewind(tp, verdict.offset)
            return False
        self.outcomes[verdict.value] += 1
        if verdict is Outcome.STALE:
            return False
        self.applied_ms[tp] = chunk.records[-1].timestamp
        return True

    async def pass_over(self, chunk: Chunk) -> None:
        """Move the fence over a chunk without records. Not in a group, which holds one chunk of a topic at most."""
        await self.processor.process([chunk], self._stale)

    @property
    def _consumer(self) -> ChunkConsumer:
        return cast("ChunkConsumer", self.app.consumer)

    def _stale(self, chunk: Any) -> bool:
        """Whether the partition of a chunk was sought since it was drained."""
        return bool(self._consumer.epoch(TP(chunk.topic, chunk.partition)) != chunk.epoch)
