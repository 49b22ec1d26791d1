"""Producing at full speed: batches built by partition, every one awaited, in the order of each user's events."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.partition import partition_of
from schemas.topics import Topics
from streams.logs.logs import LogEvent
from streams.service.kafka import producer_options
from streams.service.settings import Connections

SLICE = 8_000
"""Events under way at once: enough to fill the batches, few enough that progress is seen."""
BATCH_BYTES = 128 * 1024

Place = tuple[str, int]


@asynccontextmanager
async def producing(connections: Connections) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer, flushed and closed at the end."""
    producer = AIOKafkaProducer(**producer_options(connections), max_batch_size=BATCH_BYTES, linger_ms=2)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def produce(
    producer: AIOKafkaProducer, topics: Topics, events: Sequence[LogEvent]
) -> AsyncIterator[Sequence[LogEvent]]:
    """Send events to their topics; yields each slice once the broker has acknowledged all of it."""
    names: Mapping[str, str] = {
        name: getattr(topics, name) for name in ("clicks", "browses", "orders", "feedback", "items")
    }
    partitions = {name: len(await producer.partitions_for(topic)) for name, topic in names.items()}
    for start in range(0, len(events), SLICE):
        part = events[start : start + SLICE]
        by_place: defaultdict[Place, list[LogEvent]] = defaultdict(list)
        for event in part:
            by_place[names[event.stream], partition_of(event.key, partitions[event.stream])].append(event)
        await asyncio.gather(*(_send(producer, place, records) for place, records in by_place.items()))
        yield part


async def _send(producer: AIOKafkaProducer, place: Place, events: Iterable[LogEvent]) -> None:
    """One partition's events in batches, one after the other, so that they keep their order."""
    topic, partition = place
    batch = producer.create_batch()
    for event in events:
        if _append(batch, event) is None:
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            _append(batch, event)
    if batch.record_count():
        await (await producer.send_batch(batch, topic, partition=partition))


def _append(batch: Any, event: LogEvent) -> Any:
    # Stamped with the present: Kafka's retention goes by this stamp, and would delete a year-old log while it is read.
    return batch.append(key=event.key, value=event.value, timestamp=None)


def items_of(catalogue: Iterable[tuple[bytes, bytes]], now_ms: int) -> list[LogEvent]:
    """A catalogue as records for items.v1."""
    return [LogEvent(now_ms, "items", key, value) for key, value in catalogue]
