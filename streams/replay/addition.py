"""One call of `kairos backfill`: files made ready, the plan, and with --execute their addition to a run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from streams.operations.verb import GOOD, Telling
from streams.replay.execution import Execution, Options
from streams.replay.ground import Ground
from streams.replay.plan import Plan, measured
from streams.replay.ranges import Range, ReplayError, Times, ranges
from streams.replay.register import ALL, KeptFile, Run, of_ranges, refuse_target, stored
from streams.replay.sources import Prepared, prepare
from streams.replay.survey import survey


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
        plan = Plan(
            mode=run.mode,
            run=name,
            ranges=catalogue,
            files=[file.job(partitions[0]) for file in files],
            spans={file.topic: run.spans[file.topic] for file in files if file.topic in run.spans},
            processes=arguments.processes,
            rate=arguments.rate,
            measured_per_s=measured(self.ground.runs),
            notes=[f"{file.name}: {file.about}" for file in files if file.about],
        )
        self.tell.plan(plan.plain(), plan.shown(), execute=arguments.execute)
        return GOOD if not arguments.execute else await self._execute(name, run, catalogue, files, partitions)

    async def _execute(
        self, name: str, run: Run, catalogue: list[Range], files: Sequence[Prepared], partitions: tuple[int, int]
    ) -> int:
        arguments = self.arguments
        options = Options(arguments.processes, arguments.rate, arguments.chunk)
        execution = Execution(self.ground, name, run, options, self.tell)
        more = f" --map {arguments.map}" if arguments.map else ""
        more += f" --until {arguments.until.text}" if arguments.until else ""
        execution.again = f"kairos backfill {' '.join(map(str, arguments.files))} --into {name}{more} --execute"
        status = await execution.fill(catalogue, [file.job(partitions[0]) for file in files], partitions)
        if status == GOOD:
            join = f"kairos replay --into {name} --from TIME --lead-in 0"
            self.tell.page(f"Join the log where the files end: [bold]{join}[/]")
        return status

    async def _catalogue(self, name: str, run: Run) -> list[Range]:
        """The item topic, as far as the run has begun to read it or else to its present end."""
        topic = self.ground.topics(name).items
        facts = await survey(self.ground.kafka, (topic,), self.ground.settings.isolation)
        found = stored(run, ranges(facts, topic, None, None, Times({}, {})))
        run.asked.setdefault(topic, ALL)
        run.ranges |= of_ranges(found)
        return found


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
    run.files[file.topic] = KeptFile(file.name, file.surveyed.id, file.surveyed.lines)
    run.whole = False
    if span is not None:
        run.spans[file.topic] = span
