"""One run: the stage is set, load flows, faults come and go, all is applied, and the verdict is told."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from deploy.stack import StackError
from tests.faults import log, tables
from tests.faults.answers import judge_answers
from tests.faults.fault import Fault, FaultError
from tests.faults.log import meant
from tests.faults.pages import Pages
from tests.faults.plan import AFTER_S, Plan, Planned
from tests.faults.stage import PARTITIONS, Stage
from tests.faults.supervised import Supervised
from tests.faults.traffic import GOOD
from tests.faults.truth import Place
from tests.faults.verdict import Verdict, judge_exits, judge_letters, judge_log, judge_rows, must_have_forgotten
from tests.faults.watch import AWAY, Span, Watch, idle_s, places, recoveries_s, stuck_s, went_back

DRAIN_S = 120.0
STUCK_S = 60.0
REWOUND = re.compile(r"must be read again from offset|reading on from there again")


@dataclass
class Run:
    """One plan on one stage; `lasted` is each fault with when it really was."""

    plan: Plan
    known: Mapping[str, Fault]
    folder: Path
    lasted: list[tuple[Fault, Span]] = field(default_factory=list)
    _busy: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @property
    def spans(self) -> list[Span]:
        return [span for _, span in self.lasted]

    @property
    def faults(self) -> list[Fault]:
        return [self.known[planned.name] for planned in self.plan.faults]

    async def perform(self) -> Verdict:
        """Run it from beginning to end; whatever it started is gone afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        needs = frozenset({"doors"} if self.plan.doors else ()).union(*[fault.needs for fault in self.faults])
        stage = Stage(self.plan, needs, self.folder)
        verdict = Verdict()
        try:
            async with stage.running():
                await self._story(stage, verdict)
        except (FaultError, StackError) as problem:
            verdict.complain(1, f"thing that the harness could not do: {problem}")
        exits = [end for process in stage.processes for end in process.exits]
        judge_exits(verdict, self.lasted, exits)
        if (doors := stage.servers.doors) is not None:
            telling = doors.told(path for process in stage.processes for path in process.logs())
            verdict.complain(len(telling), "logs that hold a password", telling)
        (self.folder / "exits.txt").write_text("".join(f"{end}\n" for end in exits))
        return verdict

    async def _story(self, stage: Stage, verdict: Verdict) -> None:
        watch, pages = Watch(stage), Pages(stage)
        tasks = [asyncio.create_task(watch.run()), asyncio.create_task(pages.run())]
        try:
            await self._before(stage, watch)
            tasks.append(producing := asyncio.create_task(stage.producer.run()))
            await self._while_loaded(stage, verdict)
            stage.producer.stop()
            await producing
            await self._drain(stage, watch, verdict)
            await asyncio.sleep(0.5)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._judge_times(stage, watch, verdict)
        pages.judge(verdict)
        await self._judge(stage, verdict)

    async def _before(self, stage: Stage, watch: Watch) -> None:
        """What is done before the load begins."""

    async def _while_loaded(self, stage: Stage, verdict: Verdict) -> None:
        """Faults come and go; over when the load has lasted."""
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, planned in enumerate(self.plan.faults):
                tasks.create_task(self._inflict(stage, verdict, planned, number, began_s))
        last_s = max((end_s for _, end_s in self.spans), default=began_s)
        length_s = max(self.plan.length_s, last_s - began_s + AFTER_S)
        await asyncio.sleep(max(0.0, began_s + length_s - time.monotonic()))

    async def _inflict(self, stage: Stage, verdict: Verdict, planned: Planned, number: int, began_s: float) -> None:
        await asyncio.sleep(max(0.0, began_s + planned.start_s - time.monotonic()))
        random, fault = Random(self.plan.seed * 100 + number), self.known[planned.name]
        # A server may take longer to come back than was planned for it.
        async with self._busy[fault.target]:
            start_s = time.monotonic()
            try:
                async with fault.inject(stage, random):
                    await asyncio.sleep(planned.lasts_s)
            except (FaultError, StackError, *AWAY) as problem:
                verdict.complain(1, f"fault that could not be done as planned: {planned.name}: {problem!r}")
            self.lasted.append((fault, (start_s, time.monotonic())))

    async def _drain(self, stage: Stage, watch: Watch, verdict: Verdict) -> None:
        """Wait until every record is applied and every affected user is answered."""
        redis, deadline_s = stage.redis(), time.monotonic() + DRAIN_S
        left, behind = -1, {}
        try:
            while time.monotonic() < deadline_s:
                sample = watch.samples[-1] if watch.samples else None
                with suppress(*AWAY):
                    left = await tables.waiting(stage, redis)
                    fresh = sample is not None and time.monotonic() - sample.at_s < 1.0
                    behind = {} if sample is None else {p: s for p, s in sample.lags_s.items() if s > 0}
                    if fresh and not behind and left == 0:
                        return
                await asyncio.sleep(0.25)
        finally:
            await redis.aclose()
        verdict.complain(len(behind), f"partitions not applied {DRAIN_S:.0f} s after the load", list(behind.items()))
        verdict.complain(max(left, 0), f"affected users still waiting {DRAIN_S:.0f} s after the load")

    def _judge_times(self, stage: Stage, watch: Watch, verdict: Verdict) -> None:
        verdict.recoveries_s = recoveries_s(watch.samples, self.spans)
        verdict.stuck_s = stuck_s(watch.samples, self.spans, _starts_s(stage.workers))
        verdict.idle_s = idle_s(watch.samples, self.spans, _starts_s(stage.models))
        if verdict.stuck_s > STUCK_S:
            verdict.complain(1, f"standstill of {verdict.stuck_s:.0f} s with work waiting")
        if verdict.idle_s > STUCK_S:
            verdict.complain(1, f"standstill of the model workers of {verdict.idle_s:.0f} s with users due")
        logs = (path.read_text(errors="replace") for process in stage.workers for path in process.logs())
        noticed = went_back(watch.samples) or any(REWOUND.search(text) for text in logs)
        if must_have_forgotten(self.lasted) and not noticed:
            verdict.complain(1, "fault without effect: no fence went back")

    async def _judge(self, stage: Stage, verdict: Verdict) -> None:
        topics = stage.topics
        answers = [(topic, p) for topic in (topics.recommendations, topics.decisions) for p in range(PARTITIONS)]
        letters = [(topics.dead_letters, p) for p in range(PARTITIONS)]
        found = await log.read(stage.servers.kafka, [*places(stage), *answers, *letters])
        counted = {place: found[place] for place in places(stage)}
        for (topic, partition, offset), record in sorted(stage.archive.items()):
            if all(r.offset != offset for r in counted[topic, partition]):
                counted[topic, partition].append(record)
        for records in counted.values():
            records.sort(key=lambda record: record.offset)
        redis = stage.redis()
        try:
            stored = await tables.read(stage, redis)
        finally:
            await redis.aclose()
        judge_log(verdict, stage.truth, counted, await self._aborted(stage))
        await asyncio.to_thread(judge_rows, verdict, counted, stored, topics.items)
        judge_letters(verdict, counted, [r for place in letters for r in found[place]])
        good = [r for place, records in counted.items() if place[0] != topics.items for r in records]
        events = [orjson.loads(record.value) for record in good if meant(record) == GOOD]
        sent, decided = ([r for place in answers if place[0] == t for r in found[place]] for t in
                         (topics.recommendations, topics.decisions))  # fmt: skip
        judge_answers(verdict, events, [r for r in sent if _ours(r, stage.namespace)], decided)

    async def _aborted(self, stage: Stage) -> dict[Place, list[Any]]:
        """The log with what was aborted, where Kafka may have aborted what it had acknowledged; else nothing."""
        if self.plan.load.transactional and any(fault.takes_back for fault in self.faults):
            return await log.read(stage.servers.kafka, places(stage), committed=False)
        return {}


def _starts_s(processes: Sequence[Supervised]) -> list[float]:
    """When processes began or ended."""
    return [process.started_s for process in processes] + [end.at_s for p in processes for end in p.exits]


def _ours(record: Any, namespace: str) -> bool:
    """Whether the tables that serve at the end sent it: those before a rebuild knew other pushes."""
    return ("ce_source", f"/kairos/{namespace}".encode()) in record.headers
