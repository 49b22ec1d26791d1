"""A partition whose log lost records that its rows need stops alone, and says so again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

from aiokafka.errors import KafkaError

from streams.chunks.consumer import ChunkConsumer
from streams.chunks.transport import ChunkedApp

LOOK_EVERY_S, SAY_EVERY_S = 1.0, 60.0

logger = logging.getLogger(__name__)


class Holes:
    """Looks at partitions whose log ended under the reader at once, and at those that are stopped every minute.

    One that may be read on after all, since it was mended or the broker had been mistaken, is read on.
    """

    def __init__(self, app: ChunkedApp, *, say_every_s: float = SAY_EVERY_S) -> None:
        self.app, self.say_every_s = app, say_every_s
        self._said_s = time.monotonic()

    async def run(self) -> None:
        """Look for ever. Trouble with Kafka is logged and looked at again; what the table refuses is raised."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.app._consumer is not None and not self.app.rebalancing:
                await self._look(cast("ChunkConsumer", self.app._consumer))

    async def _look(self, consumer: ChunkConsumer) -> None:
        wanted, now_s = consumer.cut_off(), time.monotonic()
        if now_s - self._said_s >= self.say_every_s:
            self._said_s = now_s
            wanted |= consumer.stopped.keys()
        if wanted and consumer.flow_active:
            try:
                await consumer.look_again(wanted)
            except (KafkaError, TimeoutError) as error:
                names = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in sorted(wanted))
                logger.warning("Where to read %s on cannot be told yet, it will be tried again: %s", names, error)
