"""The fenced table: a partition's rows move together with the offset of the records folded into them, or not at all.

The protocol, under the partition's lock: a chunk at or below its topic's fence is skipped; a hole above the fence
rewinds; else the records above the fence are folded and committed by compare-and-set on (ver, own offset). Chunks of
several topics go in one step, and what becomes of one of them does not hold up the others. `ver` is a unique token,
not a counter: after a rollback of Redis a counter comes back to values that a zombie still holds. A reply that never
came is an unknown outcome, and reading (ver, offsets) settles it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Required, TypedDict, TypeVar

from redis.exceptions import ResponseError

from schemas.keys import Keys
from streams.features.blobs import UnreadableError
from streams.features.items import ItemLayout
from streams.features.rows import Layout, Slots
from streams.service.redis import eviction
from streams.service.trouble import TROUBLE
from streams.tables.attempt import Attempt, Verdict, nothing_stale
from streams.tables.errors import Evicting, NotInitialised, OtherDeclaration, Rewind, Stale, Truncated
from streams.tables.part import Chunk, LogFacts, Outcome, Part, TableStats, known_in
from streams.tables.row_cache import ReadRows
from streams.tables.store import ItemWrite, Move, Step, Store, UserWrite
from streams.tables.weather import STALE, Weather, never

C = TypeVar("C")

CACHE_BYTES = 256 * 1024 * 1024


class TableOptions(TypedDict, total=False):
    """What every table takes: see FencedTable."""

    writer: Required[str]
    weather: Weather | None
    cache_bytes: int


class FencedTable(ABC, Generic[C]):
    """Rows of many partitions behind their fences; a subclass says how a change C becomes a write.

    `writer` is a random word of this process, `tag` names a partition's keys; `cache_bytes` bounds the rows held and is
    shared out among the partitions in use. `stats` and `weather` tell how it goes.
    """

    def __init__(
        self,
        store: Store,
        tag: Callable[[int], bytes],
        layout: Layout | ItemLayout,
        *,
        writer: str,
        weather: Weather | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.store = store
        self.tag = tag
        self.stats = TableStats()
        self.weather = weather or Weather()
        self.cache_bytes = cache_bytes
        self._row_layout = layout
        self._writer = writer
        self._count = itertools.count(1)
        self._parts: dict[int, Part] = {}

    @abstractmethod
    def _above(self, part: Part, change: C, fence: int) -> C:
        """What of a change was not applied before."""

    @abstractmethod
    def _together(self, changes: Sequence[C]) -> C:
        """Several changes as one."""

    @abstractmethod
    async def _hold(self, part: Part, partition: int, change: C) -> Slots:
        """See that the rows that a change touches are held; where they are, in the order in which it names them."""

    @abstractmethod
    def _fold_held(self, part: Part, change: C, slots: Slots) -> UserWrite | ItemWrite:
        """Fold a change into rows that are held, in place, and say what to write."""

    def _applied(self, change: C) -> None:
        """Called once for every change that was applied."""

    def fence(self, topic: str, partition: int) -> int:
        """Last applied offset as far as this process knows; raises NotInitialised."""
        return self._fence(self._part(partition), topic, partition)

    def topic_id(self, topic: str, partition: int) -> str:
        """Id of the topic that a partition was built from, empty before its fence was read."""
        return self._part(partition).topic_id.get(topic, "")

    def base(self, topic: str, partition: int) -> int:
        """Offset that a partition was built from, 0 before its fence was read."""
        return self._part(partition).base.get(topic, 0)

    def partitions(self, partition: int) -> int:
        """Partition count that a partition was built over, 0 before its fence was read."""
        return self._part(partition).partitions or 0

    def note(self, topic: str, partition: int) -> bytes:
        """What was noted beside a topic's fence when the fence was last read or noted here; empty when nothing was."""
        return self._part(partition).notes.get(topic, b"")

    async def keep_note(self, topic: str, partition: int, note: bytes) -> None:
        """Note something beside a topic's fence; the newest note is the one."""
        tag, field = self.tag(partition), f"w:{topic}"
        await self.weather.ride("writing a note", lambda: self.store.set_note(tag, field, note))
        self._part(partition).notes[topic] = note

    def release(self, partition: int) -> None:
        """Forget a partition that was taken away, and free its rows."""
        self._parts.pop(partition, None)

    async def check(self, chunk: Chunk, stale: Callable[[], bool] = never) -> int:
        """The fence below a chunk: `chunk.last <= fence` means that nothing of it is new.

        Raises Rewind when records between the fence and the chunk are missing, NotInitialised, Broken, Stale.
        """
        part = self._part(chunk.partition)
        if stale():
            raise Stale(STALE)
        if not part.loaded:
            async with part.lock:
                await self._read(part, chunk.partition, stale)
        return self._standing(part, chunk)

    async def apply(
        self, changes: Sequence[tuple[Chunk, C]], stale: Callable[[Chunk], bool] = nothing_stale
    ) -> list[Verdict]:
        """Fold and commit chunks of one partition, each of another topic, in one step; what became of each, in turn.

        Raises NotInitialised and Broken.
        """
        partition = changes[0][0].partition
        part, attempt = self._part(partition), Attempt(changes, stale)
        # The audit reads fences while chunks are applied.
        async with part.lock:
            while attempt.open():
                try:
                    await self.weather.ride(
                        "applying chunks", lambda: self._guarded(part, partition, attempt), attempt.drop_stale
                    )
                except Stale:
                    continue
        return attempt.verdicts()

    async def reload_fence(self, topic: str, partition: int) -> int:
        """Read the fence again (rows are dropped if it moved without us); raises NotInitialised, Broken."""
        part = self._part(partition)
        async with part.lock:
            await self._read(part, partition)
            return self._fence(part, topic, partition)

    async def start_position(self, facts: LogFacts) -> int:
        """The offset to read from: fence + 1, or the base; raises a Refused when offsets do not mean what they did."""
        needed = 1 + await self.reload_fence(facts.topic, facts.partition)
        part = self._part(facts.partition)
        part.refuse_other_topic(facts)
        part.refuse_lost_log(facts, needed)
        return needed

    async def keep_truncated(self, hole: Truncated) -> None:
        """Write down that a log was truncated: one that has grown again since does not show it."""
        tag, field = self.tag(hole.partition), f"t:{hole.topic}"
        await self.weather.ride("noting a hole", lambda: self.store.set_once(tag, field, str(hole.log_end)))

    def release_all(self) -> None:
        """Forget every partition, and free all rows."""
        self._parts.clear()

    async def folds(self, partition: int, change: C) -> bool:
        """Whether a change can be folded into the stored rows at all; tried on copies."""
        scratch = Part(self._row_layout)
        slots = await self.weather.ride("reading rows", lambda: self._hold(scratch, partition, change))
        try:
            self._fold_held(scratch, change, slots)
        except Exception:  # whatever a fold can raise on what it should have taken
            return False
        return True

    async def check_server(self) -> None:
        """Raises Evicting when a server that keeps the table may delete rows by itself."""
        policies = await self.weather.ride("reading the memory policy", self.store.eviction_policies)
        if sentence := eviction(policies):
            raise Evicting(sentence)

    async def initialise(self, facts: LogFacts) -> None:
        """Write a partition's topic id, count and base (where its log starts) unless they are set; the first one wins.

        Raises TopicReplaced or Repartitioned when they are set to something else.
        """
        part, tag = self._part(facts.partition), self.tag(facts.partition)

        async def write() -> None:
            await self.store.set_once(tag, "n", str(facts.partitions))
            await self.store.set_once(tag, f"i:{facts.topic}", facts.topic_id)
            # The base comes last: a partition initialised by half counts as not initialised.
            await self.store.set_once(tag, f"b:{facts.topic}", str(facts.log_start))

        async with part.lock:
            await self.weather.ride("initialising a partition", write)
            await self._read(part, facts.partition)
        part.refuse_other_topic(facts)

    def _part(self, partition: int) -> Part:
        part = self._parts.get(partition)
        if part is None:
            part = self._parts[partition] = Part(self._row_layout, self.cache_bytes)
        return part

    def _fence(self, part: Part, topic: str, partition: int) -> int:
        fence = part.fence(topic)
        if fence is None:
            raise NotInitialised(topic, partition, Keys.meta(self.tag(partition)))
        return fence

    def _standing(self, part: Part, chunk: Chunk) -> int:
        fence = self._fence(part, chunk.topic, chunk.partition)
        if chunk.last > fence and chunk.prev > fence:
            self.stats.rewinds += 1
            why = f"the records before this chunk end at {chunk.prev}, the fence stands at {fence}."
            raise Rewind(chunk.topic, chunk.partition, fence + 1, why)
        return fence

    async def _held(self, part: Part, keys: Sequence[str], read: ReadRows) -> Slots:
        """Slots of the rows of these keys, in the cache's share that falls to one partition."""
        slots, count = await part.cache.hold(keys, read, self.cache_bytes // max(1, len(self._parts)))
        self.stats.rows_read += count
        return slots

    async def _read(self, part: Part, partition: int, stale: Callable[[], bool] = never) -> None:
        await self.weather.ride("reading a fence", lambda: self._load(part, partition), stale)

    async def _load(self, part: Part, partition: int) -> None:
        """Read a fence; only under the partition's lock, else rows of one version would meet the token of another."""
        part.take_over(*await self.store.standing(self.tag(partition)))
        self.stats.loads += 1

    async def _guarded(self, part: Part, partition: int, attempt: Attempt[C]) -> None:
        """One try; it folds in place, so after a failure no row is trusted."""
        try:
            await self._try(part, partition, attempt)
        except BaseException:
            part.forget()
            raise

    async def _try(self, part: Part, partition: int, attempt: Attempt[C]) -> None:
        """Settle what is open, unless somebody else moved the fence meanwhile: then it stays open."""
        if not part.loaded:
            await self._load(part, partition)
        fences = attempt.settle(lambda chunk: self._standing(part, chunk), self.stats, self._applied)
        if not (tried := attempt.open()):
            return
        steps = [Step(m.chunk.topic, part.applied.get(m.chunk.topic), m.chunk.last) for m in tried]
        fresh = self._together([self._above(part, m.change, fences[m.chunk.topic]) for m in tried])
        attempt.fresh, attempt.tried = fresh, tried
        try:
            slots = await self._hold(part, partition, fresh)
        except UnreadableError as error:
            raise OtherDeclaration(str(error)) from error
        write = self._fold_held(part, fresh, slots)
        move = Move(part.ver, f"{self._writer}.{next(self._count)}".encode(), steps)
        if not await self._commit(partition, move, write, attempt):
            self.stats.conflicts += 1
            part.forget()
            return
        part.ver = move.ver
        part.applied.update({step.topic: step.offset for step in steps})
        if isinstance(write, ItemWrite):
            part.sources.update(write.sources)
        self.stats.rows_written += len(write.items if isinstance(write, ItemWrite) else write.users)
        for member in tried:
            member.verdict = Outcome.APPLIED
            self.stats.count(member.chunk, known_in(member.chunk, fences[member.chunk.topic]))
        self._applied(fresh)

    async def _commit(self, partition: int, move: Move, write: UserWrite | ItemWrite, attempt: Attempt[C]) -> bool:
        started = time.perf_counter()
        try:
            # A cancelled actor must not cut a call in half: it runs to its end, and its outcome is read later.
            return await asyncio.shield(self.store.commit(self.tag(partition), move, write))
        except TROUBLE as error:
            if not isinstance(error, ResponseError):
                attempt.unknown = True
                self.stats.unknown += 1
            raise
        finally:
            seconds = time.perf_counter() - started
            self.stats.script_s += seconds
            self.stats.on_script(seconds)
