"""One stream worker over memory: its tables and pipelines, and the loop that reads the topics to their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.keys import Keys
from schemas.topics import Topics
from streams.chunks.chunk import Chunk
from streams.features.columns import Encoder
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.item_pipeline import ItemPipeline
from streams.pipeline import Limits, Pipeline
from streams.tables.errors import Rewind
from streams.tables.fenced import FencedTable, TableOptions
from streams.tables.items import ItemTable
from streams.tables.memory import MemoryStore
from streams.tables.users import UserTable
from streams.tables.weather import Weather
from streams.testing.log import Delivery, Log, Reader
from streams.testing.steps import DeltaTopic, Letters, SteppedStore, Steps
from streams.testing.times import Clock

CACHE_BYTES = 1 << 20
ROUNDS_A_RECORD = 8


class Stuck(Exception):
    """A partition is read again and again and no end is reached."""

    def __init__(self, topic: str, partition: int, records: int) -> None:
        super().__init__(
            f"Partition {partition} of {topic} and its neighbours, with {records} records, is read over and over: its "
            "fence does not move on, or chunks are sent back for ever."
        )


@dataclass
class World:
    """What outlives a worker: topics, store, what was sent, the clock, and how records are handed over."""

    encoder: Encoder
    topics: Topics
    log: Log
    clock: Clock
    limits: Limits
    keys: Keys
    delivery: Delivery
    steps: Steps
    store: MemoryStore
    letters: Letters
    deltas: DeltaTopic


class Worker:
    """A process with tables of its own; `writer` is its name in their tokens, `delivery` may be its own too."""

    def __init__(self, world: World, writer: str, delivery: Delivery | None = None) -> None:
        self.world, self.delivery = world, delivery or world.delivery
        declaration, store = world.encoder.declaration, SteppedStore(world.store, world.steps)
        # The wait before a call is tried again is no virtual time: there is none.
        options: TableOptions = {"writer": writer, "weather": Weather(first_pause_s=0), "cache_bytes": CACHE_BYTES}
        self.users = UserTable(store, world.keys, Layout(declaration), **options)
        self.items = ItemTable(store, world.keys, ItemLayout(declaration), **options)
        self.pipeline = Pipeline(
            self.users,
            world.encoder,
            world.topics,
            world.letters,
            world.deltas,
            item_partitions=world.log.partitions[world.topics.deltas],
            now_ms=world.clock,
            limits=world.limits,
        )
        self.item_pipeline = ItemPipeline(
            self.items, world.topics, world.letters, max_value_bytes=world.limits.max_value_bytes
        )
        self._readers: dict[int, list[Reader]] = {}
        self._item_readers: dict[int, list[Reader]] = {}

    async def initialise(self) -> None:
        """What `kairos topics create` does to a store: the tables begin where the logs do."""
        log, topics = self.world.log, self.world.topics
        for table, names in ((self.users, topics.user_inputs), (self.items, topics.item_inputs)):
            for name in names:
                for partition in range(log.partitions[name]):
                    await table.initialise(log.facts(name, partition))

    async def drain(self, rounds: int | None = None) -> None:
        """Read all topics to their ends, or so many chunks of each: of users first, who fill one of the items' topics.

        Raises Stuck.
        """
        topics = self.world.topics
        await self._read(self.pipeline, self.users, topics.user_inputs, self._readers, rounds)
        await self._read(self.item_pipeline, self.items, topics.item_inputs, self._item_readers, rounds)

    async def _read(
        self,
        pipeline: Pipeline | ItemPipeline,
        table: FencedTable[Any],
        topics: Sequence[str],
        known: dict[int, list[Reader]],
        rounds: int | None,
    ) -> None:
        """Read topics that share their partitions; those with nothing in them are not touched."""
        log = self.world.log
        for partition in range(log.partitions[topics[0]]):
            if not any(log.records(topic, partition) for topic in topics):
                continue
            if partition not in known:
                known[partition] = [await self._reader(table, topic, partition) for topic in topics]
            await _audit(table, known[partition])
            records = sum(len(log.records(topic, partition)) for topic in topics)
            patience = ROUNDS_A_RECORD * (records + 1)
            for _ in range(patience if rounds is None else rounds):
                if not await self._round(pipeline, known[partition]):
                    break
            else:
                if rounds is None:
                    raise Stuck(topics[0], partition, records)

    async def _reader(self, table: FencedTable[Any], topic: str, partition: int) -> Reader:
        """The place where a table goes on."""
        log = self.world.log
        start = await table.start_position(log.facts(topic, partition))
        return Reader(log, topic, partition, self.delivery, start)

    async def _round(self, pipeline: Pipeline | ItemPipeline, readers: Sequence[Reader]) -> bool:
        """Hand over the next chunk of each topic of a partition; whether there was any."""
        group = {reader.topic: (reader, chunk) for reader in readers if (chunk := reader.next())}
        together = [[chunk for _, chunk in group.values()]] if self.delivery.together else []
        for chunks in together or [[chunk] for _, chunk in group.values()]:
            for _ in range(self.delivery.times):
                for chunk, verdict in zip(chunks, await pipeline.process(chunks), strict=True) if chunks else ():
                    _obey(verdict, group[chunk.topic][0], chunk)
        return bool(group)


async def _audit(table: FencedTable[Any], readers: Sequence[Reader]) -> None:
    """Go back where the store has, as the worker's own audit of idle partitions does."""
    for reader in readers:
        fence = await table.reload_fence(reader.topic, reader.partition)
        if fence + 1 < reader.position:
            reader.seek(fence + 1)


def _obey(verdict: object, reader: Reader, chunk: Chunk) -> None:
    if isinstance(verdict, Rewind):
        reader.seek(verdict.offset)
    else:
        reader.seek(max(reader.position, chunk.last + 1))
