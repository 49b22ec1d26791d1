"""The story of chunks of user events, from raw records to applied rows; read this file first.

    check the fence -> decode -> breaker -> dead letters, awaited -> item deltas, awaited -> rows, fold, one script

Chunks of one partition that wait at the same time, one of each topic, go through it together.
The order is the guarantee. Dead letters and deltas leave before the fence moves, so that a crash repeats them and
never loses them; a delta record exists only when everything below it is in its topic already; and whatever the script
meets (a lost compare-and-set, a reply that never came), they are not sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from schemas.dead_letters import is_copy_within
from schemas.deltas import DeltaSource
from schemas.encoding import Header
from schemas.events import Run, decode_run
from schemas.faults import Reason
from schemas.topics import Topics
from streams.breaker import Breaker, Step
from streams.deltas import DeltaMaker, DeltaRecord
from streams.features.columns import Encoder
from streams.grouping import settled, standing
from streams.poison import Positions, culprits
from streams.tables.attempt import Verdict, nothing_stale
from streams.tables.errors import TableError
from streams.tables.part import Chunk, known_in
from streams.tables.users import UserChange, UserTable, heard


class Record(Protocol):
    """One record of a chunk."""

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


class Rejected(NamedTuple):
    """A record that goes to the dead letters: where it lay, a word for the metric, a sentence for people."""

    topic: str
    partition: int
    record: Record
    reason: Reason
    detail: str


class DeadLetters(Protocol):
    """Where rejected records go; returns when they are safely kept."""

    async def send(self, letters: Sequence[Rejected]) -> None: ...


class Deltas(Protocol):
    """Where item deltas go, each to its own partition; returns when they are safely kept."""

    async def send(self, records: Sequence[DeltaRecord]) -> None: ...


@dataclass
class PipelineStats:
    """What became of records since the start of the process: events applied or tried, rejects and results by word."""

    events: int = 0
    delta_records: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    on_chunk: Callable[[int], None] = field(default=lambda _records: None, repr=False)


@dataclass(frozen=True)
class Limits:
    """How far an event's time may lie from the clock before it is left out, and how large a record may be.

    `originals_only`: leave out a re-driven copy whose original is read too, as who builds tables anew has to.
    `spans`: by topic the stretch of event time, [from, to) in ms, outside which events are left out.
    """

    max_skew_ms: int = 300_000
    horizon_ms: int = 400 * 86_400_000
    max_value_bytes: int = 256 * 1024
    originals_only: bool = False
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class _Reading(NamedTuple):
    """What is read of one chunk: the records that are new, what their deltas stand for, and when they were read."""

    source: DeltaSource
    records: Sequence[Record]
    now_ms: int


class _Read(NamedTuple):
    """What a chunk says: the change of rows, the deltas of items, and what is to be set aside of its new records."""

    chunk: Chunk
    change: UserChange
    deltas: list[DeltaRecord]
    step: Step
    letters: list[Rejected]


class Pipeline:
    """Applies chunks of user events. `now_ms` is the shell's clock; where no `breaker` is set any share is set aside.

    `item_partitions`: count of the deltas topic; where it is known later, `route` tells it before the first chunk.
    """

    def __init__(
        self,
        table: UserTable,
        encoder: Encoder,
        topics: Topics,
        dead_letters: DeadLetters,
        deltas: Deltas,
        *,
        item_partitions: int = 0,
        now_ms: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self.table = table
        self.encoder = encoder
        self.dead_letters = dead_letters
        self.deltas = deltas
        self.now_ms = now_ms
        self.limits = limits or Limits()
        self.breaker: Breaker | None = None
        self.stats = PipelineStats(results=table.results)
        self.route(item_partitions)
        self._kinds = {topic: encoder.declaration.wire_kinds(word) for topic, word in topics.word_of.items()}
        self._every_kind = frozenset().union(*self._kinds.values())

    def route(self, item_partitions: int) -> None:
        """Send item deltas to so many partitions from now on."""
        self._maker = DeltaMaker(self.encoder.declaration, item_partitions)

    async def process(self, chunks: Sequence[Chunk], stale: Callable[[Chunk], bool] = nothing_stale) -> list[Verdict]:
        """Apply chunks of one partition, each of another topic; what became of each, in turn.

        Returns when their rows and offsets are in the store, or when there is nothing to do. `stale` says whether a
        chunk's partition was sought or taken away meanwhile, which ends any waiting for it. Raises Refused and Broken
        when the process must end.
        """
        found = await standing(self.table, chunks, stale)
        read = [
            await self._read(chunk, fence) for chunk, fence in zip(chunks, found, strict=True) if isinstance(fence, int)
        ]
        # Before anything of any of them leaves: what has left would leave again after every start.
        if self.breaker is not None:
            await self.breaker.admit([one.step for one in read])
        await self._bury([letter for one in read for letter in one.letters])
        deltas = [record for one in read for record in one.deltas]
        # Once a chunk, whatever the table meets afterwards: the item side counts a source offset once anyway.
        if deltas:
            await self.deltas.send(deltas)
            self.stats.delta_records += len(deltas)
        changes = [(one.chunk, one.change) for one in read]
        return settled(found, await self._apply(changes, stale) if changes else ())

    async def _read(self, chunk: Chunk, fence: int) -> _Read:
        """What the records above the fence say, and those that say nothing."""
        records: Sequence[Record] = chunk.records[known_in(chunk, fence) :]
        if self.limits.originals_only:
            base = self.table.base(chunk.topic, chunk.partition)
            records = [r for r in records if not (r.headers and is_copy_within(chunk.partition, base, r.headers))]
        self.stats.on_chunk(len(records))
        now_ms = self.now_ms()
        run = self._decode(chunk, records, now_ms)
        reading = _Reading(self._source(chunk, fence), records, now_ms)
        letters = [Rejected(chunk.topic, chunk.partition, records[r.index], r.reason, r.detail) for r in run.rejects]
        try:
            understood = self._understand(reading, run)
        except Exception:
            poison = await culprits(len(run.events), lambda group: self._understands(reading, run, group))
            if not poison:
                raise
            letters += _poisoned(chunk, [records[run.index[i]] for i in poison], "encoded")
            run = run.without(poison)
            understood = self._understand(reading, run)
        self.stats.events += len(run.events)
        self.stats.results.update(run.results)
        return _Read(chunk, *understood, Step(chunk.topic, chunk.partition, fence, records, letters), letters)

    def _decode(self, chunk: Chunk, records: Sequence[Record], now_ms: int) -> Run:
        partitions = self.table.partitions(chunk.partition)
        run = decode_run(
            records,
            # A topic that is none of the four is a file, which holds events of all kinds.
            kinds=self._kinds.get(chunk.topic, self._every_kind),
            now_ms=now_ms,
            max_skew_ms=self.limits.max_skew_ms,
            horizon_ms=self.limits.horizon_ms,
            max_value_bytes=self.limits.max_value_bytes,
            home=(chunk.partition, partitions),
            heard_ms=[record.timestamp for record in records],
        )
        if (span := self.limits.spans.get(chunk.topic)) is not None:
            outside = [i for i, ts_ms in enumerate(run.ts_ms) if not span[0] <= ts_ms < span[1]]
            run.leave_out(outside)
            run.results["outside"] += len(outside)
        return run

    def _source(self, chunk: Chunk, fence: int) -> DeltaSource:
        return DeltaSource(
            topic=chunk.topic,
            partition=chunk.partition,
            incarnation=self.table.topic_id(chunk.topic, chunk.partition),
            first=max(chunk.first, fence + 1),
            last=chunk.last,
            schema=self.encoder.declaration.schema,
        )

    def _understand(self, reading: _Reading, run: Run) -> tuple[UserChange, list[DeltaRecord]]:
        columns = self.encoder.encode(run)
        offsets = np.fromiter([reading.records[i].offset for i in run.index], np.int64, len(run.index))
        deltas = self._maker.make(reading.source, offsets, columns, run.items)
        began_ms = heard(reading.records[0].timestamp, reading.now_ms) if reading.records else reading.now_ms
        return UserChange(offsets, run.users, columns, reading.now_ms, began_ms), deltas

    async def _understands(self, reading: _Reading, run: Run, group: Positions) -> bool:
        try:
            self._understand(reading, run.only(group.tolist()))
        except Exception:  # whatever it is, the caller looks for the event that causes it
            return False
        return True

    async def _apply(
        self, changes: Sequence[tuple[Chunk, UserChange]], stale: Callable[[Chunk], bool]
    ) -> list[Verdict]:
        try:
            return await self.table.apply(changes, stale)
        except (TableError, MemoryError):
            raise
        except Exception:
            # One event spoils the fold of all, so now chunk by chunk.
            healthy = [(chunk, await self._without_poison(chunk, change)) for chunk, change in changes]
            return [verdict for one in healthy for verdict in await self.table.apply([one], stale)]

    async def _without_poison(self, chunk: Chunk, change: UserChange) -> UserChange:
        poison = await culprits(len(change.users), lambda group: self.table.folds(chunk.partition, change.take(group)))
        if not poison:
            return change
        offsets = set(change.offsets[poison].tolist())
        await self._bury(_poisoned(chunk, [r for r in chunk.records if r.offset in offsets], "folded"))
        return change.take(np.setdiff1d(np.arange(len(change.users)), poison))

    async def _bury(self, letters: Sequence[Rejected]) -> None:
        if letters:
            await self.dead_letters.send(letters)
            self.stats.rejects.update(letter.reason for letter in letters)


def _poisoned(chunk: Chunk, records: Sequence[Record], verb: str) -> list[Rejected]:
    detail = f"The event cannot be {verb} although it was decoded: report it as a fault of Kairos."
    return [Rejected(chunk.topic, chunk.partition, record, "poison", detail) for record in records]
