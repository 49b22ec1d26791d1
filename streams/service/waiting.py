"""What a service waits for, readable on /ready, and the one loop that tries again with back-off."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streams.service.trouble import clause

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

log = logging.getLogger(__name__)


class Waiting:
    """The things that are missing, by name, each with a sentence; empty when there are none."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self._told: dict[str, str] = {}

    def on(self, name: str, why: str, since: str = "") -> None:
        """Wait for `name`; `since` is shown too, but a change of it is not worth a line in the log."""
        if self._told.get(name) != why:
            self._told[name] = why
            log.warning("Waiting for %s: %s", name, why)
        self.missing[name] = why + since

    def over(self, name: str) -> None:
        if self.missing.pop(name, None) is not None:
            del self._told[name]
            log.info("No longer waiting for %s", name)

    async def until(
        self,
        name: str,
        attempt: Callable[[], Awaitable[T]],
        trouble: tuple[type[BaseException], ...] = (OSError, TimeoutError),
        longest_pause_s: float = LONGEST_PAUSE_S,
        passes: Callable[[BaseException], bool] = lambda _: True,
    ) -> T:
        """The result of the first attempt that raises no `trouble` that passes; the pause doubles, with jitter."""
        pause_s = FIRST_PAUSE_S
        tries = 0
        while True:
            try:
                result = await attempt()
            except trouble as error:
                if not passes(error):
                    raise
                tries += 1
                self.on(name, clause(error), f" (attempt {tries}, again in {pause_s:.1f} s)")
                await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
                pause_s = min(pause_s * 2, longest_pause_s)
            else:
                self.over(name)
                still_wanted()
                return result


def still_wanted() -> None:
    """Raise the cancellation of this task that was swallowed below: who goes on after one never ends.

    `asyncio.wait_for` of Python 3.11, by which redis-py sends, forgets one that comes together with the answer.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
