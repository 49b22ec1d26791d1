"""A worker of the transport in this process, over a fence in a dict, for tests on a real broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import mode
from faust.types import TP

from streams.chunks.chunk import Chunk, LogFacts
from streams.chunks.chunking import Chunking, Start
from streams.chunks.consumer import ChunkConsumer
from streams.chunks.transport import ChunkedApp, RawSchema


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

    async def positions(self, facts: Sequence[LogFacts]) -> Mapping[TP, Start]:
        self.facts += facts
        return {TP(f.topic, f.partition): self._start(f) for f in facts}

    def _start(self, facts: LogFacts) -> Start:
        needed = self.fences.get((facts.topic, facts.partition), facts.log_start - 1) + 1
        return Start(needed, "records were lost" if facts.log_start > needed else "")

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

    async def pass_over(self, chunk: Chunk) -> None:
        assert not chunk.records
        assert chunk.prev <= self.fences[chunk.topic, chunk.partition] < chunk.last
        self.fences[chunk.topic, chunk.partition] = chunk.last

    @property
    def consumer(self) -> ChunkConsumer:
        return cast("ChunkConsumer", self.app.consumer)
