"""Reads everything the event topics hold, once, from the first record to the last one at the start of the reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka import TopicPartition

from model_server.training.recorded import RawEvent
from streams.service.entry import entering
from streams.service.kafka import client_options
from streams.service.records import reader

if TYPE_CHECKING:
    from streams.service.settings import Connections

FETCH = 5_000


async def read_topics(
    connections: Connections, begin: Callable[[int], Callable[[int], object]]
) -> tuple[list[RawEvent], dict[str, dict[str, Any]]]:
    """(events of the user topics, catalogue by item id). `begin` hears how many records there are and gives the tick.

    Raises KafkaError where the brokers cannot be reached.
    """
    topics = connections.topics
    streams = {getattr(topics, name): name for name in ("clicks", "browses", "orders", "feedback", "items")}
    consumer = reader(**client_options(connections))
    try:
        async with entering(connections):
            await consumer.start()
        # A topic of which the client knows no partition yet is asked for by name once.
        known = await consumer._client.fetch_all_metadata()
        partitions = [
            TopicPartition(topic, number)
            for topic in streams
            for number in sorted(known.partitions_for_topic(topic) or ())
        ]
        if not partitions:
            return [], {}
        consumer.assign(partitions)
        first, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        # By offset: a reset to the beginning may be overtaken by the answer to that to the end, which assigning began.
        for partition in partitions:
            consumer.seek(partition, first[partition])
        tick = begin(sum(ends[p] - first[p] for p in partitions))
        return await _drain(consumer, streams, {p: end for p, end in ends.items() if end > first[p]}, tick)
    finally:
        await consumer.stop()


async def _drain(
    consumer: Any, streams: dict[str, str], left: dict[Any, int], tick: Callable[[int], object]
) -> tuple[list[RawEvent], dict[str, dict[str, Any]]]:
    events: list[RawEvent] = []
    catalogue: dict[str, dict[str, Any]] = {}
    while left:
        for partition, records in (await consumer.getmany(timeout_ms=1_000, max_records=FETCH)).items():
            stream = streams[partition.topic]
            if stream == "items":
                _list(catalogue, records)
            else:
                events.extend(RawEvent(stream, record.key, record.value) for record in records)
            tick(len(records))
        left = {p: end for p, end in left.items() if await consumer.position(p) < end}
    return events, catalogue


def _list(catalogue: dict[str, dict[str, Any]], records: list[Any]) -> None:
    """Take over records of the item topic; what is no JSON object is the stream worker's to refuse.

    `ts_ms` becomes the time of an item's first record, whatever the shop says: nothing of it was known before.
    """
    for record in records:
        try:
            item_id, entry = (record.key or b"").decode(), orjson.loads(record.value or b"{}")
        except ValueError:
            continue
        if isinstance(entry, dict) and entry:
            since_ms = catalogue.get(item_id, {}).get("ts_ms", record.timestamp)
            catalogue[item_id] = {**entry, "ts_ms": since_ms}
        else:
            catalogue[item_id] = {}
