"""Topics for one run, and events put into them in whole batches, keyed by user with murmur2."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.partition import partitions_of
from tests.bench.traffic import Traffic

BATCH_BYTES = 65_536


async def create(kafka: str, topics: Mapping[str, int]) -> None:
    """Create topics with these numbers of partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, n, 1) for name, n in topics.items()])
    finally:
        await admin.close()


async def publish(kafka: str, topic_of: Sequence[str], traffic: Traffic, partitions: int) -> None:
    """Send every event to the topic of its kind (`topic_of` by kind code), in order within each partition.

    Records are stamped now: under event times of long ago, retention would delete them while we measure.
    """
    keys, values = traffic.keys(), traffic.values()
    partition = partitions_of(keys, partitions)
    topics = np.array(topic_of)[traffic.kind]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=BATCH_BYTES, linger_ms=5)
    await producer.start()
    try:
        for topic in sorted(set(topic_of)):
            for p in range(partitions):
                chosen = np.flatnonzero((topics == topic) & (partition == p)).tolist()
                await _send(producer, topic, p, [(keys[i], values[i]) for i in chosen])
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
    acknowledged: list[asyncio.Future[object]] = []
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    if batch.record_count():
        acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*acknowledged)
