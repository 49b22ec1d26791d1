"""What a process knows of one partition of a table, and the words that tables use about chunks."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.tables.errors import LostRange, Repartitioned, TopicReplaced, Truncated
from streams.tables.row_cache import RowCache


class Chunk(Protocol):
    """What a table reads of a chunk (`streams.chunks.chunk.Chunk`)."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def prev(self) -> int: ...
    @property
    def records(self) -> Sequence[Any]: ...


class LogFacts(Protocol):
    """What the broker says about a partition when it is assigned (`streams.chunks.chunk.LogFacts`)."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def log_start(self) -> int: ...
    @property
    def log_end(self) -> int: ...
    @property
    def topic_id(self) -> str: ...
    @property
    def partitions(self) -> int: ...


class Outcome(enum.Enum):
    """What became of a chunk: applied, already there, or dropped because a newer seek made it stale."""

    APPLIED = "applied"
    SKIPPED = "skipped"
    STALE = "stale"


@dataclass
class TableStats:
    """Counters of one table since its process started: records, then chunks, rows and calls; `script_s` in scripts.

    `on_script` is told the seconds of every script call.
    """

    applied: int = 0
    skipped: int = 0
    chunks: int = 0
    conflicts: int = 0
    rewinds: int = 0
    unknown: int = 0
    unknown_applied: int = 0
    loads: int = 0
    rows_read: int = 0
    rows_written: int = 0
    script_s: float = 0.0
    on_script: Callable[[float], None] = field(default=lambda _seconds: None, repr=False)

    def count(self, chunk: Chunk, known: int) -> None:
        """A chunk was applied, of whose records `known` were applied before."""
        self.chunks += 1
        self.skipped += known
        self.applied += len(chunk.records) - known


FIRST_ROWS = 8192


class Part:
    """The fence of one partition as last read or moved here, and the rows held with it: at most `cache_bytes`."""

    def __init__(self, layout: Layout | ItemLayout, cache_bytes: int = 1 << 30) -> None:
        # Pages that nobody touches cost nothing, but a small cache has no use for them.
        self.cache = RowCache(layout, max(1, min(FIRST_ROWS, cache_bytes // layout.row_bytes)))
        self.lock = asyncio.Lock()
        self.loaded = False
        self.ver = b""
        self.applied: dict[str, int] = {}
        self.base: dict[str, int] = {}
        self.topic_id: dict[str, str] = {}
        self.truncated: dict[str, int] = {}
        self.partitions: int | None = None
        self.sources: dict[bytes, int] = {}
        self.notes: dict[str, bytes] = {}
        self.erased: dict[str, int] = {}

    def forget(self) -> None:
        """Trust nothing that is held any more; the next use reads it again."""
        self.loaded = False
        self.cache.clear()

    def fence(self, topic: str) -> int | None:
        """Last applied offset of a topic, its base - 1 before the first, None when it was never initialised."""
        if topic in self.applied:
            return self.applied[topic]
        return self.base[topic] - 1 if topic in self.base else None

    def take_over(self, meta: Mapping[bytes, bytes], erased: Mapping[bytes, int]) -> None:
        """Replace what is held by a meta hash and tombstones; rows held under another `ver` are forgotten."""
        ver = meta.get(b"ver", b"")
        if not self.loaded or ver != self.ver:
            self.forget()
        self.ver = ver
        self.partitions = int(meta[b"n"]) if b"n" in meta else None
        self.applied, self.base, self.topic_id, self.truncated, self.sources, self.notes = {}, {}, {}, {}, {}, {}
        for name, value in meta.items():
            what, _, topic = name.partition(b":")
            if what == b"o":
                self.applied[topic.decode()] = int(value)
            elif what == b"b":
                self.base[topic.decode()] = int(value)
            elif what == b"i":
                self.topic_id[topic.decode()] = value.decode()
            elif what == b"t":
                self.truncated[topic.decode()] = int(value)
            elif what == b"s":
                self.sources[name] = int(value)
            elif what == b"w":
                self.notes[topic.decode()] = value
        self.erased = {user.decode(): ms for user, ms in erased.items()}
        self.loaded = True

    def refuse_other_topic(self, facts: LogFacts) -> None:
        """Raises TopicReplaced or Repartitioned when the topic is not the one that the table was built from."""
        stored = self.topic_id.get(facts.topic, "")
        if stored != facts.topic_id:
            raise TopicReplaced(facts.topic, facts.partition, stored, facts.topic_id)
        if self.partitions != facts.partitions:
            raise Repartitioned(facts.topic, facts.partition, self.partitions, facts.partitions)

    def refuse_lost_log(self, facts: LogFacts, needed: int) -> None:
        """Raises Truncated or LostRange when the log does not hold, or once had lost, what comes at `needed`."""
        log_end = self.truncated.get(facts.topic, facts.log_end)
        if facts.topic in self.truncated or log_end < needed:
            raise Truncated(facts.topic, facts.partition, needed, log_end)
        if facts.log_start > needed:
            raise LostRange(facts.topic, facts.partition, needed, facts.log_start)


def known_in(chunk: Chunk, fence: int) -> int:
    """How many records of a chunk are at or below a fence."""
    return 0 if chunk.first > fence else sum(record.offset <= fence for record in chunk.records)
