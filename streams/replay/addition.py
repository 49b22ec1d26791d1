"""One call of `kairos backfill`: files made ready, the plan, and with --execute their addition to a run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from streams.replay.execution import Execution, Options
from streams.replay.ground import Ground
from streams.replay.job import FileJob
from streams.replay.plan import Plan, measured
from streams.replay.ranges import Range, ReplayError, Times, ranges
from streams.replay.register import ALL, KeptFile, Run, of_ranges, refuse_target, stored
from streams.replay.sources import Prepared, prepare
from streams.replay.survey import survey
from streams.service.verb import GOOD, Telling


class Backfill:
    """One call of the verb."""

    def __init__(self, arguments: argparse.Namespace, ground: Ground, tell: Telling) -> None:
        self.arguments, self.ground, self.tell = arguments, ground, tell
        self.declaration = ground.tables.declaration
        until = arguments.until
        self.until_ms: int | None = until.ts_ms if until is not None else None

    async def run(self, folder: Path) -> int:
        """Look at the files, plan, and with --execute do it."""
        arguments, name = self.arguments, self.arguments.into
        target = await self.ground.target(name)
        refuse_target(target, target.run.mode if target.run else "rebuild", self.declaration.schema)
        partitions = await self.ground.live_partitions()
        run = target.run or Run("rebuild", time.time_ns() // 1_000_000, self.declaration.schema)
        files = [prepare(path, arguments.map, self.declaration, folder) for path in arguments.files]
        for file in files:
            add(name, run, file, self.until_ms)
        catalogue = await self._catalogue(name, run)
        jobs = [file.job(partitions[0]) for file in files]
        jobs += await self._told(name, run, files, catalogue, partitions[1])
        plan = Plan(
            mode=run.mode,
            run=name,
            ranges=catalogue,
            files=jobs,
            spans={file.topic: run.spans[file.topic] for file in files if file.topic in run.spans},
            processes=arguments.processes,
            rate=arguments.rate,
            measured_per_s=measured(self.ground.runs),
            notes=notes(files, listing=arguments.catalogue),
        )
        self.tell.plan(plan.plain(), plan.shown(), execute=arguments.execute)
        return GOOD if not arguments.execute else await self._execute(name, run, catalogue, jobs, partitions)

    async def _execute(
        self, name: str, run: Run, catalogue: list[Range], files: Sequence[FileJob], partitions: tuple[int, int]
    ) -> int:
        arguments = self.arguments
        options = Options(arguments.processes, arguments.rate, arguments.chunk or self.ground.settings.chunk)
        execution = Execution(self.ground, name, run, options, self.tell)
        more = f" --map {arguments.map}" if arguments.map else ""
        more += " --catalogue" if arguments.catalogue else ""
        more += f" --until {arguments.until.text}" if arguments.until else ""
        execution.again = f"kairos backfill {' '.join(map(str, arguments.files))} --into {name}{more} --execute"
        status = await execution.fill(catalogue, files, partitions)
        if status == GOOD:
            join = f"kairos replay --into {name} --from TIME --lead-in 0"
            self.tell.page(f"Join the log where the files end: [bold]{join}[/]")
        return status

    async def _told(
        self, name: str, run: Run, files: Sequence[Prepared], catalogue: Sequence[Range], partitions: int
    ) -> list[FileJob]:
        """The items of the files, where they are wanted. Raises FileError and ReplayError."""
        begun = await self.ground.settled(name, catalogue)
        wanted = []
        for file in files:
            job = file.catalogue(partitions) if self.arguments.catalogue else None
            add_catalogue(name, run.files[file.topic], job, begun)
            wanted += [job] if job else []
        return wanted

    async def _catalogue(self, name: str, run: Run) -> list[Range]:
        """The item topic, as far as the run has begun to read it or else to its present end."""
        topic = self.ground.topics(name).items
        facts = await survey(self.ground.kafka, (topic,), self.ground.settings.isolation)
        found = stored(run, ranges(facts, topic, None, None, Times({}, {})))
        run.asked.setdefault(topic, ALL)
        run.ranges |= of_ranges(found)
        return found


def notes(files: Sequence[Prepared], *, listing: bool) -> list[str]:
    """What became of the lines of the files, and the items that they tell where these are not wanted yet."""
    made = [f"{file.name}: {file.about}" for file in files if file.about]
    if not listing:
        made += [
            f"{file.name} tells {', '.join(file.told.fields)} of {file.told.items:,} items: with --catalogue they go "
            "into the catalogue of the run, in which items.v1 has the last word"
            for file in files
            if file.told is not None
        ]
    return made


def add(name: str, run: Run, file: Prepared, until_ms: int | None) -> None:
    """Note a file of a run. Raises ReplayError when it would count twice, or is not what it was."""
    had, span = run.files.get(file.topic), None if until_ms is None else (0, until_ms)
    if had is not None and had.id != file.surveyed.id:
        message = (
            f"Run {name} holds {had.name} with other content or by another mapping: give the file another name if it "
            "is another one, or choose another --into NAME."
        )
        raise ReplayError(message)
    twins = [other.name for topic, other in run.files.items() if topic != file.topic and other.id == file.surveyed.id]
    if twins:
        message = f"{file.name} holds the same events as {twins[0]}, which run {name} has: they would count twice."
        raise ReplayError(message)
    if had is not None and run.spans.get(file.topic) != span:
        message = f"Run {name} holds {had.name} up to another time: give the same --until, or another --into NAME."
        raise ReplayError(message)
    run.files[file.topic] = had or KeptFile(file.name, file.surveyed.id, file.surveyed.lines)
    run.whole = False
    if span is not None:
        run.spans[file.topic] = span


def add_catalogue(name: str, kept: KeptFile, job: FileJob | None, begun: int) -> None:
    """Note the items that a file tells, None where they are not wanted; `begun`: records of items.v1 that a run has.

    Raises ReplayError when they are not what they were, or come too late: items.v1 has the last word on an item.
    """
    if kept.catalogue and kept.catalogue != (job.id if job else ""):
        message = (
            f"Run {name} holds the catalogue of {kept.name}: give --catalogue and the same --map again, or choose "
            "another --into NAME."
        )
        raise ReplayError(message)
    if job is not None and not kept.listed and begun:
        message = (
            f"Run {name} has read items.v1 already, which must have the last word on what {kept.name} tells of items: "
            "give the files with --catalogue to a new run, all at once, or leave --catalogue out."
        )
        raise ReplayError(message)
    kept.catalogue = job.id if job else ""
