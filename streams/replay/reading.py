"""Reads ranges of the log outside any group: chunks of one partition, stamped as the live path stamps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streams.admin import reading
from streams.chunks.chunk import Chunk, Drained, cut
from streams.chunks.drain import drain
from streams.replay.ranges import Range, ReplayError

WAIT_S = 0.2
FETCH_BYTES = 1 << 20


@asynccontextmanager
async def unassigned(kafka: Mapping[str, Any], isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that reads nothing yet."""
    options = {"auto_offset_reset": "none", "fetch_max_wait_ms": 50, "max_partition_fetch_bytes": FETCH_BYTES}
    async with reading(kafka, isolation_level=isolation, **options) as consumer:
        yield consumer


class Stretch:
    """The ranges of one partition, of each of its topics one, from where each stands to its end.

    It is over when the reading has passed every end, be there a record or not: compaction and transaction markers
    leave tails that hold none. `read` is the last offset drained of each topic, `done` the last one settled.
    """

    def __init__(self, consumer: AIOKafkaConsumer, ranges: Sequence[Range], chunk: int) -> None:
        # Its topics go through together, and one step should not hold Redis up for longer than a chunk does.
        self.consumer, self.chunk = consumer, max(1, chunk // len(ranges))
        self.ranges = {TopicPartition(r.topic, r.partition): r for r in ranges}
        self.read: dict[TopicPartition, int] = {}
        self.done: dict[TopicPartition, int] = {}
        self.open: set[TopicPartition] = set()

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Read a topic from `offset` on; what is missing between it and the next chunk will show in `prev`."""
        self.read[place] = self.done[place] = offset - 1
        if offset < self.ranges[place].end:
            self.consumer.seek(place, offset)
            self.open.add(place)
        else:
            self.open.discard(place)

    async def groups(self) -> list[list[Chunk]]:
        """The next chunks, grouped as they can be applied together, one of each topic; none when none came in time."""
        try:
            found = await drain(self.consumer, self.open, WAIT_S)
        except OffsetOutOfRangeError as error:
            message = f"The log was cut while it was replayed ({error}): plan the replay anew."
            raise ReplayError(message) from error
        runs = [self._chunks(place, records) for place, records in found.items()]
        for place in [*self.open]:
            if await self.consumer.position(place) >= self.ranges[place].end:
                self.open.discard(place)
        return [[chunk for chunk in turn if chunk is not None] for turn in zip_longest(*runs)]

    def settle(self, chunk: Chunk) -> None:
        """A chunk is applied, or was before."""
        self.done[TopicPartition(chunk.topic, chunk.partition)] = chunk.last

    @property
    def behind(self) -> int:
        """Offsets that are settled; all of them once the stretch is over."""
        return sum(self._behind(place, r) for place, r in self.ranges.items())

    def _behind(self, place: TopicPartition, r: Range) -> int:
        done = self.done.get(place, r.first - 1)
        over = place in self.done and place not in self.open and done >= self.read[place]
        return r.records if over else min(max(done + 1 - r.first, 0), r.records)

    def _chunks(self, place: TopicPartition, records: Sequence[Any]) -> Sequence[Chunk]:
        end, prev = self.ranges[place].end, self.read[place]
        if records[-1].offset >= end:
            records = [record for record in records if record.offset < end]
        if not records:
            return ()
        self.read[place] = records[-1].offset
        return list(cut(place.topic, place.partition, Drained(0, prev, records), self.chunk))
