"""What leaves for Kafka is kept when `send` returns, waits while Kafka is away, and is refused only for good."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.stack import Broker
from schemas.encoding import Message
from schemas.partition import partition_of
from streams.service import kafka as kafka_client
from streams.service import settings
from streams.service.outbox import Outbox, OutboxError, Outgoing
from streams.service.settings import Connections
from tests.affected import until
from tests.installation import Reader

TOPIC = "outbox"
PARTITIONS = 4
MIB = 1024 * 1024


class Kept(NamedTuple):
    """A record as the topic holds it."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@asynccontextmanager
async def administering(kafka: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create(kafka: str, name: str, **config: str) -> str:
    async with administering(kafka) as admin:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=config)])
    return name


async def kept(kafka: str, topic: str, n: int) -> list[Kept]:
    """At least `n` records of a topic."""
    found: list[Kept] = []
    async with Reader(kafka) as consumer, asyncio.timeout(20):
        tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        while len(found) < n:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found += [Kept(tp.partition, record.key, record.value, record.headers) for record in records]
    return found


@asynccontextmanager
async def opened(kafka: str, **options: Any) -> AsyncIterator[Outbox]:
    outbox = Outbox(settings.read(Connections, {"KAIROS_KAFKA": kafka}), **options)
    try:
        yield outbox
    finally:
        await outbox.stop()


def outgoing(topic: str, key: bytes | None, value: bytes | None = b"x", partition: int | None = None) -> Outgoing:
    return Outgoing(topic, Message(key, value, [("ce_id", b"1")]), partition)


@pytest.mark.parametrize("partitions", [None, PARTITIONS])
async def test_records_are_kept_where_they_were_sent(kafka: str, topic_prefix: str, partitions: int | None) -> None:
    topic = await create(kafka, topic_prefix + TOPIC)
    async with opened(kafka, partitions=partitions) as outbox:
        await outbox.send([outgoing(topic, b"u%d" % i, partition=3) for i in range(20)])
        await outbox.send([outgoing(topic, None, b"without a key", partition=2)])
        await outbox.send([outgoing(topic, b"without a value", None)])
        assert outbox.sent == 22
        assert outbox.trouble is None
    found = await kept(kafka, topic, 22)
    named = [(record.partition, record.key) for record in found if record.value == b"x"]
    assert named == [(3, b"u%d" % i) for i in range(20)]
    assert (2, b"without a key") in [(record.partition, record.value) for record in found]
    home = partition_of(b"without a value", PARTITIONS)
    assert (home, b"without a value", None) in [record[:3] for record in found]
    assert all(tuple(record.headers) == (("ce_id", b"1"),) for record in found)


async def test_a_topic_with_another_partition_count_is_partitioned_by_key(kafka: str, topic_prefix: str) -> None:
    topic = await create(kafka, topic_prefix + TOPIC)
    async with opened(kafka, partitions=9) as outbox:
        await outbox.send([outgoing(topic, b"u%d" % i, partition=3) for i in range(20)])
    found = await kept(kafka, topic, 20)
    assert len(found) == 20
    assert all(record.partition == partition_of(record.key or b"", PARTITIONS) for record in found)


@pytest.mark.parametrize("size_bytes", [5_000, 2_000_000])
async def test_a_record_no_broker_will_take_is_a_sentence_with_the_way_out(
    kafka: str, topic_prefix: str, size_bytes: int
) -> None:
    topic = await create(kafka, topic_prefix + TOPIC, **{"max.message.bytes": "1000"})
    async with opened(kafka) as outbox:
        with pytest.raises(OutboxError, match=r"max\.message\.bytes"):
            await outbox.send([outgoing(topic, b"k", b"x" * size_bytes)])


async def test_a_record_may_be_as_large_as_the_topic_takes(kafka: str, topic_prefix: str) -> None:
    topic = await create(kafka, topic_prefix + TOPIC, **{"max.message.bytes": str(4 * MIB)})
    sizes = [3 * MIB, 10, 400_000, 400_000, 3 * MIB, 10]
    async with opened(kafka, largest_record_bytes=4 * MIB) as outbox:
        await outbox.send([outgoing(topic, b"k", b"x" * size) for size in sizes])
    assert [len(record.value or b"") for record in await kept(kafka, topic, len(sizes))] == sizes


async def test_a_producer_that_lost_a_batch_is_replaced_and_others_lose_nothing(kafka: str, topic_prefix: str) -> None:
    topic = await create(kafka, topic_prefix + TOPIC)
    compacted = await create(kafka, topic_prefix + "compacted", **{"cleanup.policy": "compact"})
    async with opened(kafka) as outbox:
        await outbox.start()
        await outbox.send([outgoing(compacted, b"k", b"first", i) for i in range(2)])
        # A compacted topic refuses records without a key, in a way that an operator can mend.
        refused = [asyncio.create_task(outbox.send([outgoing(compacted, None, b"%d" % i, i)])) for i in range(2)]
        taken = [asyncio.create_task(outbox.send([outgoing(topic, b"u%d" % i)])) for i in range(20)]
        await asyncio.gather(*taken)
        await asyncio.sleep(0.5)
        await outbox.send([outgoing(topic, b"u20")])
        assert not any(task.done() for task in refused)
        async with administering(kafka) as admin:
            change = ConfigResource(ConfigResourceType.TOPIC, compacted, configs={"cleanup.policy": "delete"})
            await admin.alter_configs([change])
        async with asyncio.timeout(20):
            await asyncio.gather(*refused)
        assert outbox.trouble is None
    late = [record.value for record in await kept(kafka, compacted, 4) if record.key is None]
    assert sorted(late, key=str) == [b"0", b"1"]
    found = [record.key for record in await kept(kafka, topic, 21)]
    assert sorted(found, key=str) == sorted([b"u%d" % i for i in range(21)], key=str)


async def test_sending_waits_for_a_broker_that_is_away_and_loses_nothing(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    topic = await create(broker.address, TOPIC)
    async with opened(broker.address, request_timeout_ms=2_000) as outbox:
        await outbox.send([outgoing(topic, b"before")])
        await asyncio.to_thread(broker.kill)
        sending = [asyncio.create_task(outbox.send([outgoing(topic, b"%d" % i)])) for i in range(5)]
        await asyncio.sleep(6)
        assert not any(task.done() for task in sending)
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(60):
            await asyncio.gather(*sending)
        assert outbox.trouble is None
    found = {record.key for record in await kept(broker.address, topic, 6)}
    assert found == {b"before", b"0", b"1", b"2", b"3", b"4"}


async def test_a_broker_that_keeps_its_connections_and_answers_nothing_is_told(
    make_broker: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "SILENT_S", 1.0)
    broker = make_broker()
    topic = await create(broker.address, TOPIC)
    async with opened(broker.address) as outbox:
        await outbox.send([outgoing(topic, b"before")])
        assert outbox.trouble is None
        broker.pause()
        sending = asyncio.create_task(outbox.send([outgoing(topic, b"held")]))
        await until(lambda: asyncio.sleep(0, result=outbox.trouble))
        assert "has not answered a request" in str(outbox.trouble)
        broker.resume()
        async with asyncio.timeout(30):
            await sending
        assert outbox.trouble is None
        broker.kill()
        await asyncio.sleep(1)
        assert "No connection to Kafka is up" in str(outbox.trouble)


async def test_an_outbox_made_while_kafka_is_away_sends_when_it_comes(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    topic = await create(broker.address, TOPIC)
    await asyncio.to_thread(broker.stop)
    async with opened(broker.address, request_timeout_ms=2_000) as outbox:
        sending = asyncio.create_task(outbox.send([outgoing(topic, b"late")]))
        await asyncio.sleep(3)
        assert (outbox.trouble or "").startswith("Kafka does not take records: ")
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(30):
            await sending
        assert outbox.trouble is None
    assert [record.key for record in await kept(broker.address, topic, 1)] == [b"late"]
