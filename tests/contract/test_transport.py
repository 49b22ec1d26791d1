"""The transport on a real broker: chunks are whole and stamped, seeks are honoured, commits follow what is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.consumer.subscription_state import Subscription
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP

from streams.chunks.audit import Audit
from streams.chunks.chunk import Chunk
from streams.chunks.chunking import Start
from streams.chunks.holes import Holes
from streams.service.topic_ids import topic_facts
from tests.contract.reader import Reader

PARTITIONS = 2


@asynccontextmanager
async def admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def topic(kafka: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}log"
    async with admin(kafka) as client:
        await client.create_topics([NewTopic(name, PARTITIONS, 1)])
        while name not in await topic_facts(client._client, [name]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return name


@pytest.fixture
async def reader(kafka: str, topic: str, tmp_path: Path) -> AsyncIterator[Reader]:
    made = Reader(kafka, topic, tmp_path)
    yield made
    if made.app._started.is_set() and not made.app._crashed.is_set():
        await made.app.stop()


async def send(kafka: str, topic: str, values: Sequence[bytes], partition: int = 0, **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, **options)
    await producer.start()
    try:
        for value in values:
            await producer.send(topic, value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def numbered(n: int, first: int = 0) -> list[bytes]:
    return [b"%d" % i for i in range(first, first + n)]


async def test_every_record_arrives_once_in_chunks_that_join(kafka: str, topic: str, reader: Reader) -> None:
    await send(kafka, topic, numbered(95), 0)
    await send(kafka, topic, numbered(7), 1)
    await reader.app.start()
    await until(lambda: len(reader.records) == 102)
    for partition, n in ((0, 95), (1, 7)):
        mine = [c for c in reader.chunks if c.partition == partition]
        assert [c.prev for c in mine] == [-1, *[c.last for c in mine[:-1]]]
        assert all(len(c.records) <= 10 and c.first == c.records[0].offset for c in mine)
        assert sorted(o for p, o, _ in reader.records if p == partition) == list(range(n))
    assert {f.log_end for f in reader.facts} == {95, 7}
    assert all(f.partitions == PARTITIONS and len(f.topic_id) == 22 for f in reader.facts)


async def test_a_start_reads_from_the_fence_and_commits_it(kafka: str, topic: str, reader: Reader) -> None:
    await send(kafka, topic, numbered(50))
    reader.fences = {(topic, 0): 49, (topic, 1): -1}
    await reader.app.start()
    assert await committed(kafka, topic, 50)
    assert reader.records == []
    await send(kafka, topic, numbered(3, 50))
    assert await committed(kafka, topic, 53)
    assert [o for _, o, _ in reader.records] == [50, 51, 52]


async def committed(kafka: str, topic: str, offset: int) -> bool:
    """Whether the group commits this offset of partition 0 within 20 s."""
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=f"g-{topic}", enable_auto_commit=False)
    consumer.assign([tp])
    await consumer.start()
    try:
        for _ in range(200):
            if await consumer.committed(tp) == offset:
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        await consumer.stop()


async def test_a_rewind_reads_again_and_makes_earlier_chunks_stale(kafka: str, topic: str, reader: Reader) -> None:
    await send(kafka, topic, numbered(40))
    await reader.app.start()
    await until(lambda: len(reader.records) == 40)
    epoch = reader.consumer.epoch(TP(topic, 0))
    reader.fences[topic, 0] = 9
    reader.records.clear()
    await reader.consumer.rewind(TP(topic, 0), 10)
    await until(lambda: len(reader.records) == 30)
    assert reader.consumer.epoch(TP(topic, 0)) == epoch + 1
    assert [o for _, o, _ in reader.records] == list(range(10, 40))


async def test_a_seek_while_nothing_is_assigned_is_left_to_the_next_assignment(
    kafka: str, topic: str, reader: Reader
) -> None:
    await send(kafka, topic, numbered(40))
    await reader.app.start()
    await until(lambda: len(reader.records) == 40)
    thread = reader.consumer._thread

    async def seek_unassigned() -> tuple[int | None, int]:
        consumer = thread._ensure_consumer()
        known = consumer._subscription._subscription
        consumer._subscription._subscription = Subscription({topic}, loop=asyncio.get_running_loop())
        try:
            await thread._fence_seek({TP(topic, 0): Start(0)})
            thread._hold_back(consumer, OffsetOutOfRangeError({TopicPartition(topic, 1): 0}))
        finally:
            consumer._subscription._subscription = known
        return thread.prev.get(TP(topic, 0)), consumer._subscription._assigned_state(TopicPartition(topic, 0)).position

    assert await thread.call_thread(seek_unassigned) == (None, 40)
    await reader.consumer.perform_seek()
    await send(kafka, topic, numbered(3, 40))
    await until(lambda: len(reader.records) == 43)
    assert [o for _, o, _ in reader.records] == list(range(43))


async def test_nothing_is_committed_beyond_the_oldest_chunk_in_flight(kafka: str, topic: str, reader: Reader) -> None:
    await send(kafka, topic, numbered(30))

    async def drop_second(chunk: Chunk) -> bool:
        """Pretend that the second chunk is still being worked on, and that its records were applied."""
        if chunk.first == 10:
            reader.fences[topic, 0] = chunk.last
            return True
        return False

    reader.hold = drop_second
    await reader.app.start()
    await until(lambda: reader.fences.get((topic, 0)) == 29)
    await asyncio.sleep(0.6)
    assert reader.consumer._committed_offset[TP(topic, 0)] == 10
    assert reader.consumer.in_flight(TP(topic, 0)) == [19, 29]


async def test_gaps_of_transactions_are_no_holes(kafka: str, topic: str, reader: Reader) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t-{topic}")
    await producer.start()
    for turn in range(6):
        await producer.begin_transaction()
        for value in numbered(4, 4 * turn):
            await producer.send(topic, value, partition=0)
        await producer.flush()
        await (producer.abort_transaction() if turn % 2 else producer.commit_transaction())
    await producer.stop()
    await reader.app.start()
    await until(lambda: len(reader.records) == 12)
    assert [value for _, _, value in reader.records] == [
        b"%d" % i for turn in (0, 2, 4) for i in range(4 * turn, 4 * turn + 4)
    ]
    state = reader.consumer.log_state(TP(topic, 0))
    assert reader.consumer.log_state(TP(topic, 1_000)) == (-1, 0, 0), "taken away meanwhile, or never assigned"
    await until(lambda: reader.consumer.log_state(TP(topic, 0)).position == state.end)
    assert reader.fences[topic, 0] < state.end - 1

    # Which the fence moves over when nothing has come for a while, and reading goes on behind it.
    audit = Audit(reader.app, reader, reader.pass_over, pass_after_s=0.3)
    await until(lambda: not reader.consumer.in_flight(TP(topic, 0)))
    await audit.look(reader.consumer, TP(topic, 0))
    await audit.look(reader.consumer, TP(topic, 0))
    assert reader.fences[topic, 0] < state.end - 1
    await asyncio.sleep(0.4)
    await audit.look(reader.consumer, TP(topic, 0))
    assert reader.fences[topic, 0] == state.end - 1
    await send(kafka, topic, [b"next"])
    await until(lambda: reader.records[-1] == (0, state.end, b"next"))
    assert audit.rewinds == 0


async def test_a_log_cut_under_the_reader_stops_that_partition_alone(
    kafka: str, topic: str, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    await send(kafka, topic, numbered(30))
    await reader.app.start()
    await until(lambda: len(reader.records) == 30)
    holes = Holes(reader.app, say_every_s=2)
    looking = asyncio.create_task(holes.run())
    cut = TP(topic, 0)
    async with admin(kafka) as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=20)})
    reader.fences[topic, 0] = 4
    await reader.consumer.rewind(cut, 5)
    await until(lambda: reader.consumer.stopped == {cut: "records were lost"})
    await send(kafka, topic, numbered(5), partition=0)
    await send(kafka, topic, numbered(40), partition=1)
    await until(lambda: reader.fences.get((topic, 1)) == 39)
    await until(lambda: caplog.text.count("stands still, alone") >= 2)
    assert reader.fences[topic, 0] == 4
    assert reader.consumer.drained_to(cut) is None

    reader.fences[topic, 0] = 19  # somebody has mended it
    await until(lambda: reader.fences[topic, 0] == 34)
    assert not reader.consumer.stopped
    assert not reader.app._crashed.is_set()
    looking.cancel()


async def test_the_audit_rewinds_a_fence_that_went_back_on_the_second_look(
    kafka: str, topic: str, reader: Reader
) -> None:
    await send(kafka, topic, numbered(20))
    await reader.app.start()
    tp = TP(topic, 0)
    await until(lambda: len(reader.records) == 20 and not reader.consumer.in_flight(tp))
    audit = Audit(reader.app, reader, reader.pass_over)
    await audit.look(reader.consumer, tp)
    assert audit.rewinds == 0
    reader.fences[topic, 0] = 11
    reader.records.clear()
    await audit.look(reader.consumer, tp)
    assert audit.rewinds == 0
    await audit.look(reader.consumer, tp)
    assert audit.rewinds == 1
    await until(lambda: len(reader.records) == 8)
    assert reader.fences[topic, 0] == 19


async def test_full_buffers_pause_and_resume_without_waiting_a_second(kafka: str, topic: str, reader: Reader) -> None:
    await send(kafka, topic, numbered(300))
    await send(kafka, topic, numbered(300), 1)
    gate = asyncio.Event()

    async def wait(_: Chunk) -> bool:
        await gate.wait()
        return False

    reader.hold = wait
    await reader.app.start()
    await until(lambda: len(reader.consumer._buffered_partitions) == PARTITIONS)
    await asyncio.sleep(0.5)
    gate.set()
    started_s = asyncio.get_running_loop().time()
    await until(lambda: len(reader.records) == 600)
    await send(kafka, topic, numbered(1, 300))
    await until(lambda: len(reader.records) == 601)
    assert asyncio.get_running_loop().time() - started_s < 5
