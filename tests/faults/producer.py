"""Steady producers that go on whatever the brokers do, and tell the truth what was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.faults.traffic import Outgoing, Traffic
from tests.faults.truth import Truth

TICK_S = 0.02
MOST_IN_FLIGHT = 3_000
ABORTED = 0.3
TRANSACTION_MS = 5_000


class Producer:
    """Sends at the load's rate until told to stop; in transactions, a part of them aborted, where the load says so."""

    def __init__(self, kafka: str, traffic: Traffic, truth: Truth, random: Random) -> None:
        self.kafka, self.traffic, self.truth, self.random = kafka, traffic, truth, random
        self.paused = False
        self._in_flight = 0
        self._stopping = False
        self._serial = 0

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Send these and wait for them, outside of any transaction."""
        producer = self._make(None)
        await producer.start()
        try:
            futures = [await producer.send(r.topic, r.value, r.key, headers=r.headers) for r in records]
            for record, future in zip(records, futures, strict=True):
                self._acknowledge(record, await future)
        finally:
            await producer.stop()

    async def run(self) -> None:
        """Produce until `stop`, and wait for what is under way."""
        if self.traffic.load.transactional:
            rate = self.traffic.load.events_per_s / 2
            await asyncio.gather(*[self._transactions(f"faults-{number}", rate) for number in range(2)])
        else:
            await self._plainly(self.traffic.load.events_per_s)

    def stop(self) -> None:
        self._stopping = True

    async def _plainly(self, rate: float) -> None:
        producer = await self._started(None)
        began_s, sent = time.monotonic(), 0
        try:
            while not self._stopping:
                due = int((time.monotonic() - began_s) * rate) - sent
                sent += due
                due = 0 if self.paused else due
                for _ in range(min(due, 200)):
                    if self._in_flight < MOST_IN_FLIGHT:
                        producer = await self._send(producer)
                await asyncio.sleep(TICK_S)
        finally:
            await _closed(producer)

    async def _send(self, producer: Any) -> Any:
        """Send one record; the producer to go on with, a new one where this one can no more."""
        record = self.traffic.record(time.time_ns() // 1_000_000)
        try:
            async with asyncio.timeout(5):
                future = await producer.send(record.topic, record.value, record.key, headers=record.headers)
        except (KafkaError, OSError, TimeoutError) as error:
            self.truth.unknown += 1
            if isinstance(error, KafkaError) and not error.retriable:
                await _closed(producer)
                return await self._started(None)
            return producer
        self._in_flight += 1
        future.add_done_callback(lambda done: self._done(record, done))
        return producer

    def _done(self, record: Outgoing, done: Any) -> None:
        self._in_flight -= 1
        if done.cancelled() or done.exception() is not None:
            self.truth.unknown += 1
        else:
            self._acknowledge(record, done.result())

    async def _transactions(self, name: str, rate: float) -> None:
        producer = await self._started(name)
        try:
            while not self._stopping:
                size, began_s = self.random.choice([3, 10, 40]), time.monotonic()
                if self.paused:
                    await asyncio.sleep(TICK_S)
                    continue
                try:
                    async with asyncio.timeout(60):
                        await self._transaction(producer, size)
                except (KafkaError, OSError, TimeoutError):
                    self.truth.unknown += size
                    await _closed(producer)
                    producer = await self._started(name)
                await asyncio.sleep(max(0.0, began_s + size / rate - time.monotonic()))
        finally:
            await _closed(producer)

    async def _transaction(self, producer: Any, size: int) -> None:
        await producer.begin_transaction()
        records = [self.traffic.record(time.time_ns() // 1_000_000) for _ in range(size)]
        futures = [await producer.send(r.topic, r.value, r.key, headers=r.headers) for r in records]
        sent = await asyncio.gather(*futures)
        if self.random.random() < ABORTED:
            await producer.abort_transaction()
            self.truth.aborted += size
            return
        await producer.commit_transaction()
        for record, where in zip(records, sent, strict=True):
            self._acknowledge(record, where)

    def _acknowledge(self, record: Outgoing, where: Any) -> None:
        self.truth.acknowledge((record.topic, where.partition), where.offset, record, time.monotonic())

    def _make(self, transactional: str | None) -> Any:
        return AIOKafkaProducer(
            bootstrap_servers=self.kafka,
            acks="all",
            enable_idempotence=True,
            transactional_id=transactional,
            transaction_timeout_ms=TRANSACTION_MS,
            request_timeout_ms=60_000,
            max_request_size=4 << 20,
            metadata_max_age_ms=3_000,
            linger_ms=5,
        )

    async def _started(self, transactional: str | None) -> Any:
        """A producer that runs, however long the brokers are away."""
        while True:
            producer = self._make(transactional)
            try:
                async with asyncio.timeout(15):
                    await producer.start()
            except (KafkaError, OSError, TimeoutError):
                await _closed(producer)
                await asyncio.sleep(0.5)
            else:
                return producer


async def _closed(producer: Any) -> None:
    """Close a producer that may hang or fail in closing."""
    try:
        async with asyncio.timeout(20):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError, ValueError):
        pass
