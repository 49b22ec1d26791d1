"""The audit of idle partitions: without it a Redis that went back stays behind until the next record comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, cast

from aiokafka.errors import KafkaError
from faust.types import TP

from streams.chunks.chunk import Chunk
from streams.chunks.consumer import ChunkConsumer
from streams.chunks.transport import ChunkedApp

AUDIT_EVERY_S, PASS_AFTER_S = 2.0, 20.0

logger = logging.getLogger(__name__)


class Fenced(Protocol):
    """The part of a table that the audit asks."""

    async def reload_fence(self, topic: str, partition: int) -> int: ...


class Suspicion(NamedTuple):
    """The fence was behind what had been drained, with nothing in flight."""

    epoch: int
    drained_to: int
    fence: int


class Audit:
    """Two strikes: a partition that looks behind twice in a row, unchanged, is read again from its fence.

    One strike would rewind falsely, for records may be between the two loops. And a fence that stands for a while
    below offsets without records moves over them by `pass_over`: once retention has taken the marker of a last
    transaction, its log would else seem to have lost what the rows need.
    """

    def __init__(
        self,
        app: ChunkedApp,
        table: Fenced,
        pass_over: Callable[[Chunk], Awaitable[object]],
        *,
        pass_after_s: float = PASS_AFTER_S,
    ) -> None:
        self.app, self.table, self.pass_over, self.pass_after_s = app, table, pass_over, pass_after_s
        self.rewinds = 0
        self._suspicions: dict[TP, Suspicion] = {}
        self._tails: dict[TP, tuple[Chunk, float]] = {}

    async def run(self) -> None:
        """Audit for ever. Trouble with Kafka is logged and looked at again; what the table refuses is raised."""
        while True:
            await asyncio.sleep(AUDIT_EVERY_S)
            if self.app._consumer is not None and not self.app.rebalancing:
                await self._audit(cast("ChunkConsumer", self.app._consumer))

    async def _audit(self, consumer: ChunkConsumer) -> None:
        for tp in consumer.assignment():
            if not consumer.flow_active:
                return
            try:
                await self.look(consumer, tp)
            except (KafkaError, TimeoutError) as error:
                logger.warning("The audit of %s[%d] failed and will be tried again: %s", tp.topic, tp.partition, error)

    async def look(self, consumer: ChunkConsumer, tp: TP) -> None:
        """Compare one partition; rewind it on the second strike."""
        epoch, drained_to = consumer.epoch(tp), consumer.drained_to(tp)
        if drained_to is None or consumer.in_flight(tp):
            return
        fence = await self.table.reload_fence(tp.topic, tp.partition)
        seen = Suspicion(epoch, drained_to, fence)
        before = self._suspicions.pop(tp, None)
        unchanged = consumer.epoch(tp) == epoch and consumer.drained_to(tp) == drained_to and not consumer.in_flight(tp)
        if fence >= drained_to and unchanged:
            await self._pass_over(consumer, tp, fence)
        if fence >= drained_to or not unchanged:
            return
        if before != seen:
            self._suspicions[tp] = seen
            return
        self.rewinds += 1
        logger.warning(
            "%s[%d] was read to %d but is applied to %d only: reading on from there again (Redis lost writes).",
            *(tp.topic, tp.partition, drained_to, fence),
        )
        await consumer.rewind(tp, fence + 1)

    async def _pass_over(self, consumer: ChunkConsumer, tp: TP, fence: int) -> None:
        """Move the fence over offsets that hold no record, when they have been the last ones for a while."""
        seen_s, before = time.monotonic(), self._tails.pop(tp, None)
        if consumer.log_state(tp).position - 1 <= fence:
            return
        tail = await consumer.empty_tail(tp)
        if tail is None or tail.prev > fence or tail.last <= fence or consumer.in_flight(tp):
            return
        if before is not None and before[0] == tail:
            if seen_s - before[1] >= self.pass_after_s:
                await self.pass_over(tail)
                return
            seen_s = before[1]
        self._tails[tp] = tail, seen_s
