"""Group commit: chunks of one partition that wait at the same time, one of each topic, are applied in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from streams.tables.attempt import Verdict
from streams.tables.errors import Rewind, Stale
from streams.tables.fenced import FencedTable
from streams.tables.part import Chunk, Outcome

T = TypeVar("T")

GATHER_S = 0.003
"""How long the first chunk waits for its neighbours of the same answer of Kafka, which Faust hands out one by one."""


class Group(Generic[T]):
    """Whoever comes first applies what waits; those who came meanwhile find theirs done or are the next group.

    `apply` says what became of each chunk of a group, in turn.
    """

    def __init__(self, apply: Callable[[list[T]], Awaitable[Sequence[Verdict]]]) -> None:
        self._apply = apply
        self._lock = asyncio.Lock()
        self._waiting: list[_Place[T]] = []

    async def join(self, chunk: T) -> Verdict:
        """What became of a chunk; raises what ended its group, after which the rest of it waits for the next one."""
        place = _Place(chunk)
        self._waiting.append(place)
        try:
            async with self._lock:
                if place.verdict is None:
                    await asyncio.sleep(GATHER_S)
                    await self._work_off()
        finally:
            place.left = True
        return cast("Verdict", place.verdict)

    async def _work_off(self) -> None:
        group = [place for place in self._waiting if not place.left]
        self._waiting.clear()
        try:
            verdicts = await self._apply([place.chunk for place in group])
        except BaseException:
            self._waiting[:0] = group
            raise
        for place, verdict in zip(group, verdicts, strict=True):
            place.verdict = verdict


class _Place(Generic[T]):
    """A chunk that waits; `left` once its actor has gone."""

    __slots__ = ("chunk", "left", "verdict")

    def __init__(self, chunk: T) -> None:
        self.chunk = chunk
        self.verdict: Verdict | None = None
        self.left = False


async def standing(
    table: FencedTable[Any], chunks: Sequence[Chunk], stale: Callable[[Chunk], bool]
) -> list[int | Verdict]:
    """The fence below each chunk that has something new, and what became of each that is not to be read."""
    return [await _standing(table, chunk, stale) for chunk in chunks]


async def _standing(table: FencedTable[Any], chunk: Chunk, stale: Callable[[Chunk], bool]) -> int | Verdict:
    try:
        fence = await table.check(chunk, lambda: stale(chunk))
    except Stale:
        return Outcome.STALE
    except Rewind as rewind:
        return rewind
    if chunk.last > fence:
        return fence
    table.stats.skipped += len(chunk.records)
    return Outcome.SKIPPED


def settled(found: Sequence[int | Verdict], applied: Sequence[Verdict]) -> list[Verdict]:
    """What `standing` found, with what became of those that were read in their places."""
    rest = iter(applied)
    return [next(rest) if isinstance(verdict, int) else verdict for verdict in found]
