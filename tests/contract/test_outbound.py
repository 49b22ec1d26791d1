"""What leaves the model worker: awaited on a real broker, in the lease's partition, given up only when hopeless."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import Broker
from model_server.outbound import Outbound, OutboundError, Outgoing
from schemas.encoding import Message
from schemas.partition import partition_of
from streams.service.kafka import producer_options
from tests.affected import Shop, open_shop


@pytest.fixture
async def shop(kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(kafka, redis_url, topic_prefix, namespace, tmp_path) as opened:
        yield opened


def outbound(shop: Shop, partitions: int, **more: Any) -> Outbound:
    return Outbound({**producer_options(shop.settings().connections), **more}, partitions)


def records(shop: Shop, n: int, partition: int, size: int = 10) -> list[Outgoing]:
    topic = shop.installation.topics.decisions
    return [Outgoing(topic, partition, Message(b"u%d" % i, b"x" * size, [("ce_id", b"1")])) for i in range(n)]


async def test_a_record_lies_in_the_partition_of_its_lease(shop: Shop) -> None:
    sender = outbound(shop, partitions=4)
    await sender.send(records(shop, 20, partition=3))
    await sender.stop()
    found = await shop.installation.read(shop.installation.topics.decisions)
    assert [(record.partition, record.key) for record in found] == [(3, b"u%d" % i) for i in range(20)]
    assert found[0].headers == (("ce_id", b"1"),)


async def test_a_topic_with_another_partition_count_is_partitioned_by_key(shop: Shop) -> None:
    sender = outbound(shop, partitions=9)
    await sender.send(records(shop, 20, partition=3))
    await sender.stop()
    found = await shop.installation.read(shop.installation.topics.decisions)
    assert len(found) == 20
    assert all(record.partition == partition_of(record.key, 4) for record in found)


async def test_a_record_no_broker_will_take_is_a_sentence_with_the_way_out(shop: Shop) -> None:
    sender = outbound(shop, partitions=4)
    with pytest.raises(OutboundError, match=r"max\.message\.bytes"):
        await sender.send(records(shop, 1, partition=0, size=2_000_000))
    await sender.stop()


async def test_sending_waits_for_a_broker_that_is_away_and_loses_nothing(
    make_broker: Callable[..., Broker], redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    broker = make_broker()
    async with open_shop(broker.address, redis_url, topic_prefix, namespace, tmp_path) as shop:
        sender = outbound(shop, partitions=4, request_timeout_ms=3_000)
        await sender.send(records(shop, 1, partition=0))
        broker.kill()
        sending = asyncio.create_task(sender.send(records(shop, 5, partition=0)))
        await asyncio.sleep(5)
        assert not sending.done()
        broker.start()
        await asyncio.wait_for(sending, 60)
        assert sender.trouble is None
        await sender.stop()
        keys = [record.key for record in await shop.installation.read(shop.installation.topics.decisions)]
        assert sorted(set(keys)) == [b"u%d" % i for i in range(5)]
