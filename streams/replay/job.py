"""What a parent asks of its child processes, and what these answer: one JSON object a line, either way."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.json import Decoder, Encoder

from streams.chunks.chunk import LogFacts
from streams.replay.ranges import Range

Mode = Literal["dry-run", "rebuild", "shadow"]


FILE, CATALOGUE = "file:", "file:items:"
"""What the topic of a file of events begins with, and that of the items which it tells; then comes its name."""
Side = Literal["users", "items"]
"""The tables that a file goes into: events into those of users, catalogue records into those of items."""


class FileJob(Struct, frozen=True):
    """A file in our own schema, one record a line, as a topic of so many partitions; `records` are its lines."""

    path: str
    topic: str
    id: str
    records: int
    partitions: int
    side: Side = "users"

    def facts(self, partition: int) -> LogFacts:
        """The file as a log: its offsets are the positions of its lines."""
        return LogFacts(self.topic, partition, 0, self.records, self.id, self.partitions)


class Job(Struct, frozen=True):
    """Fold ranges into one side of a run, or count what they hold; `rate` is in events a second, 0 for no limit."""

    side: Literal["users", "items", "count"]
    run: str
    mode: Mode
    ranges: list[Range]
    chunk: int
    rate: float = 0
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    item_partitions: int = 0
    file: FileJob | None = None
    file_partitions: list[int] = field(default_factory=list)


class Said(Struct, omit_defaults=True):
    """What a child says: how many records are behind it, and at the end (`over`) what they came to, or its `error`.

    `counts`: numbers by name, such as "rejects.json"; `code` is the exit status that an error asks for.
    """

    done: int = 0
    over: bool = False
    stopped: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""
    code: int = 1


encode = Encoder().encode
read_job = Decoder(Job).decode
read_said = Decoder(Said).decode


def added(parts: list[dict[str, int]]) -> dict[str, int]:
    """The counts of several processes as one."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def shares(job: Job, processes: int) -> list[Job]:
    """A job split by partition; each process has a share of the rate that fits its share of the records."""
    import msgspec

    parts = []
    for number in range(processes):
        mine = [r for r in job.ranges if r.partition % processes == number]
        lines = [p for p in job.file_partitions if p % processes == number]
        if mine or lines:
            share = _share(job, mine, lines)
            parts.append(msgspec.structs.replace(job, ranges=mine, file_partitions=lines, rate=job.rate * share))
    return parts


def _share(job: Job, mine: list[Range], lines: list[int]) -> float:
    if job.file is not None:
        return len(lines) / len(job.file_partitions)
    total: Any = sum(r.records for r in job.ranges)
    return sum(r.records for r in mine) / total if total else 1.0
