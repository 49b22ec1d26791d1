"""What the broker says before a replay: topics, where their logs begin and end, and offsets of moments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.admin import administering, describe, reading
from streams.chunks.chunk import LogFacts
from streams.replay.ranges import Place, ReplayError, Times
from streams.service.topic_ids import TopicFacts


async def survey(kafka: Mapping[str, Any], names: Sequence[str], isolation: str) -> list[LogFacts]:
    """Every partition of topics by name; a log ends at its last stable offset when only committed records are read.

    Raises ReplayError when a topic is not in Kafka.
    """
    async with administering(kafka) as admin:
        known: dict[str, TopicFacts] = await describe(admin, names)
    if absent := [name for name in names if name not in known]:
        message = f"Not in Kafka: {', '.join(absent)}. Run `kairos topics create`, or set KAIROS_TOPIC_PREFIX."
        raise ReplayError(message)
    places = [TopicPartition(name, p) for name in names for p in range(known[name].partitions)]
    async with reading(kafka, isolation_level=isolation) as consumer:
        starts, ends = await asyncio.gather(consumer.beginning_offsets(places), consumer.end_offsets(places))
    return [
        LogFacts(tp.topic, tp.partition, starts[tp], ends[tp], known[tp.topic].id, known[tp.topic].partitions)
        for tp in places
    ]


async def times(kafka: Mapping[str, Any], facts: Sequence[LogFacts], first_ms: int | None, end_ms: int | None) -> Times:
    """Where two moments lie in the logs, as far as they are asked for."""
    places = [TopicPartition(fact.topic, fact.partition) for fact in facts]
    if (first_ms is None and end_ms is None) or not places:
        return Times({}, {})
    async with reading(kafka) as consumer:
        return Times(await _at(consumer, places, first_ms), await _at(consumer, places, end_ms))


async def _at(consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], ts_ms: int | None) -> dict[Place, int]:
    if ts_ms is None:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(places, ts_ms))
    return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if at is not None}
