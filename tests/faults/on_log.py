"""Faults of the log itself: retention, compaction, and a topic that is not what it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition
from redis.exceptions import RedisError

from tests.faults import log
from tests.faults.fault import EXIT_AGAIN, EXIT_REFUSED, Ending, FaultError, fault
from tests.faults.stage import PARTITIONS, Stage, until
from tests.faults.truth import Place
from tests.faults.watch import fences_of

ENDED = (EXIT_REFUSED, EXIT_AGAIN)
REFUSED_WITHIN_S = 75.0
COMPACTING_S, UNHEARD_S = 6.0, 1.0


@fault("kafka", cuts=True)
async def log_cut_below_the_fence(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Retention removes what was applied already."""
    topic = random.choice(stage.topics.user_inputs)
    fences = await _fences(stage)
    applied = {p: fences.get((topic, p), -1) + 1 for p in range(PARTITIONS)}
    await _archive(stage, {(topic, p): end for p, end in applied.items()})
    await _cut(stage, topic, {p: end for p, end in applied.items() if end > 0})
    yield


@fault("kafka", ending=Ending.STOPS, cuts=True)
async def log_cut_above_the_fence(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Retention removes records of a partition before they were applied: those are lost, and the operator rebuilds
    from the rest."""
    place = random.choice(stage.topics.user_inputs), random.randrange(PARTITIONS)
    for worker in stage.workers:
        worker.pause()
    await _unheard(stage, place, time.monotonic() + UNHEARD_S)
    end = (await _ends(stage, place[0]))[place[1]]
    await _cut(stage, place[0], {place[1]: end})
    stage.truth.forget(*place)
    for worker in stage.workers:
        worker.resume()
    yield
    await _stopped_alone(stage, place, end)
    await stage.rebuild()


@fault("kafka", ending=Ending.REFUSED, exits=ENDED, cuts=True, lasts_s=(1, 3))
async def topic_created_again(stage: Stage, random: Random) -> AsyncIterator[None]:
    """An input topic is deleted and created anew under its name: its offsets mean nothing any more."""
    topic = random.choice(stage.topics.user_inputs)
    async with stage.admin() as admin:
        await admin.delete_topics([topic])
    stage.truth.forget(topic)
    await asyncio.sleep(1)
    stage.truth.forget(topic)
    await stage.set_up_topics_only()
    yield
    await _refused(stage)
    await stage.rebuild()


@fault("kafka", ending=Ending.REFUSED, exits=ENDED, cuts=True)
async def topic_grown(stage: Stage, random: Random) -> AsyncIterator[None]:
    """An input topic gets more partitions: users move between them, and the operator must decide."""
    topic = random.choice(stage.topics.user_inputs)
    async with stage.admin() as admin:
        await admin.create_partitions({topic: NewPartitions(PARTITIONS + 2)})
    yield
    await _refused(stage)
    stage.producer.paused = True
    await asyncio.sleep(1)
    async with stage.admin() as admin:
        await admin.delete_topics([topic])
    await asyncio.sleep(1)
    stage.truth.forget(topic)
    await stage.rebuild()
    await asyncio.sleep(5)  # producers must know the new count before they choose partitions by it
    stage.producer.paused = False


@fault("kafka", lasts_s=(COMPACTING_S, COMPACTING_S), cuts=True)
async def topic_compacted(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Somebody sets an input topic to compaction: what was applied thins out below the fence."""
    topic = random.choice(stage.topics.user_inputs)
    await _configure(stage, topic, _SHORT_SEGMENTS)
    await asyncio.sleep(8)  # there must be segments that can go
    since_s = time.monotonic()
    ends = {(topic, p): end for p, end in (await _ends(stage, topic)).items()}
    await until(lambda: _applied(stage, ends), 60, "the application of what is to be compacted")
    await _archive(stage, ends)
    # What came later than this must stay: nobody knows yet that it was applied.
    kept_s = time.monotonic() - since_s + COMPACTING_S + 2.0
    settings = {**_SHORT_SEGMENTS, **_COMPACTED, "min.compaction.lag.ms": str(round(kept_s * 1000))}
    await _configure(stage, topic, settings)
    yield
    await _configure(stage, topic, {"cleanup.policy": "delete"})
    left = {(*place, r.offset) for place, found in (await log.read(stage.servers.kafka, ends)).items() for r in found}
    if stage.archive.keys() <= left:
        message = f"nothing of {topic} was compacted"
        raise FaultError(message)


_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.001",
}
_SHORT_SEGMENTS = {"segment.ms": "500"}


async def _configure(stage: Stage, topic: str, settings: dict[str, str]) -> None:
    async with stage.admin() as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)])


async def _applied(stage: Stage, ends: dict[Place, int]) -> bool:
    """Whether no acknowledged record below these offsets waits any more."""
    fences = await _fences(stage)
    return all(
        fences.get(place, -1) >= max((o for o in stage.truth.records[place] if o < end), default=-1)
        for place, end in ends.items()
    )


async def _fences(stage: Stage) -> dict[Place, int]:
    """The fences, as soon as Redis tells them: it may be away for a fault of its own."""
    found: dict[Place, int] = {}

    async def told() -> bool:
        redis = stage.redis()
        try:
            found.update(await fences_of(stage, redis))
        except RedisError:
            return False
        finally:
            await redis.aclose()
        return True

    await until(told, REFUSED_WITHIN_S, "an answer of Redis")
    return found


async def _archive(stage: Stage, ends: dict[Place, int]) -> None:
    """Keep what may go from the log below these offsets."""
    for (topic, partition), records in (await log.read(stage.servers.kafka, ends)).items():
        kept = [record for record in records if record.offset < ends[topic, partition]]
        stage.archive.update({(topic, partition, record.offset): record for record in kept})


async def _cut(stage: Stage, topic: str, below: dict[int, int]) -> None:
    async with stage.admin() as admin:
        await admin.delete_records({TopicPartition(topic, p): RecordsToDelete(end) for p, end in below.items()})


async def _ends(stage: Stage, topic: str) -> dict[int, int]:
    """The readable end of every partition of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.servers.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
        return {tp.partition: end for tp, end in ends.items()}
    finally:
        await consumer.stop()


async def _unheard(stage: Stage, place: Place, since_s: float) -> None:
    """Wait for a record that came to a partition later than this, which is too late for any answer under way."""

    async def came() -> bool:
        return stage.truth.newest_s(place) > since_s

    await until(came, 30, f"a record for {place[0]}:{place[1]}")


async def _stopped_alone(stage: Stage, place: Place, end: int) -> None:
    """Wait until a worker tells that a partition stands still below its hole, while every other one moves on."""
    name = f"{place[0]}:{place[1]}"

    async def told() -> bool:
        pages = [await asyncio.to_thread(worker.ask, "/ready") for worker in stage.workers]
        return any(status == 200 and name in orjson.loads(body)["stopped"] for status, body in pages)

    await until(told, REFUSED_WITHIN_S, f"the word that {name} stands still")
    others = {(topic, p): end for topic in stage.topics.user_inputs
              for p, end in (await _ends(stage, topic)).items() if (topic, p) != place}  # fmt: skip
    await until(lambda: _applied(stage, others), 60, "the application of all the other partitions")
    if (stands := (await _fences(stage)).get(place, -1)) >= end - 1:
        message = f"{name} was read on to {stands} over its hole, which ends at {end}"
        raise FaultError(message)


async def _refused(stage: Stage) -> None:
    """Wait until a worker was refused."""

    async def said_so() -> bool:
        return any(end.code == EXIT_REFUSED for worker in stage.workers for end in worker.exits)

    await until(said_so, REFUSED_WITHIN_S, "the refusal")
