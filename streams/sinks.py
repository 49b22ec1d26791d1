"""What the pipelines send to Kafka: dead letters as they came, and item deltas to their partitions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from schemas import dead_letters
from schemas.encoding import Message
from streams.deltas import DeltaRecord
from streams.pipeline import Rejected
from streams.service.outbox import Outbox, Outgoing

TELL_AGAIN_S = 60.0
logger = logging.getLogger(__name__)


class DeadLetterSink:
    """Buries rejected records in the dead letters topic, keyed as they came."""

    def __init__(self, outbox: Outbox, topic: str, now_ms: Callable[[], int]) -> None:
        self.outbox, self.topic, self.now_ms = outbox, topic, now_ms
        self._told: dict[str, tuple[float, int]] = {}

    async def send(self, letters: Sequence[Rejected]) -> None:
        """Return when all are kept; raises OutboxError."""
        now_ms = self.now_ms()
        await self.outbox.send([self._message(letter, now_ms) for letter in letters])
        self._tell(letters)

    def _tell(self, letters: Sequence[Rejected]) -> None:
        """Log the first of each reason, and again after a while: a producer's fault may spoil every record."""
        now_s = time.monotonic()
        for letter in letters:
            told_s, untold = self._told.get(letter.reason, (-TELL_AGAIN_S, 0))
            if now_s - told_s < TELL_AGAIN_S:
                self._told[letter.reason] = told_s, untold + 1
                continue
            place = f"{letter.topic}:{letter.partition} offset {letter.record.offset}"
            more = f" ({untold} more since the last such line)" if untold else ""
            logger.warning("Dead letter (%s) from %s: %s%s", letter.reason, place, letter.detail, more)
            self._told[letter.reason] = now_s, 0

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
