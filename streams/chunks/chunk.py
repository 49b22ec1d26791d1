"""One run of records of one partition, with the stamps that make a hole visible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from schemas.encoding import Header


class Record(Protocol):
    """What a chunk holds: an aiokafka record or anything with its five fields."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Sequence[Header]: ...


class Chunk(NamedTuple):
    """Records of (topic, partition) in offset order; offsets may have gaps, chunks may not.

    `prev` is the last offset drained before `first` since the seek number `epoch` of this partition,
    or the seek position - 1. A table whose fence is below `prev` has missed something and must rewind.
    """

    topic: str
    partition: int
    first: int
    last: int
    prev: int
    epoch: int
    generation: int
    records: Sequence[Record]


class Drained(NamedTuple):
    """Records of one partition as they left aiokafka; `prev` and `epoch` as in a chunk."""

    epoch: int
    prev: int
    records: Sequence[Record]


def cut(topic: str, partition: int, found: Drained, size: int, generation: int = 0) -> Iterator[Chunk]:
    """Chunks of at most `size` records, each of which says where the one before it ended."""
    prev = found.prev
    for start in range(0, len(found.records), size):
        run = found.records[start : start + size]
        last = run[-1].offset
        yield Chunk(topic, partition, run[0].offset, last, prev, found.epoch, generation, run)
        prev = last


class LogFacts(NamedTuple):
    """What the broker says about one assigned partition at the moment of a seek.

    `log_start` and `log_end` are offsets (the end is one past the last record), `partitions` is the topic's count.
    """

    topic: str
    partition: int
    log_start: int
    log_end: int
    topic_id: str
    partitions: int
