"""The raw ceiling: aiokafka's getmany and a msgspec decoder, no state; arguments: host:port, topic, partitions."""

import sys

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.reference import APPLIED


class Scene(msgspec.Struct):
    """The one field of a scene."""

    device: str


class Event(msgspec.Struct):
    """An event of the reference work, all fields."""

    user_id: str
    item_id: str
    kind: str
    ts_ms: int
    scene: Scene
    dwell_ms: int
    price: float


async def consume(kafka: str, topic: str, count: int) -> int:
    """Read and decode the topic from its start to its present end; the sum of the times proves that all were read."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in range(count)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        decode = msgspec.json.Decoder(Event).decode
        left, total = sum(ends.values()), 0
        while left > 0:
            for records in (await consumer.getmany(timeout_ms=500, max_records=2_000)).values():
                total += sum(decode(record.value).ts_ms for record in records)
                left -= len(records)
        return total
    finally:
        await consumer.stop()


if __name__ == "__main__":
    print(APPLIED, uvloop.run(consume(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
    sys.stdin.read()
