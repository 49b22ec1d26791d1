"""Creating the topics of an installation and writing, once, what their offsets mean: id, partition count, base."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from streams.chunks.chunk import LogFacts
from streams.service.records import reader
from streams.service.topic_ids import TopicFacts, topic_facts
from streams.topic_plan import PlannedTopic

VISIBLE_WITHIN_S = 30.0
MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default of max.message.bytes."""


class AdminError(Exception):
    """An installation cannot be set up as asked; the sentence says why and what to do."""


class Initialisable(Protocol):
    """The part of a fenced table that setting up needs."""

    async def initialise(self, facts: LogFacts) -> None: ...


@asynccontextmanager
async def administering(kafka: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is closed at the end; `kafka` are the client options of the connection."""
    admin = AIOKafkaAdminClient(**kafka)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def reading(kafka: Mapping[str, Any], **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside any group that is stopped at the end."""
    consumer = reader(**kafka, **options)
    try:
        await consumer.start()
        await asyncio.sleep(0)  # its coordinator has to have begun before it can be stopped
        yield consumer
    finally:
        await consumer.stop()


async def describe(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicFacts]:
    """Id and partition count of the topics that exist."""
    return await topic_facts(admin._client, names)


async def most_bytes(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """The largest batch of records that topics take; Kafka's default where it does not say."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": ""}) for name in names]
    found = dict.fromkeys(names, MAX_MESSAGE_BYTES)
    for response in await admin.describe_configs(resources) if resources else ():
        for _code, _reason, _kind, name, entries, *_ in response.resources:
            said = {setting: value for setting, value, *_ in entries}
            found[name] = int(said.get("max.message.bytes", MAX_MESSAGE_BYTES))
    return found


async def create_topics(
    admin: AIOKafkaAdminClient, planned: Sequence[PlannedTopic], replication: int
) -> tuple[list[str], dict[str, TopicFacts]]:
    """Create what is missing; the names created, and the facts of all. What exists is left as it is.

    Raises AdminError when Kafka refuses a topic or does not show it in time.
    """
    names = [topic.name for topic in planned]
    known = await describe(admin, names)
    missing = [topic for topic in planned if topic.name not in known]
    if missing:
        wanted = [NewTopic(t.name, t.partitions, replication, topic_configs=dict(t.config)) for t in missing]
        response = await admin.create_topics(wanted)
        for name, code, reason in (error[:3] for error in response.topic_errors):
            if code and for_code(code) is not TopicAlreadyExistsError:
                message = f"Kafka refuses to create topic {name}: {reason or for_code(code).__name__}."
                raise AdminError(message)
    return [topic.name for topic in missing], await _visible(admin, names)


async def _visible(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicFacts]:
    known: dict[str, TopicFacts] = {}
    for _ in range(int(VISIBLE_WITHIN_S / 0.2)):
        known = await describe(admin, names)
        if len(known) == len(names):
            return known
        await asyncio.sleep(0.2)
    message = (
        f"Kafka does not show {sorted(set(names) - known.keys())} {VISIBLE_WITHIN_S:.0f} s after they were created."
    )
    raise AdminError(message)


async def log_facts(kafka: Mapping[str, Any], topics: Mapping[str, TopicFacts]) -> list[LogFacts]:
    """Start and end of the log of every partition of `topics`, with the topic's identity."""
    partitions = [TopicPartition(name, p) for name, facts in topics.items() for p in range(facts.partitions)]
    if not partitions:
        return []
    async with reading(kafka) as consumer:
        starts, ends = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
    return [
        LogFacts(tp.topic, tp.partition, starts[tp], ends[tp], topics[tp.topic].id, topics[tp.topic].partitions)
        for tp in partitions
    ]


async def initialise(
    kafka: Mapping[str, Any], topics: Mapping[str, TopicFacts], tables: Mapping[str, Initialisable]
) -> None:
    """Write id, count and base of every input's partitions to its table; the first time wins for ever.

    `tables` names the table of each input topic. Raises the table's refusal when it was built from another topic.
    """
    inputs = {name: topics[name] for name in tables}
    for facts in await log_facts(kafka, inputs):
        await tables[facts.topic].initialise(facts)
