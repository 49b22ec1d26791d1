"""What `kairos topics check` looks at: all that makes a worker wrong, or makes it refuse to start."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.partition import partition_of
from schemas.topics import Topics
from streams.admin import describe, log_facts, reading
from streams.chunks.chunk import LogFacts
from streams.service.topic_ids import TopicFacts
from streams.tables.errors import Hole, Refused
from streams.topic_plan import PlannedTopic

SAMPLED = 200
CREATE = "Run `kairos topics create`."
MURMUR = (
    "Set the producer's partitioner to murmur2 (librdkafka: partitioner=murmur2_random; Java and aiokafka use it "
    "already), then rebuild."
)


class Trouble(NamedTuple):
    """What is wrong, and what to do about it unless the first says that too."""

    what: str
    remedy: str = ""


class Checkable(Protocol):
    """The part of a fenced table that the check needs; all raise a Refused when a start would be refused."""

    async def check_server(self) -> None: ...
    async def start_position(self, facts: LogFacts) -> int: ...


async def check(
    kafka: Mapping[str, Any],
    admin: AIOKafkaAdminClient,
    topics: Topics,
    planned: Sequence[PlannedTopic],
    tables: Mapping[str, Checkable],
) -> AsyncIterator[Trouble]:
    """Yield every trouble found, as it is found; `tables` names the table of each input topic."""
    known = await describe(admin, [topic.name for topic in planned])
    if absent := [topic.name for topic in planned if topic.name not in known]:
        yield Trouble(f"Not in Kafka: {', '.join(absent)}.", CREATE)
    for trouble in _counts(topics, known):
        yield trouble
    for trouble in await _cleanup(admin, [topic for topic in planned if topic.name in known]):
        yield trouble
    async for trouble in _tables(kafka, known, tables):
        yield trouble
    keyed = {name: known[name] for name in (*topics.user_inputs, topics.items) if name in known}
    async for trouble in _partitioner(kafka, keyed):
        yield trouble


def _counts(topics: Topics, known: Mapping[str, TopicFacts]) -> list[Trouble]:
    """Topics folded into one table must share one partition count."""
    found = []
    for group in (topics.user_inputs, topics.item_inputs):
        counts = {name: known[name].partitions for name in group if name in known}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            remedy = "Create them again with one count (kairos topics create), and rebuild from the log."
            found.append(Trouble(f"Topics of one table differ in their number of partitions: {listed}.", remedy))
    return found


async def _cleanup(admin: AIOKafkaAdminClient, planned: Sequence[PlannedTopic]) -> list[Trouble]:
    if not planned:
        return []
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name, {"cleanup.policy": ""}) for topic in planned]
    found = {}
    for response in await admin.describe_configs(resources):
        for _code, _reason, _kind, name, entries, *_ in response.resources:
            found[name] = dict(entry[:2] for entry in entries).get("cleanup.policy", "")
    return [
        Trouble(
            f"Topic {topic.name} has cleanup.policy={found[topic.name]}, and needs {topic.cleanup}.",
            f"kafka-configs --alter --entity-type topics --entity-name {topic.name} "
            f"--add-config cleanup.policy={topic.cleanup}",
        )
        for topic in planned
        if topic.name in found and found[topic.name] not in ("", topic.cleanup)
    ]


async def _tables(
    kafka: Mapping[str, Any], known: Mapping[str, TopicFacts], tables: Mapping[str, Checkable]
) -> AsyncIterator[Trouble]:
    """Ask the tables what a worker would ask them, of each topic until one partition shows what is wrong with all."""
    for table in {id(table): table for table in tables.values()}.values():
        try:
            await table.check_server()
        except Refused as refusal:
            yield Trouble(str(refusal))
            break
    refused = set()
    for facts in await log_facts(kafka, {name: known[name] for name in tables if name in known}):
        if facts.topic in refused:
            continue
        try:
            await tables[facts.topic].start_position(facts)
        except Refused as refusal:
            if not isinstance(refusal, Hole):
                refused.add(facts.topic)
            yield Trouble(str(refusal))


async def _partitioner(kafka: Mapping[str, Any], topics: Mapping[str, TopicFacts]) -> AsyncIterator[Trouble]:
    """Sample the newest records of every partition: one that its key does not hash to holds wrong records."""
    if not topics:
        return
    async with reading(kafka, auto_offset_reset="none", fetch_max_wait_ms=20) as consumer:
        tallies = await sample(consumer, topics)
    for name, tally in tallies.items():
        if tally["wrong"]:
            yield Trouble(
                f"{tally['wrong']} of {tally.total()} newest records of {name} lie in another partition than the "
                "one their key hashes to by murmur2: a producer uses another partitioner.",
                MURMUR,
            )
        if tally["null"]:
            yield Trouble(
                f"{tally['null']} of {tally.total()} newest records of {name} have no key.",
                "Key every record by user_id (items.v1: by item_id); records without a key go to the dead letters.",
            )


async def sample(consumer: AIOKafkaConsumer, topics: Mapping[str, TopicFacts]) -> dict[str, Counter[str]]:
    """Count right, wrong and null keys among up to SAMPLED newest records of every partition, by topic."""
    partitions = [TopicPartition(name, p) for name, facts in topics.items() for p in range(facts.partitions)]
    starts, ends = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
    left = {tp for tp in partitions if ends[tp] > starts[tp]}
    if left:
        consumer.assign(list(left))
    for tp in left:
        consumer.seek(tp, max(starts[tp], ends[tp] - SAMPLED))
    tallies: dict[str, Counter[str]] = {name: Counter() for name in topics}
    while left:
        for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
            count = topics[tp.topic].partitions
            tallies[tp.topic].update(_verdict(record.key, tp.partition, count) for record in records)
        # By position: aborted or compacted records leave a tail that holds nothing.
        left -= {tp for tp in left if await consumer.position(tp) >= ends[tp]}
    return tallies


def _verdict(key: bytes | None, partition: int, partitions: int) -> str:
    if key is None:
        return "null"
    return "right" if partition_of(key, partitions) == partition else "wrong"
