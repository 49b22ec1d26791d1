"""Watches how far the tables are behind the log, and judges from that how long recoveries and standstills were."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisClusterException, RedisError

from schemas.keys import Keys
from streams.tables.survey import queues
from tests.faults.stage import ITEM_PARTITIONS, PARTITIONS, Stage
from tests.faults.truth import Place

EVERY_S, ANSWER_S = 0.25, 3.0
RECOVERED_S, SETTLED_S, BLIND_S = 1.0, 5.0, 2.0
AWAY = (KafkaError, RedisError, RedisClusterException, OSError, TimeoutError)


@dataclass(frozen=True)
class Sample:
    """One look: for how long the oldest waiting record of each partition has waited, and the fences.

    due: users whose deadline has come or whom a model worker holds; decided: decisions so far.
    """

    at_s: float
    lags_s: dict[Place, float]
    fences: dict[Place, int]
    due: int = 0
    decided: int = 0

    @property
    def recovered(self) -> bool:
        return all(lag_s < RECOVERED_S for lag_s in self.lags_s.values())


@dataclass
class Watch:
    """Looks at a stage several times a second; a look that a server did not answer is no sample."""

    stage: Stage
    samples: list[Sample] = field(default_factory=list)
    _deltas: dict[Place, list[tuple[float, int]]] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(60):
                    await self._look_on()
            except Exception:  # whatever a client makes of a fault: without samples nothing is ever recovered
                await asyncio.sleep(EVERY_S)

    async def _look_on(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stage.servers.kafka, enable_auto_commit=False, request_timeout_ms=3_000,
            metadata_max_age_ms=3_000,
        )  # fmt: skip
        redis = self.stage.redis()
        try:
            await consumer.start()
            while True:
                async with asyncio.timeout(ANSWER_S):
                    self.samples.append(await self._look(consumer, redis))
                await asyncio.sleep(EVERY_S)
        finally:
            await consumer.stop()
            await redis.aclose()

    async def _look(self, consumer: AIOKafkaConsumer, redis: Any) -> Sample:
        topics = self.stage.topics
        ends = await consumer.end_offsets([TopicPartition(topics.deltas, p) for p in range(ITEM_PARTITIONS)])
        decided = await consumer.end_offsets([TopicPartition(topics.decisions, p) for p in range(PARTITIONS)])
        fences = await fences_of(self.stage, redis)
        looks = await queues(redis, self.stage.keys, range(PARTITIONS), time.time_ns() // 1_000_000)
        now_s = time.monotonic()
        lags_s: dict[Place, float] = {}
        for tp, end in ends.items():
            history = self._deltas.setdefault((tp.topic, tp.partition), [])
            if not history or history[-1][1] != end:
                history.append((now_s, end))
            lags_s[tp.topic, tp.partition] = _behind_s(history, fences.get((tp.topic, tp.partition), -1), now_s)
        for place in places(self.stage):
            since_s = self.stage.truth.waiting_since_s(place, fences.get(place, -1))
            lags_s[place] = 0.0 if since_s is None else now_s - since_s
        due = sum(look.due + look.leased for look in looks)
        return Sample(now_s, lags_s, fences, due, sum(decided.values()))


def places(stage: Stage) -> list[Place]:
    """Every input partition that a producer writes."""
    users = [(topic, p) for topic in stage.topics.user_inputs for p in range(PARTITIONS)]
    return [*users, *((stage.topics.items, p) for p in range(ITEM_PARTITIONS))]


async def fences_of(stage: Stage, redis: object) -> dict[Place, int]:
    """Last applied offset of every input partition, as Redis has it."""
    tags = [(stage.keys.user_tag(p), p) for p in range(PARTITIONS)]
    tags += [(stage.keys.item_tag(p), p) for p in range(ITEM_PARTITIONS)]
    metas = await asyncio.gather(*[redis.hgetall(Keys.meta(tag)) for tag, _ in tags])  # type: ignore[attr-defined]
    return {
        (name[2:].decode(), partition): int(value)
        for (_, partition), meta in zip(tags, metas, strict=True)
        for name, value in meta.items()
        if name.startswith(b"o:")
    }


def _behind_s(history: Sequence[tuple[float, int]], fence: int, now_s: float) -> float:
    """Time since the log first ended above the fence's next record."""
    for at_s, end in history:
        if end - 1 > fence:
            return now_s - at_s
    return 0.0


Span = tuple[float, float]


def grouped(spans: Sequence[Span]) -> list[Span]:
    """Overlapping spans as one: what heals within another fault cannot be seen."""
    groups: list[Span] = []
    for start_s, end_s in sorted(spans):
        if groups and start_s <= groups[-1][1]:
            groups[-1] = groups[-1][0], max(groups[-1][1], end_s)
        else:
            groups.append((start_s, end_s))
    return groups


def recoveries_s(samples: Sequence[Sample], spans: Sequence[Span]) -> list[float]:
    """Seconds from the end of each group of faults until no partition was a second behind, and stayed so for a while.

    A group that the next one interrupted before it was over has no figure of its own: it goes on in the next one's.
    """
    groups, found = grouped(spans), []
    for number, (_, end_s) in enumerate(groups):
        next_s = groups[number + 1][0] if number + 1 < len(groups) else float("inf")
        after = [sample for sample in samples if end_s <= sample.at_s < next_s]
        healed_s = seen_s = end_s
        for sample in after:
            if sample.at_s > healed_s + SETTLED_S and sample.at_s - seen_s < BLIND_S:
                break
            if not sample.recovered or sample.at_s - seen_s >= BLIND_S:  # unseen is not recovered
                healed_s = sample.at_s
            seen_s = sample.at_s
        if after and (next_s == float("inf") or after[-1].at_s > healed_s + SETTLED_S):
            found.append(healed_s - end_s)
    return found


def went_back(samples: Sequence[Sample]) -> bool:
    """Whether a fence was ever seen below where it had been."""
    pairs = itertools.pairwise(samples)
    return any(after.fences.get(place, -1) < fence for before, after in pairs for place, fence in before.fences.items())


def stuck_s(samples: Sequence[Sample], spans: Sequence[Span], starts_s: Sequence[float]) -> float:
    """Longest time that a partition with work waiting stood still with no fault about; starts of workers excuse."""
    longest_s = 0.0
    moved: dict[Place, tuple[int, float]] = {}
    for sample in samples:
        under_fault, excused_s = _excuse(sample, spans, starts_s)
        for place, lag_s in sample.lags_s.items():
            fence = sample.fences.get(place, -1)
            before, moved_s = moved.get(place, (-2, sample.at_s))
            if fence != before:
                moved_s = sample.at_s
            moved[place] = fence, moved_s
            if lag_s > 0 and not under_fault:
                longest_s = max(longest_s, sample.at_s - max(moved_s, excused_s, sample.at_s - lag_s))
    return longest_s


def idle_s(samples: Sequence[Sample], spans: Sequence[Span], starts_s: Sequence[float]) -> float:
    """Longest time that users were due and nothing was decided, with no fault about; starts of model workers excuse."""
    longest_s = moved_s = 0.0
    before = -1
    for sample in samples:
        if sample.decided != before or not sample.due:
            before, moved_s = sample.decided, sample.at_s
        under_fault, excused_s = _excuse(sample, spans, starts_s)
        if not under_fault:
            longest_s = max(longest_s, sample.at_s - max(moved_s, excused_s))
    return longest_s


def _excuse(sample: Sample, spans: Sequence[Span], starts_s: Sequence[float]) -> tuple[bool, float]:
    """Whether a fault lasts at a look, and when the last fault ended or process started before it."""
    excuses_s = (at_s for at_s in (*starts_s, *(end_s for _, end_s in spans)) if at_s <= sample.at_s)
    return any(start_s <= sample.at_s <= end_s for start_s, end_s in spans), max(excuses_s, default=0.0)
