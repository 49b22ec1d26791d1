"""Reading the dead letters topic: letters that were asked for, and the markers of those that were put back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.dead_letters import DeadLetter, Origin, decode, decode_marker, origin, redrive
from schemas.encoding import Message
from streams.service.verb import Bar

WAIT_MS = 1_000
MANY = 2_000
BATCH_BYTES, RECORD_BYTES = 61, 30
"""What Kafka adds to a batch, and at most to a record without headers."""


class DeadLettersError(Exception):
    """The dead letters cannot be read, or not be put back; the sentence says why and what to do."""

    exit_code = 1


class RedriveRefused(DeadLettersError):
    """Letters would go where no worker reads on."""

    exit_code = 78

    def __init__(self, why: Sequence[str]) -> None:
        way_out = (
            "Nothing was put back. Get the worker past these records first: mend what is set wrong and start it, or "
            "fix the producer and start it with KAIROS_BREAKER_SHARE=1. Then re-drive."
        )
        super().__init__("\n".join([*why, way_out]))


class Place(NamedTuple):
    """Where a letter lies in the dead letters topic; people write it as partition:offset."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @staticmethod
    def of(text: str) -> Place:
        """Raises ValueError with a sentence."""
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            msg = f"{text!r} is no reference to a dead letter, which is written partition:offset, such as 2:1507."
            raise ValueError(msg)
        return Place(int(partition), int(offset))


class Entry(NamedTuple):
    """A letter without its contents; `empty`: it has neither key nor value; `size_bytes`: of it alone put back."""

    at: Place
    buried_ms: int
    origin: Origin
    reason: str
    attempt: int
    first_failed_ms: int
    key: bytes | None
    empty: bool
    size_bytes: int


@dataclass(frozen=True)
class Wanted:
    """Which letters are asked for; None and no places ask for all. Times are those of their burial."""

    reason: str | None = None
    topic: str | None = None
    key: bytes | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    places: frozenset[Place] = frozenset()

    def takes(self, entry: Entry) -> bool:
        """Whether a letter is asked for."""
        return (
            self.reason in (None, entry.reason)
            and self.topic in (None, entry.origin.topic)
            and self.key in (None, entry.key)
            and (self.since_ms is None or entry.buried_ms >= self.since_ms)
            and (self.until_ms is None or entry.buried_ms <= self.until_ms)
            and (not self.places or entry.at in self.places)
        )


@dataclass
class Survey:
    """What lies in the topic: letters asked for in their order, and the origins that were put back already.

    `strangers` counts records that are neither letters nor markers.
    """

    entries: list[Entry] = field(default_factory=list)
    redriven: set[Origin] = field(default_factory=set)
    strangers: int = 0

    def states(self) -> list[str]:
        """Of each letter "re-driven", "double" (of one before it) or "waiting"."""
        told, seen = [], set[Origin]()
        for entry in self.entries:
            done = entry.origin in self.redriven
            told.append("re-driven" if done else "double" if entry.origin in seen else "waiting")
            seen.add(entry.origin)
        return told


async def survey(
    consumer: AIOKafkaConsumer, topic: str, partitions: int, wanted: Wanted, bar: Bar | None = None
) -> Survey:
    """Read the topic of so many partitions from the first letter that may be asked for to its end.

    Markers lie behind their letters, so none is missed.
    """
    found = Survey()
    ranges = await _ranges(consumer, topic, partitions, wanted)
    done, total = 0, sum(end - first for first, end in ranges.values())
    async for tp, records in between(consumer, ranges):
        for record in records:
            _take(found, wanted, tp.partition, record)
        done += len(records)
        if bar is not None:
            bar.at(done, total)
    return found


def _take(found: Survey, wanted: Wanted, partition: int, record: Any) -> None:
    origins = decode_marker(record.value, record.headers)
    if origins is not None:
        found.redriven.update(origins)
        return
    try:
        letter = decode(record.key, record.value, record.headers)
    except ValueError:
        found.strangers += 1
        return
    entry = entry_of(Place(partition, record.offset), record.timestamp, letter)
    if wanted.takes(entry):
        found.entries.append(entry)


def entry_of(at: Place, buried_ms: int, letter: DeadLetter) -> Entry:
    """A letter without its contents."""
    empty = letter.key is None and letter.value is None
    about = (letter.reason, letter.attempt, letter.first_failed_ms)
    return Entry(at, buried_ms, origin(letter), *about, letter.key, empty, _size_bytes(redrive(letter)))


def _size_bytes(message: Message) -> int:
    """Of a batch with one record, a few bytes too many at most: sizes are written in as many bytes as they need."""
    headers = sum(len(name.encode()) + len(value or b"") + 6 for name, value in message.headers)
    return BATCH_BYTES + RECORD_BYTES + len(message.key or b"") + len(message.value or b"") + headers


async def _ranges(
    consumer: AIOKafkaConsumer, topic: str, partitions: int, wanted: Wanted
) -> dict[TopicPartition, tuple[int, int]]:
    """First and end (excluded) offset to read of each partition."""
    asked = {place.partition for place in wanted.places} or set(range(partitions))
    tps = [TopicPartition(topic, partition) for partition in sorted(asked & set(range(partitions)))]
    firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    if wanted.since_ms is not None and tps:
        later = await consumer.offsets_for_times(dict.fromkeys(tps, wanted.since_ms))
        firsts = {tp: ends[tp] if later[tp] is None else max(firsts[tp], later[tp].offset) for tp in tps}
    for tp in tps:
        offsets = [place.offset for place in wanted.places if place.partition == tp.partition]
        firsts[tp] = max(firsts[tp], min(offsets, default=0))
    return {tp: (firsts[tp], ends[tp]) for tp in tps if firsts[tp] < ends[tp]}


async def between(
    consumer: AIOKafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncIterator[tuple[TopicPartition, Sequence[Any]]]:
    """The records of each range, several at a time, in order within a partition."""
    consumer.assign(list(ranges))
    for tp, (first, _) in ranges.items():
        consumer.seek(tp, first)
    left = set(ranges)
    while left:
        for tp, records in (await consumer.getmany(*left, timeout_ms=WAIT_MS, max_records=MANY)).items():
            yield tp, [record for record in records if record.offset < ranges[tp][1]]
        # By position, since the end of a log may hold markers of transactions, which are no records.
        left = {tp for tp in left if await consumer.position(tp) < ranges[tp][1]}


async def letter_at(consumer: AIOKafkaConsumer, topic: str, partitions: int, at: Place) -> tuple[Any, DeadLetter]:
    """One record of the topic of so many partitions, and its letter. Raises DeadLettersError where there is none."""
    tp = TopicPartition(topic, at.partition)
    if at.partition >= partitions:
        msg = f"There is no dead letter {at}: {topic} has partitions 0 to {partitions - 1}."
        raise DeadLettersError(msg)
    first, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    if not first <= at.offset < end:
        holds = f"offsets {first} to {end - 1}" if end > first else "nothing"
        msg = f"There is no dead letter {at}: partition {at.partition} of {topic} holds {holds}."
        raise DeadLettersError(msg)
    async for _, records in between(consumer, {tp: (at.offset, at.offset + 1)}):
        for record in records:
            try:
                return record, decode(record.key, record.value, record.headers)
            except ValueError as error:
                marks = decode_marker(record.value, record.headers)
                about = "a marker of letters that were put back" if marks is not None else str(error)
                msg = f"There is no dead letter {at}: the record there is {about}."
                raise DeadLettersError(msg) from error
    msg = f"There is no dead letter {at}: the offset is taken by a transaction's end."
    raise DeadLettersError(msg)


async def original(consumer: AIOKafkaConsumer, letter: DeadLetter, partitions: Mapping[str, int]) -> str:
    """Whether the record that a letter is about is still in its topic, in words."""
    if letter.partition >= partitions.get(letter.topic, 0):
        return "which is not there any more" if letter.topic not in partitions else "a partition that is no more"
    tp = TopicPartition(letter.topic, letter.partition)
    first, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    if letter.offset < first:
        return f"no longer kept: the topic begins at {first} there"
    return "still there" if letter.offset < end else f"beyond its end {end}: the topic was made anew"
