"""Topics in memory: records by partition with offsets, and how a worker is handed them in chunks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.encoding import Header
from schemas.partition import partition_of
from streams.chunks.chunk import Chunk, LogFacts

Headers = tuple[Header, ...]
TOPIC_ID = "id-1"


class Record(NamedTuple):
    """A Kafka record; `timestamp` in ms, -1 where nobody knows when Kafka took it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = -1
    headers: Headers = ()


class Log:
    """Topics by name; `partitions` says how many each has."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.partitions = partitions
        self._records: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        *,
        headers: Headers = (),
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Add a record at the end of a partition, by murmur2 of its key unless told; its (partition, offset)."""
        if partition is None:
            partition = 0 if key is None else partition_of(key, self.partitions[topic])
        records = self._records[topic, partition]
        records.append(Record(len(records), key, value, timestamp, headers))
        return partition, len(records) - 1

    def records(self, topic: str, partition: int) -> Sequence[Record]:
        """All records of a partition, in offset order."""
        return self._records.get((topic, partition), [])

    def of(self, *topics: str) -> list[tuple[str, int, Record]]:
        """(topic, partition, record) of everything in these topics."""
        return [
            (topic, partition, record)
            for topic in topics
            for partition in range(self.partitions[topic])
            for record in self.records(topic, partition)
        ]

    def facts(self, topic: str, partition: int) -> LogFacts:
        """What a broker would say about a partition."""
        end = len(self.records(topic, partition))
        return LogFacts(topic, partition, 0, end, TOPIC_ID, self.partitions[topic])


@dataclass(frozen=True)
class Delivery:
    """How a worker is handed a partition: chunks of `sizes` records in turn, from the first size again after the last.

    `again`: records before a chunk that come once more with it. `times`: how often each chunk comes. `early`: the chunk
    after the next one comes first, so that there is a hole. `together`: chunks of a partition's several topics are
    applied in one step.
    """

    sizes: tuple[int, ...] = (500,)
    again: int = 0
    times: int = 1
    early: bool = False
    together: bool = True


class Reader:
    """The place of a worker in one partition: `position` is the offset to read next."""

    def __init__(self, log: Log, topic: str, partition: int, delivery: Delivery, position: int) -> None:
        self.topic, self.partition, self.delivery, self.position = topic, partition, delivery, position
        self._log = log
        self._drained = 0
        self._overtaken: set[int] = set()

    def next(self) -> Chunk | None:
        """The next chunk, None at the end of the log."""
        records = self._log.records(self.topic, self.partition)
        size = self.delivery.sizes[self._drained % len(self.delivery.sizes)]
        first, later = self.position, self.position + size
        if self.delivery.early and first not in self._overtaken and later < len(records):
            self._overtaken.add(first)
            first = later
        if first >= len(records):
            return None
        again = min(self.delivery.again, first) if first == self.position else 0
        chunk = cut(self.topic, self.partition, records[first - again : first + size])
        self._drained += 1
        self.position = chunk.last + 1
        return chunk

    def seek(self, offset: int) -> None:
        """Read from `offset` on."""
        self.position = offset


def cut(topic: str, partition: int, run: Sequence[Record], *, prev: int | None = None) -> Chunk:
    """These records as one chunk; `prev` is the offset read before them, right below the first unless told."""
    first, last = run[0].offset, run[-1].offset
    return Chunk(topic, partition, first, last, first - 1 if prev is None else prev, 1, 1, tuple(run))
