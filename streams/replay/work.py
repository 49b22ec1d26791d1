"""What a job does with chunks: fold them into a side of the run, or count what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.topics import Topics
from streams.chunks.chunk import Chunk, LogFacts
from streams.features.calendar import Calendar
from streams.features.columns import Encoder
from streams.item_pipeline import ItemPipeline
from streams.opened import Tables
from streams.pipeline import Limits, Pipeline, Rejected
from streams.replay.job import Job
from streams.service.clock import Clock
from streams.service.outbox import Outbox
from streams.settings import FoldSettings
from streams.sinks import DeltaSink
from streams.tables.attempt import Verdict
from streams.tables.items import ItemTable
from streams.tables.users import UserTable
from streams.topic_plan import LARGEST_RECORD_BYTES


class Work(Protocol):
    """Takes the chunks of a job."""

    async def start(self, facts: LogFacts) -> int:
        """The offset to read a topic's partition from."""

    async def process(self, chunks: Sequence[Chunk]) -> Sequence[Verdict]:
        """What became of chunks of one partition, each of another topic."""

    async def kept(self, topic: str, partition: int) -> int:
        """The last offset that is safely behind the work."""

    def counts(self) -> dict[str, int]:
        """What the records came to, by name."""

    async def close(self) -> None:
        """Close connections."""


class NoDeadLetters:
    """A replay sends no dead letters again: they are in their topic since the first time. The pipeline counts them."""

    async def send(self, letters: Sequence[Rejected]) -> None:
        """Nothing."""


class _Folding:
    """A side of a run: its table and the pipeline that fills it."""

    table: UserTable | ItemTable
    pipeline: Pipeline | ItemPipeline

    def __init__(self, job: Job, settings: FoldSettings) -> None:
        self.tables = Tables(settings, cache_bytes=settings.cache_mib << 20, queueing=job.mode == "shadow")
        self.topics: Topics = settings.connections.topics

    async def start(self, facts: LogFacts) -> int:
        return await self.table.start_position(facts)

    async def process(self, chunks: Sequence[Chunk]) -> Sequence[Verdict]:
        return await self.pipeline.process(chunks)

    async def kept(self, topic: str, partition: int) -> int:
        return await self.table.reload_fence(topic, partition)

    async def close(self) -> None:
        await self.tables.close()


class Users(_Folding):
    """Events into rows of users; their item deltas go to the run's own topic, and to no other."""

    table: UserTable
    pipeline: Pipeline

    def __init__(self, job: Job, settings: FoldSettings) -> None:
        super().__init__(job, settings)
        self.table = self.tables.users
        self.outbox = Outbox(settings.connections, largest_record_bytes=LARGEST_RECORD_BYTES)
        self.pipeline = Pipeline(
            self.table,
            Encoder(self.tables.declaration, Calendar(settings.zone)),
            self.topics,
            NoDeadLetters(),
            DeltaSink(self.outbox, self.topics.deltas),
            item_partitions=job.item_partitions,
            now_ms=Clock(),
            limits=limits(settings, job.spans),
        )

    def counts(self) -> dict[str, int]:
        stats = self.pipeline.stats
        told = {
            "events": stats.events,
            "delta_records": stats.delta_records,
            "rows_written": self.table.stats.rows_written,
        }
        return {
            **told,
            **named("rejects", stats.rejects),
            **named("results", stats.results),
            **named("late", self.table.late),
        }

    async def close(self) -> None:
        await self.outbox.stop()
        await super().close()


class Items(_Folding):
    """The catalogue and the run's own deltas into rows of items."""

    table: ItemTable
    pipeline: ItemPipeline

    def __init__(self, job: Job, settings: FoldSettings) -> None:
        super().__init__(job, settings)
        self.table = self.tables.items
        self.pipeline = ItemPipeline(self.table, self.topics, NoDeadLetters(), max_value_bytes=settings.max_value_bytes)

    def counts(self) -> dict[str, int]:
        stats = self.pipeline.stats
        told = {**named("catalogue", stats.catalogue), **named("deltas", self.table.deltas)}
        return told | named("item_rejects", stats.rejects)


def limits(settings: FoldSettings, spans: Mapping[str, tuple[int, int]]) -> Limits:
    """What live leaves out, and the stretches of event time that count; of a re-driven record the original alone."""
    return Limits(
        settings.max_skew_s * 1000,
        settings.horizon_days * 86_400_000,
        settings.max_value_bytes,
        originals_only=True,
        spans=dict(spans),
    )


def named(name: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Counts under "name.word"."""
    return {f"{name}.{word}": count for word, count in Counter(counts).items() if count}
