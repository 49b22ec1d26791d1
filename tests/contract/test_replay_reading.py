"""Ranges of a real log as a job reads them: to their ends, again after a rewind, and again what Redis has lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from streams.chunks.chunk import Chunk, LogFacts
from streams.replay.folding import Folding, Pace
from streams.replay.job import FileJob, Job
from streams.replay.ranges import Range
from streams.service import settings
from streams.settings import StreamSettings
from streams.tables.attempt import Verdict
from streams.tables.errors import Rewind
from streams.tables.part import Outcome
from tests.bench.produce import create

RECORDS = 300


class Told:
    """A work that writes down what it sees; it may ask for records again, or lose what it had."""

    def __init__(self, *, rewind_at: int = -1, lost_to: int = -1) -> None:
        self.chunks: list[Chunk] = []
        self.fence = -1
        self._rewind_at, self._lost_to = rewind_at, lost_to

    async def start(self, facts: LogFacts) -> int:
        return self.fence + 1

    async def process(self, chunks: Sequence[Chunk]) -> Sequence[Verdict]:
        (chunk,) = chunks
        if self._rewind_at in range(chunk.first, chunk.last + 1):
            self._rewind_at, self.fence = -1, 4
        if chunk.prev > self.fence:
            return [Rewind(chunk.topic, chunk.partition, self.fence + 1, "records are missing")]
        self.chunks.append(chunk)
        self.fence = max(self.fence, chunk.last)
        return [Outcome.APPLIED]

    async def kept(self, topic: str, partition: int) -> int:
        if self._lost_to >= 0:
            self.fence, self._lost_to = self._lost_to, -1
        return self.fence

    def counts(self) -> dict[str, int]:
        return {}

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def job(kafka: str, topic_prefix: str) -> Job:
    topic = f"{topic_prefix}log"
    await create(kafka, {topic: 1})
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=2000)
    await producer.start()
    for number in range(RECORDS):
        await producer.send(topic, b"%d" % number, b"k", partition=0)
    await producer.stop()
    return Job("users", "run", "rebuild", [Range(topic, 0, 0, RECORDS - 20, 0, RECORDS, "id", 1)], 7)


async def folded(job: Job, kafka: str, work: Told) -> Folding:
    folding = Folding(job, settings.read(StreamSettings, {"KAIROS_KAFKA": kafka}), work)
    await folding.run()
    return folding


async def test_a_range_is_read_to_its_end_in_chunks_without_holes(job: Job, kafka: str) -> None:
    work = Told()
    folding = await folded(job, kafka, work)
    offsets = [record.offset for chunk in work.chunks for record in chunk.records]
    assert offsets == list(range(RECORDS - 20))
    assert max(len(chunk.records) for chunk in work.chunks) == 7
    assert folding.behind == RECORDS - 20


@pytest.mark.parametrize("work", [Told(rewind_at=50), Told(lost_to=100)], ids=["rewound", "lost"])
async def test_what_is_missing_is_read_again_from_where_the_fence_stands(job: Job, kafka: str, work: Told) -> None:
    await folded(job, kafka, work)
    offsets = [record.offset for chunk in work.chunks for record in chunk.records]
    assert set(offsets) == set(range(RECORDS - 20))
    assert len(offsets) > RECORDS - 20
    assert work.fence == RECORDS - 21


async def test_a_rate_holds_work_back() -> None:
    pace, began_s = Pace(1000), time.monotonic()
    for _ in range(4):
        await pace.wait(50)
    assert 0.14 <= time.monotonic() - began_s < 1.0
    began_s = time.monotonic()
    await Pace(0).wait(1_000_000)
    assert time.monotonic() - began_s < 0.1


async def test_lines_that_redis_has_lost_are_folded_again(kafka: str, tmp_path: Path) -> None:
    path, work = tmp_path / "log.jsonl", Told(lost_to=9)
    path.write_bytes(b'{"user_id":"u1","item_id":"i","kind":"click","ts_ms":1790000000000}\n' * 30)
    job = Job("users", "run", "rebuild", [], 7, file=FileJob(str(path), "file:log", "id", 30, 1), file_partitions=[0])
    folding = await folded(job, kafka, work)
    offsets = [record.offset for chunk in work.chunks for record in chunk.records]
    assert offsets == [*range(30), *range(10, 30)]
    assert folding.behind == 30
