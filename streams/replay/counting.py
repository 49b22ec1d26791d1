"""A dry run: records are read, decoded and counted; no table, no topic and no run is touched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from schemas.events import decode_run
from schemas.items import decode_items
from schemas.topics import Topics
from streams.chunks.chunk import Chunk, LogFacts
from streams.features.declaration import Declaration
from streams.replay.job import Job
from streams.replay.work import limits, named
from streams.settings import FoldSettings
from streams.tables.attempt import Verdict
from streams.tables.part import Outcome

LATE_MS = {"5min": 300_000, "1h": 3_600_000, "1d": 86_400_000}
"""How much later than it happened an event came to Kafka: each is counted under the longest that it exceeds."""


class Distinct:
    """Counts distinct texts exactly but for the collisions of 64 bits, in eight bytes each."""

    def __init__(self) -> None:
        self._known = np.empty(0, np.int64)
        self._new: list[int] = []

    def add(self, texts: Sequence[str]) -> None:
        """See these."""
        self._new += map(hash, texts)
        if len(self._new) > max(100_000, len(self._known)):
            self._merge()

    def count(self) -> int:
        """How many have been seen."""
        self._merge()
        return len(self._known)

    def _merge(self) -> None:
        self._known = np.union1d(self._known, np.array(self._new, np.int64))
        self._new.clear()


class Counting:
    """Counts events by kind, rejects by reason, and those that are late, expired, from the future or outside."""

    def __init__(self, job: Job, settings: FoldSettings, declaration: Declaration) -> None:
        topics: Topics = settings.connections.topics
        self.limits, self.items_topic = limits(settings, job.spans), topics.items
        self._kinds = {topic: declaration.wire_kinds(word) for topic, word in topics.word_of.items()}
        self._counts: Counter[str] = Counter()
        self._users = Distinct()

    async def start(self, facts: LogFacts) -> int:
        return facts.log_start

    async def process(self, chunks: Sequence[Chunk]) -> Sequence[Verdict]:
        for chunk in chunks:
            if chunk.topic == self.items_topic:
                self._count_items(chunk)
            else:
                self._count_events(chunk)
        return [Outcome.APPLIED] * len(chunks)

    async def kept(self, topic: str, partition: int) -> int:  # noqa: ARG002
        return 1 << 62

    def counts(self) -> dict[str, int]:
        return {**self._counts, "users": self._users.count()}

    async def close(self) -> None:
        """Nothing is open."""

    def _count_events(self, chunk: Chunk) -> None:
        run = decode_run(
            chunk.records,
            kinds=self._kinds[chunk.topic],
            now_ms=time.time_ns() // 1_000_000,
            max_skew_ms=self.limits.max_skew_ms,
            horizon_ms=self.limits.horizon_ms,
            max_value_bytes=self.limits.max_value_bytes,
            heard_ms=[record.timestamp for record in chunk.records],
        )
        if (span := self.limits.spans.get(chunk.topic)) is not None:
            outside = [i for i, ts_ms in enumerate(run.ts_ms) if not span[0] <= ts_ms < span[1]]
            run.leave_out(outside)
            run.results["outside"] += len(outside)
        self._counts["events"] += len(run.events)
        self._counts.update(named("kinds", Counter(run.kinds)))
        self._counts.update(named("rejects", Counter(reject.reason for reject in run.rejects)))
        self._counts.update(named("results", run.results))
        self._users.add(run.users)
        heard_ms = np.array([chunk.records[i].timestamp for i in run.index], np.int64)
        delay_ms = np.where(heard_ms < 0, 0, heard_ms - np.array(run.ts_ms, np.int64))
        names, bounds = list(LATE_MS), np.array([*LATE_MS.values()])
        late = np.bincount(np.searchsorted(bounds, delay_ms, side="left"), minlength=len(names) + 1)[1:]
        self._counts.update(named("late", dict(zip(names, late.tolist(), strict=True))))

    def _count_items(self, chunk: Chunk) -> None:
        run = decode_items(chunk.records, max_value_bytes=self.limits.max_value_bytes)
        self._counts["catalogue"] += len(chunk.records) - len(run.rejects)
        self._counts.update(named("rejects", Counter(reject.reason for reject in run.rejects)))
