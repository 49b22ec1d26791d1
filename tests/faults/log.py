"""The topics read again by a client of its own: what really counts, with what a fault took out of the log put back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.traffic import TRUTH
from tests.faults.truth import Place

QUIET_S = 2.0


async def read(kafka: str, places: Iterable[Place], *, committed: bool = True) -> dict[Place, list[Any]]:
    """Every record of these partitions, in order; with `committed=False` the aborted ones too."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20,
        isolation_level="read_committed" if committed else "read_uncommitted",
    )  # fmt: skip
    await consumer.start()
    try:
        tps = [TopicPartition(*place) for place in places]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        return {(tp.topic, tp.partition): records for tp, records in (await _to_end(consumer, ends)).items()}
    finally:
        await consumer.stop()


async def _to_end(consumer: AIOKafkaConsumer, ends: dict[Any, int]) -> dict[Any, list[Any]]:
    """Read until every end; a tail of commit markers, which no record reaches, ends when nothing more comes."""
    found: dict[Any, list[Any]] = {tp: [] for tp in ends}
    last_s = asyncio.get_running_loop().time()
    while True:
        batch = await consumer.getmany(timeout_ms=200)
        for tp, records in batch.items():
            found[tp] += records
        now_s = asyncio.get_running_loop().time()
        last_s = now_s if batch else last_s
        behind = [tp for tp, end in ends.items() if await consumer.position(tp) < end]
        if not behind or now_s - last_s > QUIET_S:
            return found


def meant(record: Any) -> bytes:
    """What its producer meant a record to be: good, bad, or nothing where it came from elsewhere."""
    headers: dict[str, bytes] = dict(record.headers)
    return headers.get(TRUTH, b"")
