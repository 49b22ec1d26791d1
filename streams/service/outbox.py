"""What leaves a service for Kafka: sent by an idempotent producer, and awaited until the brokers have it."""

import asyncio
import logging
from collections.abc import Sequence
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

from schemas.encoding import Message
from streams.service.entry import entering
from streams.service.kafka import calm, producer_options, silence
from streams.service.settings import Connections

LARGEST_BATCH_BYTES = 512 * 1024
"""Of one request to a partition: at aiokafka's 16 KiB a record costs 37 us, at this size 14 us. Brokers take 1 MiB."""
LARGEST_RECORD_BYTES = 1024 * 1024
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
CLOSE_WITHIN_S = 3.0
HOPELESS = (InvalidTopicError, MessageSizeTooLargeError, TopicAuthorizationFailedError, UnsupportedVersionError)

log = logging.getLogger(__name__)


class OutboxError(Exception):
    """Kafka refuses a record in a way that trying again cannot change."""


class Outgoing(NamedTuple):
    """One record to send; `partition` None leaves the choice to the key."""

    topic: str
    message: Message
    partition: int | None = None


class Outbox:
    """One producer; `trouble` is what holds sends up at the moment, None when nothing does; `sent` counts records.

    `partitions`, where given, is the count for which records name their partition: in a topic with another count the
    key chooses instead. Without it the partition named is always the one.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        partitions: int | None = None,
        largest_record_bytes: int = LARGEST_RECORD_BYTES,
        request_timeout_ms: int = 40_000,
    ) -> None:
        self._connections, self.partitions = connections, partitions
        self._options = {
            **producer_options(connections),
            "max_batch_size": LARGEST_BATCH_BYTES,
            "max_request_size": largest_record_bytes,
            "request_timeout_ms": request_timeout_ms,
        }
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._trouble: str | None = None
        self.sent = 0

    @property
    def trouble(self) -> str | None:
        """What holds sends up at the moment, or would; None when nothing does."""
        return self._trouble or (self._producer and silence(self._producer.client)) or None

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all in-sync replicas have every record; waits while Kafka is away. Raises OutboxError.

        A record whose acknowledgement was lost may be sent twice.
        """
        pause_s, left = FIRST_PAUSE_S, list(records)
        while left:
            failed = await self._attempt(left)
            if not failed:
                break
            left = [record for record, _ in failed]
            self._note(failed[0][1], len(left))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._trouble = None
        self.sent += len(records)

    async def start(self) -> None:
        """Connect now, not at the first record. Raises KafkaError or OSError, and may be called again."""
        async with entering(self._connections):
            await self._open()

    async def stop(self) -> None:
        """Close the producer within a few seconds; nobody may be waiting in `send` any more."""
        self._part_with(self._producer)
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=CLOSE_WITHIN_S)
            for task in late:
                log.warning("A producer did not close within %g s; nobody waits for what it holds.", CLOSE_WITHIN_S)
                task.cancel()

    async def _attempt(self, records: Sequence[Outgoing]) -> list[tuple[Outgoing, BaseException]]:
        """Send once; what failed, and why. Raises OutboxError."""
        producer: AIOKafkaProducer | None = None
        try:
            producer = await self._open()
            pending = await self._enqueue(producer, records)
        except (KafkaError, OSError) as error:
            self._judge(error, producer)
            return [(record, error) for record in records]
        results = await asyncio.gather(*pending, return_exceptions=True)
        failed = [(r, e) for r, e in zip(records, results, strict=True) if isinstance(e, BaseException)]
        for reason in {type(e): e for _, e in failed}.values():
            self._judge(reason, producer)
        return failed

    async def _enqueue(self, producer: Any, records: Sequence[Outgoing]) -> list["asyncio.Future[Any]"]:
        """The acknowledgements to come, in the order of the records."""
        by_key = set()
        if self.partitions is not None:
            topics = {record.topic for record in records}
            by_key = {topic for topic in topics if len(await producer.partitions_for(topic)) != self.partitions}
        return [
            await producer.send(
                topic,
                message.value,
                message.key,
                partition=None if topic in by_key else partition,
                headers=message.headers,
            )
            for topic, message, partition in records
        ]

    async def _open(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**self._options)
                calm(producer.client)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _judge(self, error: BaseException, producer: AIOKafkaProducer | None) -> None:
        """Whether it can pass, and whether this producer can go on. Raises OutboxError where it cannot pass."""
        if isinstance(error, HOPELESS) or not isinstance(error, KafkaError | OSError):
            text = (
                f"Kafka refuses a record that has to be kept ({type(error).__name__}: {error}). The worker ends before "
                "it loses anything: check the topic's max.message.bytes and the permissions of this user, then start "
                "again."
            )
            raise OutboxError(text) from error
        if not isinstance(error, OSError | KafkaConnectionError | KafkaTimeoutError) and not error.retriable:
            # A producer that lost a batch has a gap in its sequence, and brokers refuse all that follows.
            self._part_with(producer)

    def _part_with(self, producer: AIOKafkaProducer | None) -> None:
        """Close in the background: what others still wait for in it is sent to its end."""
        # Of two senders that saw the same failure, the second must not close what the first already opened anew.
        if producer is not None and producer is self._producer:
            self._producer = None
            closing = asyncio.create_task(_close(producer))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _note(self, error: BaseException, left: int) -> None:
        if self._trouble is None:
            log.warning("Kafka does not take %d records yet, trying again until it does: %r", left, error)
        self._trouble = f"Kafka does not take records: {type(error).__name__}: {error}"


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except (KafkaError, OSError) as error:
        log.warning("A producer did not close in order: %r", error)
