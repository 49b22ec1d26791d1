"""Trouble around a worker process: it waits readably, refuses with a remedy, buries poison, and loses nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from deploy.stack import Broker, Valkey
from schemas.dead_letters import decode
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.testing.poison import poison
from tests.installation import Installation, Sent, events
from tests.worker_process import until

pytestmark = pytest.mark.slow

REFUSED = 78
Make = Callable[..., Any]


@pytest.fixture
def installation(bare: Installation) -> Installation:
    return bare


async def ended(installation: Installation, timeout_s: float = 40, **env: str) -> tuple[int, str]:
    """Start a worker that has to end by itself: its exit code and its log."""
    worker = installation.worker(**env)
    await until(lambda: worker.process.poll() is not None, timeout_s, lambda: worker.text[-3000:])
    return worker.process.returncode, worker.text


async def admin(kafka: str, do: Callable[[AIOKafkaAdminClient], Any]) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        await do(client)
    finally:
        await client.close()


async def test_a_worker_waits_for_kafka_redis_and_topics(
    make_broker: Make, make_valkey: Make, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    broker: Broker = make_broker()
    valkey: Valkey = make_valkey()
    broker.stop()
    valkey.stop()
    installation = Installation(broker.address, valkey.url, topic_prefix, namespace, tmp_path)
    try:
        worker = installation.worker()
        await until(lambda: f"Kafka at {broker.address}" in worker.get("/ready")[1], 20, lambda: worker.text, worker)
        assert worker.get("/ready")[0] == 503
        assert worker.get("/live")[0] == 200
        await asyncio.to_thread(broker.start)
        await until(lambda: "KAIROS_REDIS" in worker.get("/ready")[1], 20, lambda: worker.text, worker)
        await asyncio.to_thread(valkey.start)
        await until(lambda: "kairos topics create" in worker.get("/ready")[1], 20, lambda: worker.text, worker)
        await installation.set_up()
        await installation.send(events(installation.topics, 400))
        await worker.ready()
        await installation.applied()
        assert await installation.wrong_users() == {}
        assert worker.term() == 0
        assert "Waiting for Kafka" in worker.text
    finally:
        installation.close()


async def test_redis_and_kafka_may_go_in_the_middle(
    make_broker: Make, make_valkey: Make, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    broker: Broker = make_broker()
    valkey: Valkey = make_valkey()
    installation = Installation(broker.address, valkey.url, topic_prefix, namespace, tmp_path)
    try:
        await installation.set_up()
        worker = installation.worker()
        await worker.ready()
        await asyncio.to_thread(valkey.stop)
        await installation.send(events(installation.topics, 800, seed=1))
        await until(lambda: '"redis"' in worker.get("/ready")[1], 20, lambda: worker.get("/ready"), worker)
        await asyncio.to_thread(valkey.start)
        await installation.applied()
        await asyncio.to_thread(broker.stop)
        await until(lambda: '"kafka"' in worker.get("/ready")[1], 30, lambda: worker.get("/ready"), worker)
        await asyncio.to_thread(broker.start)
        await installation.send(events(installation.topics, 800, seed=2))
        await installation.applied()
        await worker.ready()
        assert await installation.wrong_users() == {}
        assert await installation.wrong_items() == {}
        assert worker.term() == 0
    finally:
        installation.close()


async def test_poison_ends_in_the_dead_letters_and_its_neighbours_count(installation: Installation) -> None:
    await installation.set_up()
    bad = [Sent(bad.topic, bad.key, bad.value) for bad in poison(installation.topics).values()]
    good = events(installation.topics, 1_000)
    mixed = list(good)
    for i, record in enumerate(bad):
        mixed.insert(45 * i + 10, record)
    await installation.send(mixed)
    # In a partition that its key does not hash to, a good event is poison too.
    foreign = good[0]
    await installation.send([foreign._replace(event=None)], partition=await wrong_partition(foreign, 4))
    worker = installation.worker()
    await worker.ready()
    await installation.applied()
    assert await installation.wrong_users() == {}
    letters = [decode(r.key, r.value, r.headers) for r in await installation.read(installation.topics.dead_letters)]
    buried = {(letter.key, letter.value) for letter in letters}
    assert buried == {(record.key, record.value) for record in [*bad, foreign]}
    assert all(letter.detail and letter.topic.startswith(installation.topics.prefix) for letter in letters)
    assert worker.metric("kairos_dead_letters_total") == len(letters)
    told = re.findall(r"Dead letter \((.+?)\) from", worker.text)
    assert sorted(told) == sorted({letter.reason for letter in letters})
    assert worker.term() == 0


async def wrong_partition(record: Sent, partitions: int) -> int:
    assert record.key is not None
    return (partition_of(record.key, partitions) + 1) % partitions


async def test_a_topic_created_again_is_refused_with_the_remedy(installation: Installation) -> None:
    await installation.set_up()
    topic = installation.topics.clicks
    await admin(installation.kafka, lambda client: client.delete_topics([topic]))
    await asyncio.sleep(1)
    await installation.set_up()
    code, text = await ended(installation)
    assert code == REFUSED
    assert "deleted and created again" in text
    code, said = await installation.set_up("check")
    assert code == 1
    assert "deleted and created again" in said


def test_a_partition_count_that_topics_do_not_have_is_told_and_counts_below_one_are_refused(
    installation: Installation,
) -> None:
    assert installation.run("topics", "create", "--partitions", "2").returncode == 0
    repeated = installation.run("topics", "create")
    assert (repeated.returncode, repeated.stdout.count("not 8: a count stays")) == (0, 7)
    asked = installation.run("topics", "create", "--partitions", "3")
    assert (asked.returncode, asked.stdout.count("not 3: a count stays")) == (1, 7)
    assert "0 is no whole number from 1 up" in installation.run("topics", "create", "--partitions", "0").stderr


async def test_a_grown_topic_is_refused_with_the_remedy(installation: Installation) -> None:
    await installation.set_up()
    topic = installation.topics.clicks
    await admin(installation.kafka, lambda client: client.create_partitions({topic: NewPartitions(6)}))
    code, text = await ended(installation)
    assert code == REFUSED
    assert "6 partitions" in text
    code, said = await installation.set_up("check")
    assert code == 1
    assert "differ in their number of partitions" in said


async def test_a_flushed_redis_is_refused(installation: Installation) -> None:
    await installation.set_up()
    async with installation.redis() as redis:
        for partition in range(4):
            await redis.delete(Keys.meta(installation.keys.user_tag(partition)))
    code, text = await ended(installation)
    assert code == REFUSED
    assert "never initialised" in text


async def test_an_evicting_redis_is_refused(
    kafka: str, make_valkey: Make, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    valkey: Valkey = make_valkey(config={"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"})
    installation = Installation(kafka, valkey.url, topic_prefix, namespace, tmp_path)
    try:
        await installation.set_up()
        code, text = await ended(installation)
        assert code == REFUSED
        assert "noeviction" in text
        assert "noeviction" in (await installation.set_up("check"))[1]
    finally:
        installation.close()


async def test_wrong_settings_are_all_named_at_once(installation: Installation) -> None:
    code, text = await ended(installation, KAIROS_CHUNK="0", KAIROS_KAFKA="nowhere", KAIROS_ZONE="Atlantis")
    assert code == REFUSED
    assert all(name in text for name in ("KAIROS_CHUNK", "KAIROS_KAFKA", "KAIROS_ZONE"))
    assert "Traceback" not in text


async def test_a_producer_that_does_not_use_murmur2_is_found(installation: Installation) -> None:
    await installation.set_up()
    good = events(installation.topics, 30)
    await installation.send(good, partition=0)
    code, said = await installation.set_up("check")
    assert code == 1
    assert "partitioner=murmur2_random" in said
