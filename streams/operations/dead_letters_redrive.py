"""Putting dead letters back on their topics, each of them once, whoever is killed when.

A letter and the marker that names it are one transaction. A run first takes over from any run before it, whose open
transaction Kafka aborts, and reads the markers then: what they name is back, what they do not name is not.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced, TransactionalIdAuthorizationFailed

from schemas.dead_letters import DeadLetter, Origin, decode, encode_marker, origin, redrive
from schemas.partition import partition_of
from schemas.topics import Topics
from streams.operations.dead_letters_read import DeadLettersError, Entry, Place, Survey, between
from streams.service.kafka import producer_options
from streams.service.outbox import LARGEST_BATCH_BYTES
from streams.service.settings import Connections
from streams.service.verb import Bar
from streams.topic_plan import LARGEST_RECORD_BYTES

MOST_LETTERS, MOST_BYTES = 500, 4 << 20
"""Of one transaction."""
TRANSACTION_S = 30
"""How long one may last; workers wait behind one that a kill left open for so long, or until the next run."""
BEHIND_MS = 3_600_000
"""How long before its burial a record may have been written, when nothing else tells."""


class Kind(NamedTuple):
    """Letters of one plan that go to the same topic for the same reason."""

    topic: str
    reason: str


class Target(NamedTuple):
    """A topic that letters go back to: its partitions, and the largest batch that it takes."""

    partitions: int
    most_bytes: int


Targets = Mapping[str, Target]


@dataclass
class Plan:
    """Which letters go back, in their order, and why others do not."""

    chosen: list[Entry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def kinds(self) -> Counter[Kind]:
        """How many letters of each kind go back."""
        return Counter(Kind(entry.origin.topic, entry.reason) for entry in self.chosen)


def make_plan(found: Survey, topics: Topics, targets: Targets, *, most_attempts: int, limit: int | None = None) -> Plan:
    """What would be done about letters; the oldest `limit` of those that can go back do."""
    plan, able = Plan(), list[Entry]()
    for entry, state in zip(found.entries, found.states(), strict=True):
        if why := _why_not(entry, state, topics, targets, most_attempts):
            plan.left_out[why] += 1
        else:
            able.append(entry)
    able.sort(key=lambda entry: (entry.buried_ms, entry.at))
    plan.chosen = able[:limit]
    if len(able) > len(plan.chosen):
        plan.left_out[f"over the limit of {limit}"] = len(able) - len(plan.chosen)
    return plan


def _why_not(entry: Entry, state: str, topics: Topics, targets: Targets, most_attempts: int) -> str:
    """Why a letter stays, empty when it can go back."""
    topic = entry.origin.topic
    count, most_bytes = targets.get(topic, (0, 0))
    reasons = {
        "re-driven already": state == "re-driven",
        "doubles of others, left by a worker that was killed": state == "double",
        "item deltas, which count in their own order only: rebuild the item rows instead": topic.startswith(
            f"{topics.prefix}items.deltas."
        ),
        f"of {topic}, which is no input of this installation": topic not in targets,
        "without key and value, which Kafka does not take": entry.empty,
        "without key, of a partition that is no more": entry.key is None and entry.origin.partition >= count,
        f"failed {most_attempts} times or more (--max-attempts)": entry.attempt >= most_attempts,
        f"too large for {topic} with the headers that count attempts: raise its max.message.bytes": (
            entry.size_bytes > most_bytes
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def home(letter: DeadLetter, targets: Targets) -> int:
    """The partition of its topic that a letter belongs to; that it was in where nobody knows."""
    if letter.key is None or letter.topic not in targets:
        return letter.partition
    return partition_of(letter.key, targets[letter.topic].partitions)


async def leave_out_superseded(consumer: AIOKafkaConsumer, plan: Plan, topics: Topics, targets: Targets) -> None:
    """Drop letters about items whose catalogue entry was written anew since: the newest entry is the one in force."""
    about = [entry for entry in plan.chosen if entry.origin.topic == topics.items and entry.key is not None]
    if not about:
        return
    keys = {entry.key for entry in about}
    tps = [TopicPartition(topics.items, p) for p in range(targets[topics.items].partitions)]
    firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    newest: defaultdict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    async for tp, records in between(consumer, {tp: (firsts[tp], ends[tp]) for tp in tps if firsts[tp] < ends[tp]}):
        for record in records:
            if record.key in keys:
                newest[record.key].append((tp.partition, record.offset, record.timestamp))
    old = {entry.at for entry in about if any(_after(entry, *place) for place in newest[entry.key or b""])}
    if old:
        plan.chosen = [entry for entry in plan.chosen if entry.at not in old]
        plan.left_out["about items that were written anew since"] = len(old)


def _after(entry: Entry, partition: int, offset: int, timestamp_ms: int) -> bool:
    """Whether a record was written after the one that a letter is about."""
    if partition == entry.origin.partition:
        return offset > entry.origin.offset
    return timestamp_ms > entry.first_failed_ms - BEHIND_MS


@asynccontextmanager
async def taking_over(connections: Connections, targets: Targets) -> AsyncIterator[AIOKafkaProducer]:
    """The producer of a run; no run that began before can put anything back once it is started."""
    # A batch that a topic refuses would end the run: the sequence of its partition has a gap then.
    batch_bytes = min([LARGEST_BATCH_BYTES, *[target.most_bytes for target in targets.values()]])
    name = f"{connections.topics.dead_letters}-redrive"
    producer = AIOKafkaProducer(
        **producer_options(connections),
        transactional_id=name,
        transaction_timeout_ms=TRANSACTION_S * 1000,
        max_batch_size=batch_bytes,
        max_request_size=LARGEST_RECORD_BYTES,
    )
    try:
        await producer.start()
        yield producer
    except TransactionalIdAuthorizationFailed as error:
        msg = (
            "Kafka does not let this user put letters back in transactions: grant it Write and Describe on the "
            f"transactional id {name}."
        )
        raise DeadLettersError(msg) from error
    finally:
        await producer.stop()


class Redrive:
    """One run: `done` counts letters that are back, in so many transactions."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics, targets: Targets) -> None:
        self.done, self.transactions = 0, 0
        self._producer, self._topics, self._targets = producer, topics, targets

    async def run(self, consumer: AIOKafkaConsumer, plan: Plan, bar: Bar, *, rate_per_s: float | None = None) -> None:
        """Put the letters of a plan back, at most so many a second. Raises DeadLettersError."""
        began_s, batch = time.monotonic(), _Batch(rate_per_s)
        try:
            async for at, letter in _letters(consumer, self._topics.dead_letters, plan):
                if batch.add(at, letter):
                    await self._put(batch.take())
                    bar.at(self.done)
                    if rate_per_s:
                        await asyncio.sleep(began_s + self.done / rate_per_s - time.monotonic())
            await self._put(batch.take())
            bar.at(self.done)
        except ProducerFenced as error:
            msg = (
                f"Another redrive of this installation took over, or a transaction took more than {TRANSACTION_S} s; "
                f"{self.done:,} letters were put back by this one. Each is marked: run it again for what is left."
            )
            raise DeadLettersError(msg) from error
        except (KafkaError, OSError) as error:
            msg = (
                f"Kafka ended the redrive ({type(error).__name__}: {error}); {self.done:,} letters are known to be "
                "back. Run it again: what is back is marked and left out."
            )
            raise DeadLettersError(msg) from error

    async def _put(self, letters: Sequence[tuple[Place, DeadLetter]]) -> None:
        """One transaction."""
        if letters:
            async with self._producer.transaction():
                await self._send(letters)
            self.done += len(letters)
            self.transactions += 1

    async def _send(self, letters: Sequence[tuple[Place, DeadLetter]]) -> None:
        """Send letters and a marker to each partition that they lie in; returns when Kafka has them all."""
        marks: defaultdict[int, list[Origin]] = defaultdict(list)
        sent = []
        for at, letter in letters:
            marks[at.partition].append(origin(letter))
            key, value, headers = redrive(letter)
            where = home(letter, self._targets)
            sent.append(await self._producer.send(letter.topic, value, key, partition=where, headers=headers))
        for partition, origins in marks.items():
            key, value, headers = encode_marker(origins)
            topic = self._topics.dead_letters
            sent.append(await self._producer.send(topic, value, key, partition=partition, headers=headers))
        await asyncio.gather(*sent)


class _Batch:
    """Letters of one transaction: some hundreds, half a second's worth at a slow rate, at most a few MiB."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._most = MOST_LETTERS if rate_per_s is None else max(1, min(MOST_LETTERS, int(rate_per_s / 2)))
        self._letters: list[tuple[Place, DeadLetter]] = []
        self._bytes = 0

    def add(self, at: Place, letter: DeadLetter) -> bool:
        """Whether it is full now."""
        self._letters.append((at, letter))
        self._bytes += len(letter.value or b"")
        return len(self._letters) >= self._most or self._bytes >= MOST_BYTES

    def take(self) -> list[tuple[Place, DeadLetter]]:
        letters, self._letters, self._bytes = self._letters, [], 0
        return letters


async def _letters(consumer: AIOKafkaConsumer, topic: str, plan: Plan) -> AsyncIterator[tuple[Place, DeadLetter]]:
    """The letters of a plan with their contents, read once more: they may be larger than memory."""
    chosen: defaultdict[int, set[int]] = defaultdict(set)
    for entry in plan.chosen:
        chosen[entry.at.partition].add(entry.at.offset)
    ranges = {TopicPartition(topic, p): (min(offsets), max(offsets) + 1) for p, offsets in chosen.items()}
    async for tp, records in between(consumer, ranges):
        for record in records:
            if record.offset in chosen[tp.partition]:
                yield Place(tp.partition, record.offset), decode(record.key, record.value, record.headers)
