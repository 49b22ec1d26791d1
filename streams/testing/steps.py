"""What leaves a worker, step by step, and the faults that befall it there."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streams.deltas import DeltaRecord
from streams.pipeline import Rejected
from streams.tables.memory import MemoryStore
from streams.tables.store import ItemWrite, Move, UserWrite

T = TypeVar("T")

LETTERS, DELTAS, COMMIT = "letters", "deltas", "commit"


class Fault(enum.Enum):
    """What befalls a worker at one of its steps.

    CRASH_BEFORE, CRASH_AFTER: the process dies, and another takes over. TAKEN_OVER: it is held up while another process
    takes its partitions over and reads them to the end; then it goes on as a zombie. OVERTAKEN: the other process gets
    no further than one record of each partition. And of a commit alone: CONFLICT: its compare-and-set is lost; LOST:
    the call never arrives; UNHEARD: it is done and the reply is lost.
    """

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    TAKEN_OVER = "taken over before"
    OVERTAKEN = "overtaken by a record before"
    CONFLICT = "conflict in"
    LOST = "lost call of"
    UNHEARD = "lost reply of"

    @property
    def of_commits(self) -> bool:
        """Whether it befalls commits alone."""
        return self in {Fault.CONFLICT, Fault.LOST, Fault.UNHEARD}


class Crash(BaseException):
    """The process dies here; no BaseException of ours is caught on the way out."""


async def nobody(_rounds: int | None) -> None:
    """Nobody takes over."""


@dataclass
class Steps:
    """The steps of all workers in order; `plan` says by number which fault befalls a step, the first being 0.

    `taken` may be emptied; steps are numbered on. `take_over` lets another worker read so many records of each
    partition, or all.
    """

    plan: dict[int, Fault] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    take_over: Callable[[int | None], Awaitable[None]] = nobody
    number: int = 0

    async def take(self, what: str, act: Callable[[], Awaitable[T]], refused: T) -> T:
        """Take one step; `refused` is its answer when another one was faster."""
        fault = self.plan.get(self.number)
        self.number += 1
        self.taken.append(what)
        if fault is not None and fault.of_commits and what != COMMIT:
            fault = None
        if fault is Fault.CRASH_BEFORE:
            raise Crash
        if fault is Fault.LOST:
            raise ConnectionError(fault.value)
        if fault is Fault.CONFLICT:
            return refused
        if fault in {Fault.TAKEN_OVER, Fault.OVERTAKEN}:
            await self.take_over(1 if fault is Fault.OVERTAKEN else None)
        done = await act()
        if fault is Fault.CRASH_AFTER:
            raise Crash
        if fault is Fault.UNHEARD:
            raise ConnectionError(fault.value)
        return done


class SteppedStore:
    """A store whose commits are steps."""

    def __init__(self, store: MemoryStore, steps: Steps) -> None:
        self._store, self._steps = store, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, tag: bytes, move: Move, write: UserWrite | ItemWrite) -> bool:
        return await self._steps.take(COMMIT, lambda: self._store.commit(tag, move, write), refused=False)


class Letters:
    """Where rejected records go: a list, behind a step."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.sent: list[Rejected] = []

    async def send(self, letters: Sequence[Rejected]) -> None:
        async def keep() -> None:
            self.sent.extend(letters)

        await self._steps.take(LETTERS, keep, None)


class DeltaTopic:
    """Where item deltas go: `append` puts one into its topic, behind a step."""

    def __init__(self, steps: Steps, append: Callable[[DeltaRecord], object]) -> None:
        self._steps, self._append = steps, append
        self.sent: list[DeltaRecord] = []

    async def send(self, records: Sequence[DeltaRecord]) -> None:
        async def keep() -> None:
            for record in records:
                self.sent.append(record)
                self._append(record)

        await self._steps.take(DELTAS, keep, None)
