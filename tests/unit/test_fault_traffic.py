"""What the harness sends is what it says it is, and poison lies thinly enough for no breaker to open."""

from __future__ import annotations

from collections import defaultdict, deque
from random import Random

from schemas.events import decode_run
from schemas.partition import partition_of
from schemas.topics import KINDS, Topics
from tests.faults.plan import Load
from tests.faults.stage import PARTITIONS
from tests.faults.traffic import BAD, Traffic

NOW_MS = 1_764_000_000_000
TOPICS = Topics()


def test_every_bad_record_is_bad_and_every_good_one_good() -> None:
    traffic = Traffic(Random(1), Load(100, 50, 20, 0.5, False), TOPICS)
    for record in (traffic.record(NOW_MS) for _ in range(2_000)):
        if record.topic != TOPICS.items:
            run = decode_run([record], kinds=KINDS[record.topic], now_ms=NOW_MS, max_skew_ms=300_000, horizon_ms=10**12)
            assert bool(run.rejects) == (record.truth == BAD)


def test_no_partition_holds_mostly_poison() -> None:
    for seed in range(5):
        traffic = Traffic(Random(seed), Load(400, 1_500, 200, 0.1, False), TOPICS)
        last: defaultdict[tuple[str, int], deque[bool]] = defaultdict(lambda: deque(maxlen=1_000))
        for number in range(30_000):
            record = traffic.record(NOW_MS)
            last[record.topic, partition_of(record.key or b"", PARTITIONS)].append(record.truth == BAD)
            assert number % 200 or max(map(sum, last.values())) < 450
