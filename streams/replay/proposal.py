"""One call of `kairos replay`: what is asked for against what is there, the plan, and with --execute its execution."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from streams.replay.crew import crew
from streams.replay.execution import Execution, Options, heeding
from streams.replay.ground import Ground
from streams.replay.job import Job, Mode
from streams.replay.plan import Plan, measured, whole_of
from streams.replay.ranges import Range, chosen, looked_up, ranges, span_of
from streams.replay.register import ALL, Asked, Run, goes_on, of_ranges, refuse_target, stored
from streams.replay.report import shown
from streams.replay.survey import survey, times
from streams.replay.work import limits
from streams.service.verb import GOOD, Telling


class Replay:
    """One call of the verb."""

    def __init__(self, arguments: argparse.Namespace, ground: Ground, tell: Telling) -> None:
        self.arguments, self.ground, self.tell = arguments, ground, tell
        self.declaration = ground.tables.declaration
        self.lead_in_ms = max(window.length_ms for window in self.declaration.windows)
        if arguments.lead_in is not None:
            self.lead_in_ms = arguments.lead_in
        self.limits = limits(ground.settings, {})

    async def run(self) -> int:
        """Plan, and with --execute do it."""
        arguments, name = self.arguments, self.arguments.into or ""
        if arguments.mode == "dry-run":
            return await self._dry_run()
        if not name:
            self.tell.complain("Say which run to fill: --into NAME, a namespace of its own beside the live one.")
            return 2
        target = await self.ground.target(name)
        mode = arguments.mode or (target.run.mode if target.run else "rebuild")
        refuse_target(target, mode, self.declaration.schema)
        run = target.run or self._new(mode)
        ranges = await self._ranges(name, run)
        partitions = await self.ground.live_partitions()
        await self._judge(run, partitions)
        settled = await self.ground.settled(name, ranges) if target.run else 0
        plan = self._plan(mode, name, ranges, run.spans, settled, whole=run.whole)
        self.tell.plan(plan.plain(), plan.shown(), execute=arguments.execute)
        if not arguments.execute:
            return GOOD
        return await self._execute(name, run, ranges, partitions)

    async def _execute(self, name: str, run: Run, ranges: Sequence[Range], partitions: tuple[int, int]) -> int:
        status = await Execution(self.ground, name, run, self._options(), self.tell).fill(ranges, [], partitions)
        if status == GOOD and run.mode == "shadow":
            self.tell.page(f"Score it, beside the live model: [bold]kairos model --shadow {name} --drain[/]")
        elif status == GOOD:
            self.tell.page(f"Let it follow the live log: [bold]kairos worker --into {name}[/]")
        return status

    async def _dry_run(self) -> int:
        ranges, spans = await self._find(self.ground.installation, None)
        plan = self._plan("dry-run", "", ranges, spans, 0, whole=True)
        self.tell.plan(plan.plain(), plan.shown(), execute=self.arguments.execute)
        if not self.arguments.execute:
            return GOOD
        options = self._options()
        job = Job("count", self.ground.installation, "dry-run", list(ranges), options.chunk, options.rate, spans)
        began_s = time.monotonic()
        async with crew(options.processes) as made, heeding(made.stop):
            with self.tell.progress("reading", plan.records) as bar:
                said = await made.do(job, bar.at)
        seconds = time.monotonic() - began_s
        self.tell.facts(counts=said.counts, seconds=round(seconds, 3))
        self.tell.page(shown(said.counts, seconds))
        return 130 if said.stopped else GOOD

    def _new(self, mode: str) -> Run:
        now_ms = time.time_ns() // 1_000_000
        return Run("shadow" if mode == "shadow" else "rebuild", now_ms, self.declaration.schema)

    @property
    def _asked(self) -> Asked | None:
        """What was typed about the range, None where nothing was."""
        start, end = self.arguments.start, self.arguments.end
        if start is None and end is None and self.arguments.lead_in is None:
            return None
        return (start.text if start else "", end.text if end else "", self.lead_in_ms if start else 0)

    async def _ranges(self, name: str, run: Run) -> list[Range]:
        """What to read: of topics that the run has already what it has, of others what is asked for now."""
        ranges, spans = await self._find(name, run)
        topics = list(dict.fromkeys(r.topic for r in ranges))
        goes_on(name, run, [topic for topic in topics if topic != self.ground.topics(name).items], self._asked)
        ranges = stored(run, ranges)
        for topic in topics:
            if topic not in run.asked:
                run.asked[topic] = self._asked or ALL
                run.ranges |= of_ranges([r for r in ranges if r.topic == topic])
                run.spans |= {topic: spans[topic]} if topic in spans else {}
        return ranges

    async def _find(self, name: str, run: Run | None) -> tuple[list[Range], dict[str, tuple[int, int]]]:
        """The ranges asked for, and the event times that count of each topic."""
        start, end, topics = self.arguments.start, self.arguments.end, self.ground.topics(name)
        had = [topic for topic in run.ranges if topic not in run.files] if run else []
        wanted = self.arguments.topics or (had if self._asked is None else [])
        names = chosen(topics, wanted)
        facts = await survey(self.ground.kafka, names, self.ground.settings.isolation)
        first_ms, end_ms = looked_up(start, end, self.lead_in_ms, self.limits)
        found = ranges(facts, topics.items, start, end, await times(self.ground.kafka, facts, first_ms, end_ms))
        span = span_of(start, end, self.lead_in_ms)
        return found, {topic: span for topic in names if topic != topics.items} if span else {}

    async def _judge(self, run: Run, partitions: tuple[int, int]) -> None:
        bases = await self.ground.live_bases(partitions[0])
        run.whole = whole_of(run, self.ground.topics("main").user_inputs, bases)

    def _plan(
        self,
        mode: Mode,
        name: str,
        ranges: Sequence[Range],
        spans: dict[str, tuple[int, int]],
        settled: int,
        *,
        whole: bool,
    ) -> Plan:
        notes = []
        if not whole:
            notes.append("this is not all that the live rows were built from, so the run cannot take their place")
        return Plan(
            mode=mode,
            run=name,
            ranges=ranges,
            spans=spans,
            processes=self.arguments.processes,
            rate=self.arguments.rate,
            settled=settled,
            measured_per_s=measured(self.ground.runs),
            notes=notes,
        )

    def _options(self) -> Options:
        typed = self.arguments
        return Options(typed.processes, typed.rate, typed.chunk or self.ground.settings.chunk)
