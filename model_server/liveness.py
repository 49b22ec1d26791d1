"""The liveness rule: a thread that ends a model worker which is alive and does nothing while users wait.

Every rule is about something that has not changed for so many looks: time that a process was frozen does not count.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

EXIT_STUCK = 70
LOOP_LOOKS, IDLE_LOOKS, SCORING_LOOKS = 30, 60, 120
"""Looks a second apart; a forward pass that takes longer than the last will not come back."""

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """One look at a worker that is at work and misses nothing: turns of its loop, looks at the queue, users held and
    users settled so far, and since when a batch is scored, None where none is."""

    turns: int
    looks: int
    held: int
    settled: int
    scoring_since_ms: int | None


class Standstill:
    """Remembers for how many looks in a row each thing has been the same."""

    def __init__(self) -> None:
        self._same: dict[str, tuple[object, int]] = {}

    def judge(self, seen: Seen | None) -> str:
        """Why the worker is stuck, empty while it is not; None where there is nothing to judge."""
        if seen is None:
            self._same.clear()
            return ""
        return next((cause for name, mark, most, cause in _rules(seen) if self._count(name, mark) >= most), "")

    def _count(self, name: str, mark: object) -> int:
        before, count = self._same.get(name, (None, 0))
        count = count + 1 if mark is not None and mark == before else 0
        self._same[name] = mark, count
        return count


def _rules(seen: Seen) -> Iterator[tuple[str, object, int, str]]:
    yield "loop", seen.turns, LOOP_LOOKS, f"the event loop has not turned for {LOOP_LOOKS} s: something blocks it"
    scoring = f"a forward pass has been running for {SCORING_LOOKS} s"
    yield "scoring", seen.scoring_since_ms, SCORING_LOOKS, scoring
    settled = seen.settled if seen.held and seen.scoring_since_ms is None else None
    yield "users", settled, IDLE_LOOKS, f"it holds {seen.held} users and has settled none for {IDLE_LOOKS} s"
    yield "queue", None if seen.held else seen.looks, IDLE_LOOKS, f"it has not looked at the queue for {IDLE_LOOKS} s"


def end_process(cause: str) -> None:
    """Leave at once, without waiting for anything that may be what hangs."""
    log.critical(
        "Liveness: %s. The process ends so that its supervisor starts it again; what it held is scored again.", cause
    )
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(EXIT_STUCK)


class Probe(threading.Thread):
    """Looks once a second; `look` hears how often the loop has turned. `end` normally does not return."""

    def __init__(
        self, look: Callable[[int], Seen | None], *, end: Callable[[str], None] = end_process, interval_s: float = 1.0
    ) -> None:
        super().__init__(daemon=True, name="liveness")
        self._look, self._end, self._interval_s = look, end, interval_s
        self._loop, self._turns = asyncio.get_running_loop(), 0
        self._done = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._done.set()

    def run(self) -> None:
        standstill = Standstill()
        while not self._done.wait(self._interval_s):
            try:
                self._loop.call_soon_threadsafe(self._turn)
                cause = standstill.judge(self._look(self._turns))
            except RuntimeError:  # the loop is closed, or what is looked at changes under our eyes
                continue
            if cause:
                self._end(cause)

    def _turn(self) -> None:
        self._turns += 1
