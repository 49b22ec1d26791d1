"""What the pipelines send to Kafka: dead letters as they came, and item deltas to their partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schemas import dead_letters
from schemas.encoding import Message
from streams.deltas import DeltaRecord
from streams.pipeline import Rejected
from streams.service.outbox import Outbox, Outgoing


class DeadLetterSink:
    """Buries rejected records in the dead letters topic, keyed as they came."""

    def __init__(self, outbox: Outbox, topic: str, now_ms: Callable[[], int]) -> None:
        self.outbox, self.topic, self.now_ms = outbox, topic, now_ms

    async def send(self, letters: Sequence[Rejected]) -> None:
        """Return when all are kept; raises OutboxError."""
        now_ms = self.now_ms()
        await self.outbox.send([self._message(letter, now_ms) for letter in letters])

    def _message(self, rejected: Rejected, now_ms: int) -> Outgoing:
        record = rejected.record
        letter = dead_letters.bury(
            topic=rejected.topic,
            partition=rejected.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            reason=rejected.reason,
            detail=rejected.detail,
            now_ms=now_ms,
        )
        return Outgoing(self.topic, dead_letters.encode(letter))


class DeltaSink:
    """Sends delta records to the deltas topic, each to its own partition."""

    def __init__(self, outbox: Outbox, topic: str) -> None:
        self.outbox, self.topic = outbox, topic

    async def send(self, records: Sequence[DeltaRecord]) -> None:
        """Return when all are kept; raises OutboxError."""
        await self.outbox.send(
            [Outgoing(self.topic, Message(None, record.value, record.headers), record.partition) for record in records]
        )
