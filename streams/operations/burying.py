"""Dead letters of what a run has passed and the live namespace has not: a replay sends none, and nobody else would.

Where both follow the log there are none: the live namespace has applied, and so sent, what the run has. Where it stands
still a promotion sends them before it moves anybody: again when it is killed in between, never not at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from schemas.events import decode_run
from schemas.items import decode_items
from streams.chunks.chunk import Chunk, LogFacts
from streams.opened import declared
from streams.operations.between import ground
from streams.operations.catching_up import followed
from streams.pipeline import DeadLetters, Rejected
from streams.replay.folding import Folding
from streams.replay.job import Job
from streams.replay.work import limits
from streams.service.clock import Clock
from streams.service.outbox import Outbox
from streams.service.redis import Client
from streams.settings import FoldSettings
from streams.sinks import DeadLetterSink
from streams.tables.attempt import Verdict
from streams.tables.part import Outcome
from streams.topic_plan import LARGEST_RECORD_BYTES


async def bury(client: Client, settings: FoldSettings, live: str, keep: Callable[[], Awaitable[None]]) -> None:
    """Send the letters of what the namespace that the settings name has passed and `live` has not.

    `keep` is called all the while. Raises ReplayError, OutboxError, KafkaError and OSError.
    """
    ranges = (await ground(client, settings, live)).other_lacks()
    if not ranges:
        return
    outbox = Outbox(settings.connections, largest_record_bytes=LARGEST_RECORD_BYTES)
    sink = DeadLetterSink(outbox, settings.connections.topics.dead_letters, Clock())
    job = Job("count", settings.connections.namespace, "dry-run", ranges, settings.chunk)
    try:
        partitions = {r.topic: r.partitions for r in ranges}
        await followed(Folding(job, settings, Burying(settings, partitions, sink)), keep)
    finally:
        await outbox.stop()


class Burying:
    """Sends what is no event and no item to `sink`; `partitions` of each topic."""

    def __init__(self, settings: FoldSettings, partitions: dict[str, int], sink: DeadLetters) -> None:
        topics, declaration = settings.connections.topics, declared(settings)
        self.limits, self.partitions, self.sink, self.items_topic = limits(settings, {}), partitions, sink, topics.items
        self.now_ms = Clock()
        words = ("clicks", "browses", "orders", "feedback")
        self._kinds = {getattr(topics, word): declaration.wire_kinds(word) for word in words}

    async def start(self, facts: LogFacts) -> int:
        return facts.log_start

    async def process(self, chunks: Sequence[Chunk]) -> Sequence[Verdict]:
        letters = [letter for chunk in chunks for letter in self._letters(chunk)]
        if letters:
            await self.sink.send(letters)
        return [Outcome.APPLIED] * len(chunks)

    async def kept(self, topic: str, partition: int) -> int:  # noqa: ARG002
        return 1 << 62

    def counts(self) -> dict[str, int]:
        return {}

    async def close(self) -> None:
        """Nothing is open."""

    def _letters(self, chunk: Chunk) -> list[Rejected]:
        records, home = chunk.records, (chunk.partition, self.partitions[chunk.topic])
        most = self.limits.max_value_bytes
        if chunk.topic == self.items_topic:
            rejects = decode_items(records, max_value_bytes=most, home=home).rejects
        else:
            rejects = decode_run(
                records,
                kinds=self._kinds[chunk.topic],
                now_ms=self.now_ms(),
                max_skew_ms=self.limits.max_skew_ms,
                horizon_ms=self.limits.horizon_ms,
                max_value_bytes=most,
                home=home,
                heard_ms=[record.timestamp for record in records],
            ).rejects
        return [Rejected(chunk.topic, chunk.partition, records[r.index], r.reason, r.detail) for r in rejects]
