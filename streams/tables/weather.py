"""Trouble with Redis that passes is ridden out in one loop with back-off; what cannot pass is raised at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streams.service.trouble import TROUBLE, clause, passes, remedy, said
from streams.service.waiting import still_wanted
from streams.tables.errors import Broken, Stale

T = TypeVar("T")
log = logging.getLogger(__name__)

STALE = "The chunk is not wanted any more: its partition was sought or taken away."


def never() -> bool:
    """The `stale` of a call that nothing can make stale."""
    return False


class Weather:
    """Rides out trouble. `trouble` is what holds calls up at the moment, None when nothing does; `errors` counts."""

    def __init__(self, *, first_pause_s: float = 0.05, longest_pause_s: float = 1.0) -> None:
        self.first_pause_s = first_pause_s
        self.longest_pause_s = longest_pause_s
        self.trouble: str | None = None
        self.errors = 0

    async def ride(self, what: str, attempt: Callable[[], Awaitable[T]], stale: Callable[[], bool] = never) -> T:
        """The result of `attempt`, tried until it works.

        Raises Stale as soon as `stale()` says that nobody waits for it any more, Broken for what cannot pass.
        """
        pause_s = self.first_pause_s
        while True:
            if stale():
                raise Stale(STALE)
            try:
                result = await attempt()
            except TROUBLE as error:
                self._note(what, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self.longest_pause_s)
            else:
                self.trouble = None
                still_wanted()
                return result

    def _note(self, what: str, error: BaseException) -> None:
        if not passes(error):
            text = f"Redis refuses {what} and will go on to: {clause(error)}. {remedy(error)}"
            raise Broken(text) from error
        self.errors += 1
        if self.trouble is None or self.errors % 50 == 0:
            log.warning("Redis trouble in %s, held until it passes: %s: %s", what, type(error).__name__, said(error))
        self.trouble = f"{what}: {type(error).__name__}: {said(error)}"
