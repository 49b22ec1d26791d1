"""What leaves the stream worker for Kafka: sent by an idempotent producer, and awaited until the brokers have it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

from schemas import dead_letters
from streams.deltas import DeltaRecord
from streams.pipeline import Rejected
from streams.topic_plan import LARGEST_DEAD_LETTER_BYTES

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
CLOSE_WITHIN_S = 3.0
HOPELESS = (InvalidTopicError, MessageSizeTooLargeError, TopicAuthorizationFailedError, UnsupportedVersionError)


class Outgoing(NamedTuple):
    """One record to send; `partition` None leaves the choice to the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


class SinkError(Exception):
    """Kafka refuses a record in a way that trying again cannot change."""


class Outbox:
    """One producer. `trouble` is what holds sends up at the moment, None when nothing does; `sent` counts records."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self._options = {
            **kafka,
            "acks": "all",
            "enable_idempotence": True,
            "max_request_size": LARGEST_DEAD_LETTER_BYTES,
        }
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self.trouble: str | None = None
        self.sent = 0

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Return when every message is kept by all in-sync replicas; raises SinkError.

        While Kafka is away this waits. A message whose acknowledgement was lost may be sent twice.
        """
        pause_s, left = FIRST_PAUSE_S, list(messages)
        while left:
            failed = await self._attempt(left)
            if not failed:
                break
            left = [message for message, _ in failed]
            self._note(failed[0][1], len(left))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self.trouble = None
        self.sent += len(messages)

    async def stop(self) -> None:
        """Close the producer within a few seconds; nobody may be waiting in `send` any more."""
        producer, self._producer = self._producer, None
        closing = [*self._closing, *([asyncio.create_task(producer.stop())] if producer else [])]
        if closing:
            _, late = await asyncio.wait(closing, timeout=CLOSE_WITHIN_S)
            for task in late:
                task.cancel()

    async def _attempt(self, messages: Sequence[Outgoing]) -> list[tuple[Outgoing, BaseException]]:
        """Send once; what failed, and why. Raises SinkError."""
        try:
            producer = await self._open()
            pending = [await self._enqueue(producer, message) for message in messages]
        except (KafkaError, OSError) as error:
            self._judge(error)
            return [(message, error) for message in messages]
        results = await asyncio.gather(*pending, return_exceptions=True)
        failed = [(m, r) for m, r in zip(messages, results, strict=True) if isinstance(r, BaseException)]
        for _, reason in failed:
            self._judge(reason)
        return failed

    @staticmethod
    async def _enqueue(producer: AIOKafkaProducer, message: Outgoing) -> Any:
        return await producer.send(
            message.topic,
            key=message.key,
            value=message.value,
            headers=list(message.headers),
            partition=message.partition,
        )

    async def _open(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**self._options)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _judge(self, error: BaseException) -> None:
        if isinstance(error, HOPELESS) or not isinstance(error, KafkaError | OSError):
            message = (
                f"Kafka refuses a record that has to be kept ({type(error).__name__}: {error}). The worker ends before "
                "it loses anything: check the topic's max.message.bytes and the permissions of this user."
            )
            raise SinkError(message) from error
        passing = isinstance(error, OSError | KafkaConnectionError | KafkaTimeoutError) or error.retriable
        producer = self._producer
        if producer is not None and not passing:
            # A producer that lost a batch has a gap in its sequence, and brokers refuse all that follows. What others
            # still wait for in it is sent to its end in the background.
            self._producer = None
            closing = asyncio.create_task(producer.stop())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _note(self, error: BaseException, left: int) -> None:
        if self.trouble is None:
            logger.warning("Kafka does not take %d records yet, trying again until it does: %r", left, error)
        self.trouble = f"Kafka does not take records: {type(error).__name__}: {error}"


class DeadLetterSink:
    """Buries rejected records in the dead letters topic, keyed as they came."""

    def __init__(self, outbox: Outbox, topic: str, now_ms: Callable[[], int]) -> None:
        self.outbox, self.topic, self.now_ms = outbox, topic, now_ms

    async def send(self, letters: Sequence[Rejected]) -> None:
        """Return when all are kept; raises SinkError."""
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
        key, value, headers = dead_letters.encode(letter)
        return Outgoing(self.topic, key, value, headers)


class DeltaSink:
    """Sends delta records to the deltas topic, each to its own partition."""

    def __init__(self, outbox: Outbox, topic: str) -> None:
        self.outbox, self.topic = outbox, topic

    async def send(self, records: Sequence[DeltaRecord]) -> None:
        """Return when all are kept; raises SinkError."""
        await self.outbox.send(
            [Outgoing(self.topic, None, record.value, record.headers, record.partition) for record in records]
        )
