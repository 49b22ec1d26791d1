"""What leaves the model worker for Kafka: sent by an idempotent producer, and awaited until the brokers have it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
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

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
CLOSE_WITHIN_S = 3.0
HOPELESS = (InvalidTopicError, MessageSizeTooLargeError, TopicAuthorizationFailedError, UnsupportedVersionError)


class OutboundError(Exception):
    """Kafka refuses a record in a way that trying again cannot change."""


class Outgoing(NamedTuple):
    """One record for a topic whose partitions are those of the user inputs, so that the lease names its partition."""

    topic: str
    partition: int
    message: Message


class Outbound:
    """One producer; `trouble` is what holds sends up at the moment, None when nothing does.

    `partitions` is the count of the user inputs: a topic with another count is partitioned by the key instead.
    """

    def __init__(self, options: Mapping[str, Any], partitions: int) -> None:
        self._options, self._partitions = dict(options), partitions
        self._producer: AIOKafkaProducer | None = None
        self.trouble: str | None = None

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all in-sync replicas have every record; waits while Kafka is away. Raises OutboundError.

        A record whose acknowledgement was lost may be sent twice: the gateway drops the double by its dedup key.
        """
        pause_s, left = FIRST_PAUSE_S, list(records)
        while left:
            try:
                left = await self._attempt(left)
            except (KafkaError, OSError) as error:
                await self._judge(error)
            if left:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self.trouble = None

    async def start(self) -> None:
        """Connect. Raises KafkaError or OSError, and may be called again."""
        if self._producer is None:
            producer = AIOKafkaProducer(**self._options)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer

    async def stop(self) -> None:
        """Close the producer within a few seconds."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), CLOSE_WITHIN_S)
            except (TimeoutError, KafkaError) as error:
                log.warning("The producer did not close in time, all it had to say was acknowledged: %r", error)

    async def _attempt(self, records: Sequence[Outgoing]) -> list[Outgoing]:
        """Send once and return what failed."""
        await self.start()
        producer: Any = self._producer
        shared = {
            topic: len(await producer.partitions_for(topic)) == self._partitions
            for topic in {record.topic for record in records}
        }
        pending = [
            await producer.send(
                topic,
                message.value,
                message.key,
                partition=partition if shared[topic] else None,
                headers=message.headers,
            )
            for topic, partition, message in records
        ]
        results = await asyncio.gather(*pending, return_exceptions=True)
        failed = [(r, e) for r, e in zip(records, results, strict=True) if isinstance(e, BaseException)]
        for error in {type(e): e for _, e in failed}.values():
            await self._judge(error)
        return [record for record, _ in failed]

    async def _judge(self, error: BaseException) -> None:
        """Remember what is wrong; raises OutboundError where it cannot pass."""
        if isinstance(error, HOPELESS) or not isinstance(error, KafkaError | OSError):
            text = (
                f"Kafka refuses a record that has to be kept ({type(error).__name__}: {error}), none was acknowledged. "
                "Check the topic's max.message.bytes and the permissions of this user, then start again."
            )
            raise OutboundError(text) from error
        if self.trouble is None:
            log.warning("Kafka does not take records, trying again until it does: %r", error)
        self.trouble = f"{type(error).__name__}: {error}"
        if not isinstance(error, OSError | KafkaConnectionError | KafkaTimeoutError) and not error.retriable:
            # A producer that lost a batch has a gap in its sequence, and brokers refuse all that follows.
            await self.stop()
