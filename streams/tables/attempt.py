"""Chunks of one partition on their way through the tries of one commit, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from streams.tables.errors import Rewind
from streams.tables.part import Chunk, Outcome, TableStats

C = TypeVar("C")

Verdict = Outcome | Rewind
"""What became of one chunk of a group: Rewind says where its partition must be read again."""


def nothing_stale(_chunk: Chunk) -> bool:
    """The `stale` of chunks that nothing can make stale."""
    return False


class Member(Generic[C]):
    """A chunk and what it changes; `verdict` None while it is open."""

    __slots__ = ("change", "chunk", "verdict")

    def __init__(self, chunk: Chunk, change: C) -> None:
        self.chunk = chunk
        self.change = change
        self.verdict: Verdict | None = None


class Attempt(Generic[C]):
    """The members of a group; `fresh` is what the last try folded of those in `tried`.

    `unknown` is set once a commit was sent and its reply never came.
    """

    def __init__(self, changes: Sequence[tuple[Chunk, C]], stale: Callable[[Chunk], bool]) -> None:
        self.members = [Member(chunk, change) for chunk, change in changes]
        self.fresh = self.members[0].change
        self.tried: list[Member[C]] = []
        self.unknown = False
        self._stale = stale

    def open(self) -> list[Member[C]]:
        """Members that nothing became of yet."""
        return [member for member in self.members if member.verdict is None]

    def drop_stale(self) -> bool:
        """Settle what is not wanted any more; whether there was any."""
        dropped = [member for member in self.open() if self._stale(member.chunk)]
        for member in dropped:
            member.verdict = Outcome.STALE
        return bool(dropped)

    def settle(
        self, standing: Callable[[Chunk], int], stats: TableStats, applied: Callable[[C], None]
    ) -> dict[str, int]:
        """Say what became of members that need no commit (any more); the fences by topic of those that do."""
        fences, unheard = dict[str, int](), False
        for member in self.open():
            chunk = member.chunk
            try:
                fence = standing(chunk)
            except Rewind as rewind:
                member.verdict = rewind
                continue
            if chunk.last > fence:
                fences[chunk.topic] = fence
            elif self.unknown and member in self.tried:
                # Applied by a call whose reply was lost.
                unheard, member.verdict = True, Outcome.APPLIED
                stats.unknown_applied += 1
                stats.count(chunk, 0)
            else:
                member.verdict = Outcome.SKIPPED
                stats.skipped += len(chunk.records)
        if unheard:
            applied(self.fresh)
        return fences

    def verdicts(self) -> list[Verdict]:
        """What became of each, once none is open."""
        return [member.verdict for member in self.members if member.verdict is not None]
