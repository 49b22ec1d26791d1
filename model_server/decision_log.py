"""The log of decisions about one user, read from its newest end or around a moment."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import DecodeError
from rich.console import Console
from rich.progress import Progress, TaskID

from schemas.decisions import Decision, decode
from schemas.partition import partition_of
from streams.service.kafka import client_options
from streams.service.records import reader
from streams.service.settings import Connections

FIRST_WINDOW = 500
GROWTH = 4
LARGEST_WINDOW = 100_000
WAIT_MS = 1_000


class WhyError(Exception):
    """The decisions cannot be read; the text says what to do."""


class DecisionRecord(NamedTuple):
    """One decision and its record's bytes and offset."""

    offset: int
    value: bytes
    decision: Decision


class DecisionsAt(NamedTuple):
    """The newest decision at a moment or before it, and the one that followed; None where there is none."""

    at: DecisionRecord | None
    next: DecisionRecord | None


class DecisionLog:
    """One user's partition of the decisions topic; `bounds` are its first offset and its end (excluded)."""

    def __init__(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, key: bytes, bounds: tuple[int, int]
    ) -> None:
        self._consumer, self._partition, self._key = consumer, partition, key
        self.first, self.end = bounds

    async def newest(self, n: int) -> list[DecisionRecord]:
        """The newest decisions, newest first."""
        found: list[DecisionRecord] = []
        async for window in self._backwards(self.end):
            found += reversed(window)
            if len(found) >= n:
                break
        return found[:n]

    async def in_force(self, at_ms: int) -> DecisionsAt:
        """What was decided last at a moment, and what came next.

        A record is written a little after its decision: where those of the moment begin, Kafka knows by the time of
        records, and the decisions on both sides are judged by their own.
        """
        found = await self._consumer.offsets_for_times({self._partition: at_ms})
        begin = self.end if found[self._partition] is None else found[self._partition].offset
        before, after = await self._forwards(begin, at_ms)
        if before is None:
            async for window in self._backwards(begin):
                if earlier := [each for each in window if each.decision.ts_ms <= at_ms]:
                    before = earlier[-1]
                    break
        return DecisionsAt(before, after)

    async def _forwards(self, begin: int, at_ms: int) -> tuple[DecisionRecord | None, DecisionRecord | None]:
        """The last decision at the moment or before it, and the first after it, from an offset on."""
        before, start, window = None, begin, FIRST_WINDOW
        with _progress(f"Reading {self._partition.topic}", self.end - begin) as (bar, task):
            while start < self.end:
                end = min(self.end, start + window)
                for each in await self._between(start, end):
                    if each.decision.ts_ms > at_ms:
                        return before, each
                    before = each
                bar.advance(task, end - start)
                start, window = end, min(window * GROWTH, LARGEST_WINDOW)
        return before, None

    async def _backwards(self, end: int) -> AsyncIterator[list[DecisionRecord]]:
        """Growing windows of decisions below an offset, each in order, the newest window first."""
        window = FIRST_WINDOW
        with _progress(f"Reading {self._partition.topic} backwards", end - self.first) as (bar, task):
            while end > self.first:
                start = max(self.first, end - window)
                yield await self._between(start, end)
                bar.advance(task, end - start)
                end, window = start, min(window * GROWTH, LARGEST_WINDOW)

    async def _between(self, start: int, end: int) -> list[DecisionRecord]:
        """Decisions about the user in start .. end (excluded), in order."""
        self._consumer.seek(self._partition, start)
        found: list[DecisionRecord] = []
        while await self._consumer.position(self._partition) < end:
            for record in (await self._consumer.getmany(self._partition, timeout_ms=WAIT_MS)).get(self._partition, []):
                if record.key == self._key and record.offset < end:
                    found += _found(record.offset, record.value)
        return found


@asynccontextmanager
async def reading(connections: Connections, user: str) -> AsyncIterator[DecisionLog]:
    """The log of a user. Raises WhyError where there is no such topic."""
    topic, key = connections.topics.decisions, user.encode()
    partition = TopicPartition(topic, partition_of(key, await _partitions(connections, topic)))
    consumer = reader(**client_options(connections))
    try:
        await consumer.start()
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        yield DecisionLog(consumer, partition, key, (first, end))
    finally:
        await consumer.stop()


async def _partitions(connections: Connections, topic: str) -> int:
    """How many partitions a topic has. Raises WhyError for one that does not exist."""
    admin = AIOKafkaAdminClient(**client_options(connections))
    try:
        await admin.start()
        (found,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if not found["partitions"]:
        text = f"topic {topic} does not exist; run `kairos topics create`, or set KAIROS_TOPIC_PREFIX"
        raise WhyError(text)
    return len(found["partitions"])


def _found(offset: int, value: bytes) -> list[DecisionRecord]:
    """The decision, or nothing where another producer wrote something that is none."""
    try:
        return [DecisionRecord(offset, value, decode(value))]
    except DecodeError:
        return []


@contextmanager
def _progress(what: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        yield progress, progress.add_task(what, total=total)
