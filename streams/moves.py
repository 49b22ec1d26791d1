"""How a worker comes to a namespace, and moves on when another one comes into force (`kairos promote`).

    arrive     wait until a namespace can be folded into, and begin a life there
    go beside  begin a second life in the next namespace while the first one works on: both fold the log, each behind
               its own fences, as a worker and one that follows a run do
    hand over  when the second has come to the live tail the first stops in order, and the roll hears where we work

Where the next namespace may hold rows that we cannot read nothing goes beside: the first life stops, then we arrive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from streams.life import Life
from streams.placement import Placement
from streams.service import loop

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Told(Exception):
    """Somebody told the worker to stop."""


class Moves:
    """A worker's lives, one namespace after the other, two at a time during a move; `prepare` makes one.

    `life` is the one that speaks for the worker, None while it arrives. `stopping` is over when the worker is to stop.
    """

    def __init__(self, placement: Placement, prepare: Callable[[str], Life], stopping: asyncio.Task[Any]) -> None:
        self.placement, self.stopping = placement, stopping
        self.life: Life | None = None
        self._prepare = prepare
        self._lives: list[Life] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work for ever. Raises Told, or what ends a life; `end` comes afterwards."""
        life = await self._arrive(self.placement.likely)
        while True:
            namespace = await self._meanwhile(self.placement.another(life.namespace))
            logger.info("Namespace %s is in force now: leaving %s for it.", namespace, life.namespace)
            life = await self._move(life, namespace)

    async def end(self) -> None:
        """Stop all lives, the newest first, and close them."""
        for life in reversed(self._lives):
            await life.stop()
            await life.close()
        await asyncio.gather(*self._closing)
        self.life = None

    async def _arrive(self, likely: str) -> Life:
        """A life in the namespace that is found, probably the likely one, for which it is made while we wait."""
        self.life, life = None, self._make(likely)
        namespace = await self._meanwhile(self.placement.found())
        if namespace != life.namespace:
            await self._close(life)
            life = self._make(namespace)
        self.placement.roll.works_in(namespace)
        life.begin()
        self.life = life
        return life

    async def _move(self, life: Life, namespace: str) -> Life:
        """The life in another namespace; the old one goes on where that one is not in force any more when we come."""
        if not await self._meanwhile(self.placement.readable(namespace)):
            await self._stop(life)
            await self.placement.tell("")
            return await self._arrive(namespace)
        beside = self._make(namespace)
        beside.begin()
        if not await self._meanwhile(self._comes_near(beside, life)):
            await self._stop(beside)
            return life
        await self._stop(life)
        self.life = beside
        await self.placement.tell(namespace)
        return beside

    async def _comes_near(self, beside: Life, life: Life) -> bool:
        """Whether a life comes as near the live tail as another one while its namespace is in force."""
        near = asyncio.create_task(beside.near(life))
        overtaken = asyncio.create_task(self.placement.another(beside.namespace))
        try:
            for one in (await asyncio.wait({near, overtaken}, return_when=asyncio.FIRST_COMPLETED))[0]:
                one.result()
            return not overtaken.done()
        finally:
            near.cancel()
            overtaken.cancel()

    async def _meanwhile(self, awaited: Coroutine[Any, Any, T]) -> T:
        """What something comes to while all lives go on; raises what ends one of them before, or Told."""
        waiting = asyncio.create_task(awaited)
        living = {life.living for life in self._lives if life.living is not None}
        try:
            await asyncio.wait({waiting, self.stopping, *living}, return_when=asyncio.FIRST_COMPLETED)
            for end in (*living, self.stopping):
                if end.done():
                    raise end.exception() or Told
            return waiting.result()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    def _make(self, namespace: str) -> Life:
        life = self._prepare(namespace)
        self._lives.append(life)
        return life

    async def _stop(self, life: Life) -> None:
        """Stop a life in order, on the roll all the while; nobody has to wait until all of it is closed."""
        async with self.placement.on_the_roll():
            await life.stop()
        closing = asyncio.create_task(self._close(life))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, life: Life) -> None:
        self._lives.remove(life)
        await life.close()
        del life
        loop.calm_the_collector()  # the next life has frozen what it found, and this one holds itself in cycles
