"""Doing what was planned: the run's topics and bases, then users, then the items that their deltas changed."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from rich.markup import escape

from streams.chunks.chunk import LogFacts
from streams.opened import Tables
from streams.replay.crew import Crew, crew
from streams.replay.ground import Ground
from streams.replay.job import CATALOGUE, FILE, FileJob, Job, Said, Side, added
from streams.replay.ranges import Range
from streams.replay.register import Run
from streams.replay.survey import survey
from streams.service.verb import GOOD, Telling

STOPPED = 130
CHUNK = 4_000


class Options(NamedTuple):
    """How a replay is carried out: processes, events a second (0 for no limit), and records a chunk."""

    processes: int = 1
    rate: float = 0
    chunk: int = CHUNK


class Execution:
    """One run being filled; what is done is kept, and the command `again` goes on where this one ends."""

    def __init__(self, ground: Ground, name: str, run: Run, options: Options, tell: Telling) -> None:
        self.again = f"kairos replay --into {name} --execute"
        self.ground, self.name, self.run, self.options, self.tell = ground, name, run, options, tell
        self.topics = ground.topics(name)
        self._said: list[Said] = []
        self._steps: list[dict[str, object]] = []

    async def fill(self, ranges: Sequence[Range], files: Sequence[FileJob], partitions: tuple[int, int]) -> int:
        """Fold ranges and files into the run; the exit code. Raises ReplayError."""
        await self.ground.create_topics(self.name, partitions, shadow=self.run.mode == "shadow")
        await self.ground.write_down(self.name, self.run)
        await self.ground.keep_erased_away(self.name, partitions[0])
        users = [r for r in ranges if r.topic not in self.topics.item_inputs]
        items = [r for r in ranges if r.topic in self.topics.item_inputs]
        items += _whole(await self._survey((self.topics.deltas,)))
        await self._initialise(users, items, files)
        began_s = time.monotonic()
        async with crew(self.options.processes) as made, heeding(made.stop):
            for file in (file for file in files if file.side == "users"):
                self._said.append(await self._do(made, self._job("users", [], partitions[1], file), file.topic))
            if users and not made.stopped:
                self._said.append(await self._do(made, self._job("users", users, partitions[1]), "events"))
                self._measure(self._said[-1])
            await self._list(made, [file for file in files if file.side == "items"], partitions[1])
            if not made.stopped:
                items = [r for r in items if r.topic != self.topics.deltas]
                items += _whole(await self._survey((self.topics.deltas,)))
                self._said.append(await self._do(made, self._job("items", items, partitions[1]), "items"))
        return await self._end(time.monotonic() - began_s)

    async def _list(self, made: Crew, files: Sequence[FileJob], items: int) -> None:
        """Fold the catalogues of files, before items.v1, which has the last word."""
        for file in files:
            if made.stopped:
                return
            said = await self._do(made, self._job("items", [], items, file), file.topic)
            self._said.append(said)
            if not said.stopped:
                self.run.files[FILE + file.topic.removeprefix(CATALOGUE)].listed = True
                await self.ground.write_down(self.name, self.run)

    def _job(self, side: Side, ranges: list[Range], items: int, file: FileJob | None = None) -> Job:
        return Job(
            side=side,
            run=self.name,
            mode=self.run.mode,
            ranges=ranges,
            chunk=self.options.chunk,
            rate=self.options.rate if side == "users" else 0,
            spans=self.run.spans,
            item_partitions=items,
            file=file,
            file_partitions=[*range(file.partitions)] if file else [],
        )

    async def _do(self, made: Crew, job: Job, what: str) -> Said:
        total = sum(r.records for r in job.ranges) + (job.file.records if job.file else 0)
        begun = await self.ground.settled(self.name, job.ranges)
        began_s = time.monotonic()
        with self.tell.progress(what, total, begun=begun) as bar:
            said = await made.do(job, bar.at)
        told = {name: said.counts.get(name, 0) for name in ("events", "work_ms", "cpu_ms")}
        self._steps.append(
            {"step": what, "records": said.done, "seconds": round(time.monotonic() - began_s, 3), **told}
        )
        return said

    async def _survey(self, names: Sequence[str]) -> list[LogFacts]:
        return await survey(self.ground.kafka, names, "read_committed")

    async def _initialise(self, users: Sequence[Range], items: Sequence[Range], files: Sequence[FileJob]) -> None:
        """Say where every log of the run begins; what was said before stays."""
        tables = Tables(self.ground.settings.within(self.name))
        try:
            await tables.users.check_server()
            for r in users:
                await tables.users.initialise(r.base)
            for file in files:
                table = tables.users if file.side == "users" else tables.items
                for partition in range(file.partitions):
                    await table.initialise(file.facts(partition))
            for r in items:
                await tables.items.initialise(r.base)
        finally:
            await tables.close()

    def _measure(self, said: Said) -> None:
        """Remember the speed of a process, unless it was held back or there was too little to tell."""
        events, work_ms = said.counts.get("events", 0), said.counts.get("work_ms", 0)
        if events >= 10_000 and work_ms and self.options.rate <= 0:
            self.run.rate_per_s = round(events / work_ms * 1000, 1)

    async def _end(self, seconds: float) -> int:
        counts = added([said.counts for said in self._said])
        events = counts.get("events", 0)
        self.tell.facts(run=self.name, counts=counts, steps=self._steps, seconds=round(seconds, 3))
        if any(said.stopped for said in self._said) or not self._said:
            self.tell.facts(stopped=True)
            self.tell.page(
                f"Stopped after {events:,} events; all of them are kept. To go on: [bold]{escape(self.again)}[/]"
            )
            return STOPPED
        self.run.finished_ms = time.time_ns() // 1_000_000
        await self.ground.write_down(self.name, self.run)
        self.tell.page(f"[green]✓[/] {events:,} events folded into {self.name} in {seconds:.1f} s")
        for line in _lines(counts):
            self.tell.page(f"  {line}")
        return GOOD


def _whole(facts: Sequence[LogFacts]) -> list[Range]:
    return [Range(f.topic, f.partition, f.log_start, f.log_end, *f[2:]) for f in facts]


def _lines(counts: dict[str, int]) -> list[str]:
    """What else became of records, in words."""
    groups: dict[str, list[str]] = {}
    for name, count in sorted(counts.items()):
        group, _, word = name.partition(".")
        if word and count:
            groups.setdefault(group, []).append(f"{word} {count:,}")
    titles = {
        "rejects": "would be dead letters",
        "results": "left out or converted",
        "late": "late",
        "catalogue": "catalogue",
        "item_rejects": "would be dead letters of items",
    }
    return [f"{title}: {', '.join(groups[group])}" for group, title in titles.items() if group in groups]


@asynccontextmanager
async def heeding(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Ctrl-C and SIGTERM call `stop` meanwhile; a second one ends the process as ever."""
    running = asyncio.get_running_loop()

    def told() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            running.remove_signal_handler(number)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, told)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            running.remove_signal_handler(number)
