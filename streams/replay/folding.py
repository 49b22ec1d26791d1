"""The story of one job, inside a child process: read this file first.

where each range stands -> read -> chunks of a partition through the work, partitions beside each other -> what is kept

The work is the pipeline of the live worker over the run's own tables, so a job ends, or is killed, wherever it may:
the next one goes on from the fences.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from aiokafka import TopicPartition

from streams.chunks.chunk import Chunk
from streams.replay.job import Job
from streams.replay.lines import FileChunks
from streams.replay.ranges import Range
from streams.replay.reading import Stretch, unassigned
from streams.replay.work import Work
from streams.service.kafka import client_options
from streams.settings import FoldSettings
from streams.tables.errors import Rewind


class Pace:
    """Holds work back to so many records a second; 0 for no limit."""

    def __init__(self, rate: float) -> None:
        self._rate, self._next_s = rate, 0.0

    async def wait(self, records: int) -> None:
        """Return when so many records may be worked on."""
        if self._rate > 0:
            now_s = time.monotonic()
            self._next_s = max(self._next_s, now_s)
            until_s, self._next_s = self._next_s, self._next_s + records / self._rate
            await asyncio.sleep(until_s - now_s)


class Folding:
    """One job over its work; `behind` says at any moment how many records are settled. `stop` ends it soon."""

    def __init__(self, job: Job, settings: FoldSettings, work: Work) -> None:
        self.job, self.settings, self.work = job, settings, work
        self.stopped = False
        self._pace = Pace(job.rate)
        self._chunk = job.chunk if job.rate <= 0 else max(1, min(job.chunk, int(job.rate / 10)))
        self._stretches: list[Stretch] = []
        self._lines: FileChunks | None = None

    @property
    def behind(self) -> int:
        """Records that are settled, those of earlier tries included."""
        return sum(s.behind for s in self._stretches) + (self._lines.behind if self._lines else 0)

    def stop(self) -> None:
        """Begin no further chunk."""
        self.stopped = True

    async def run(self) -> None:
        """Work until everything is kept, or `stop`. Raises what the tables refuse, ReplayError, OutboxError."""
        if self.job.ranges:
            await self._run_ranges()
        if self.job.file is not None and not self.stopped:
            self._lines = FileChunks(self.job.file, self.job.file_partitions, self._chunk)
            await self._run_lines(self._lines)

    async def _run_ranges(self) -> None:
        ranges = sorted(self.job.ranges, key=lambda r: r.partition)
        kafka = client_options(self.settings.connections)
        async with unassigned(kafka, self.settings.isolation) as consumer:
            starts = [await self.work.start(_counted(r, self.job)) for r in ranges]
            consumer.assign([TopicPartition(r.topic, r.partition) for r in ranges])
            # In the same step as the assignment: without a position the fetcher would complain.
            self._stretches = [
                Stretch(consumer, list(mine), self._chunk) for _, mine in groupby(ranges, lambda r: r.partition)
            ]
            begin = {TopicPartition(r.topic, r.partition): at for r, at in zip(ranges, starts, strict=True)}
            for stretch in self._stretches:
                for place in stretch.ranges:
                    stretch.seek(place, begin[place])
            async with asyncio.TaskGroup() as tasks:
                for stretch in self._stretches:
                    tasks.create_task(self._run_stretch(stretch))

    async def _run_stretch(self, stretch: Stretch) -> None:
        while stretch.open and not self.stopped:
            for group in await stretch.groups():
                await self._apply(stretch, group)
            if not stretch.open:
                await self._look_back(stretch)

    async def _apply(self, stretch: Stretch, group: Sequence[Chunk]) -> None:
        await self._pace.wait(sum(len(chunk.records) for chunk in group))
        if self.stopped:
            return
        for chunk, verdict in zip(group, await self.work.process(group), strict=True):
            if isinstance(verdict, Rewind):
                stretch.seek(TopicPartition(chunk.topic, chunk.partition), verdict.offset)
            else:
                stretch.settle(chunk)

    async def _look_back(self, stretch: Stretch) -> None:
        """A Redis that failed over may have lost what it had acknowledged: read that again."""
        for place, read in [*stretch.read.items()]:
            kept = await self.work.kept(place.topic, place.partition)
            if kept < read:
                stretch.seek(place, kept + 1)

    async def _run_lines(self, lines: FileChunks) -> None:
        again = True
        while again:
            again = False
            for partition in lines.mine:
                lines.done[partition] = await self.work.start(lines.file.facts(partition)) - 1
            for chunks in lines.rounds():
                await self._pace.wait(sum(len(chunk.records) for chunk in chunks))
                if self.stopped:
                    return
                verdicts: list[Any] = await asyncio.gather(*[self.work.process([chunk]) for chunk in chunks])
                if again := any(isinstance(verdict, Rewind) for (verdict,) in verdicts):
                    break
                lines.settle(chunks)
            again = again or await self._lost(lines)

    async def _lost(self, lines: FileChunks) -> bool:
        """Whether Redis has lost what it had acknowledged of a file."""
        kept = [await self.work.kept(lines.file.topic, partition) < done for partition, done in lines.done.items()]
        return any(kept)


def _counted(r: Range, job: Job) -> Any:
    """A dry run has no fences: it begins where the range does."""
    return r.base if job.side == "count" else r.facts
