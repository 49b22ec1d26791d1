"""What leaves for Kafka is kept when `send` returns, waits while Kafka is away, and is refused only for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.stack import Broker
from streams.sinks import Outbox, Outgoing, SinkError
from tests.installation import Reader

TOPIC = "sink"


async def create(kafka: str, name: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1, topic_configs=config)])
    finally:
        await admin.close()


async def values(kafka: str, topic: str, n: int) -> list[tuple[int, bytes | None, bytes | None]]:
    """At least `n` records of a topic: partition, key, value."""
    found: list[tuple[int, bytes | None, bytes | None]] = []
    async with Reader(kafka) as consumer, asyncio.timeout(20):
        tps = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        while len(found) < n:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found += [(tp.partition, record.key, record.value) for record in records]
    return found


@pytest.fixture
async def outbox(kafka: str) -> AsyncIterator[Outbox]:
    made = Outbox({"bootstrap_servers": kafka})
    yield made
    await made.stop()


async def test_records_are_kept_where_they_were_sent(kafka: str, topic_prefix: str, outbox: Outbox) -> None:
    topic = topic_prefix + TOPIC
    await create(kafka, topic)
    await outbox.send([Outgoing(topic, None, b"%d" % i, [("n", b"1")], partition=i % 2) for i in range(10)])
    await outbox.send([Outgoing(topic, b"u1", None)])
    found = await values(kafka, topic, 11)
    assert sorted(v for p, _, v in found if p == 1 and v) == [b"1", b"3", b"5", b"7", b"9"]
    assert (b"u1", None) in [(key, value) for _, key, value in found]
    assert outbox.sent == 11
    assert outbox.trouble is None


async def test_a_record_that_kafka_will_never_take_is_refused(kafka: str, topic_prefix: str, outbox: Outbox) -> None:
    topic = topic_prefix + TOPIC
    await create(kafka, topic, **{"max.message.bytes": "1000"})
    with pytest.raises(SinkError, match=r"max\.message\.bytes"):
        await outbox.send([Outgoing(topic, b"k", b"x" * 5000)])


async def test_sending_waits_while_kafka_is_away(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    await create(broker.address, TOPIC)
    outbox = Outbox({"bootstrap_servers": broker.address, "request_timeout_ms": 2000})
    try:
        await outbox.send([Outgoing(TOPIC, b"k", b"before")])
        await asyncio.to_thread(broker.stop)
        sending = [asyncio.create_task(outbox.send([Outgoing(TOPIC, b"k", b"%d" % i)])) for i in range(5)]
        await asyncio.sleep(6)
        assert not any(task.done() for task in sending)
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(40):
            await asyncio.gather(*sending)
        assert outbox.trouble is None
        kept = {value for _, _, value in await values(broker.address, TOPIC, 6)}
        assert kept == {b"before", b"0", b"1", b"2", b"3", b"4"}
    finally:
        await outbox.stop()


async def test_an_outbox_made_while_kafka_is_away_sends_when_it_comes(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    await create(broker.address, TOPIC)
    await asyncio.to_thread(broker.stop)
    outbox = Outbox({"bootstrap_servers": broker.address, "request_timeout_ms": 2000})
    try:
        sending = asyncio.create_task(outbox.send([Outgoing(TOPIC, b"k", b"late")]))
        await asyncio.sleep(3)
        assert outbox.trouble is not None
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(30):
            await sending
        assert [value for _, _, value in await values(broker.address, TOPIC, 1)] == [b"late"]
    finally:
        await outbox.stop()
