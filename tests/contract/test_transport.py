"""The transport on a real broker: chunks are whole and stamped, seeks are honoured, commits follow what is settled."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import mode
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from faust.types import TP

from streams.chunks.audit import Audit
from streams.chunks.chunk import Chunk, LogFacts
from streams.chunks.chunking import Chunking, LogCut
from streams.chunks.consumer import ChunkConsumer
from streams.chunks.topic_ids import topic_facts
from streams.chunks.transport import ChunkedApp, RawSchema

PARTITIONS = 2


class Reader:
    """A worker in this process that keeps its fences in a dict and its records in a list."""

    def __init__(self, kafka: str, topic: str, folder: Path, **chunking: Any) -> None:
        self.fences: dict[tuple[str, int], int] = {}
        self.records: list[tuple[int, int, bytes | None]] = []
        self.chunks: list[Chunk] = []
        self.facts: list[LogFacts] = []
        self.hold: Callable[[Chunk], Awaitable[bool]] | None = None
        self.app = ChunkedApp(
            f"g-{topic}",
            chunking=Chunking(self.positions, **{"fetch_wait_ms": 20, "records": 10, **chunking}),
            broker=f"kairos://{kafka}",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            datadir=str(folder / "faust"),
            stream_buffer_maxsize=4,
            agent_supervisor=mode.CrashingSupervisor,
            table_standby_replicas=1,
            stream_wait_empty=False,
            broker_commit_interval=0.2,
            broker_session_timeout=6,
            broker_heartbeat_interval=1,
            broker_request_timeout=40,
        )
        self.app.agent(self.app.topic(topic, schema=RawSchema()), isolated_partitions=True)(self._consume)

    async def positions(self, facts: Sequence[LogFacts]) -> Mapping[TP, int]:
        self.facts += facts
        return {TP(f.topic, f.partition): self.fences.get((f.topic, f.partition), f.log_start - 1) + 1 for f in facts}

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            chunk = cast("Chunk", event.value)
            if chunk.epoch != self.consumer.epoch(TP(chunk.topic, chunk.partition)):
                continue
            if self.hold is not None and await self.hold(chunk):
                continue
            fence = self.fences.get((chunk.topic, chunk.partition), -1)
            assert chunk.prev <= fence
            self.chunks.append(chunk)
            self.records += [(chunk.partition, r.offset, r.value) for r in chunk.records if r.offset > fence]
            self.fences[chunk.topic, chunk.partition] = max(fence, chunk.last)
            event.ack()

    async def reload_fence(self, topic: str, partition: int) -> int:
        return self.fences.get((topic, partition), -1)

    @property
    def consumer(self) -> ChunkConsumer:
        return cast("ChunkConsumer", self.app.consumer)


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what a crash leaves in Faust's thread
async def test_a_log_cut_under_the_reader_ends_it(kafka: str, topic: str, reader: Reader) -> None:
    await send(kafka, topic, numbered(30))
    await reader.app.start()
    await until(lambda: len(reader.records) == 30)
    async with admin(kafka) as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=20)})
    await reader.consumer.rewind(TP(topic, 0), 5)
    await until(reader.app._crashed.is_set)
    assert isinstance(reader.app._crash_reason, LogCut)
    assert "no longer has offset 5" in str(reader.app._crash_reason)
    await asyncio.wait_for(reader.app.stop(), 30)
    thread = reader.consumer._thread._thread
    assert thread is not None
    await asyncio.to_thread(thread.join, 30)  # mode does not always wait for a crashed thread; this loop outlives it
    assert not thread.is_alive()
    gc.collect()


async def test_the_audit_rewinds_a_fence_that_went_back_on_the_second_look(
    kafka: str, topic: str, reader: Reader
) -> None:
    await send(kafka, topic, numbered(20))
    await reader.app.start()
    tp = TP(topic, 0)
    await until(lambda: len(reader.records) == 20 and not reader.consumer.in_flight(tp))
    audit = Audit(reader.app, reader)
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
