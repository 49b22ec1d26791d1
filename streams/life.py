"""One life of a worker: its sides over the tables of one namespace, from the first look at Kafka to the last write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakSet

from streams.app import Side
from streams.chunks.liveness import Probe, end_process
from streams.metrics import SideCollector
from streams.needs import Needs
from streams.service import loop
from streams.service.entry import Doorkeeper
from streams.service.room import Room
from streams.service.waiting import Waiting
from streams.wiring import Wiring

LOOK_S, NEAR, SETTLED_S = 0.02, 100, 0.5
"""How often a new life is looked at, how many records behind the one before it it is at the tail, and for how long it
has to be: the other workers of the group join at about the same time."""


class Life:
    """Reads and applies from `begin` to `stop`; `missing` is what keeps it from that. `code` is for a forced end.

    All of its parts are made with it, before anything is connected: the first events wait for no imports and caches.
    """

    def __init__(self, wiring: Wiring, waiting: Waiting, code: Callable[[], int]) -> None:
        self.wiring, self.waiting, self.code = wiring, waiting, code
        self.namespace = wiring.settings.connections.namespace
        self.sides: list[Side] = []
        self.living: asyncio.Task[None] | None = None
        self._made = wiring.sides()
        self.doorkeeper = Doorkeeper(wiring.settings.connections, self._kafka_is_away)
        self._probe: Probe | None = None
        # Weak: tasks of the life before would keep it alive, that one the life before itself, and so on.
        self._others = WeakSet(asyncio.all_tasks())
        wiring.registry.register(SideCollector(self.sides, wiring.words, lambda: not self.missing()))
        loop.calm_the_collector()

    def missing(self) -> Mapping[str, str]:
        """What keeps this worker from being ready, each with a sentence; empty when it reads and applies."""
        missing = dict(self.waiting.missing) | self.wiring.tripped()
        if self.wiring.outbox.trouble:
            missing["kafka"] = self.wiring.outbox.trouble
        if not missing and not self.sides:
            missing["worker"] = "It is starting."
        if not missing:
            for side in self.sides:
                missing |= side.missing()
        if "kafka" in missing and self.doorkeeper.why:
            missing["kafka"] = self.doorkeeper.why
        return missing

    def stopped(self) -> Mapping[str, str]:
        """Partitions that a hole in their log has stopped, each with the reason; the others are read and applied."""
        return {name: why for side in self.sides for name, why in side.stopped.items()}

    def _kafka_is_away(self) -> bool:
        consumers = [side.consumer for side in self.sides]
        return bool(self.wiring.outbox.trouble) or any(c is not None and c.broker_away() for c in consumers)

    def begin(self) -> asyncio.Task[None]:
        """Wait for what is needed, start every side, watch; the task, which raises what ends this life."""
        self.living = asyncio.create_task(self._live())
        return self.living

    def behind(self) -> int:
        """Records in the logs of the assigned partitions that are not applied, as far as is known."""
        return sum(side.behind() for side in self.sides)

    async def near(self, before: Life) -> None:
        """Return once every side reads, and is as near the end of its logs as in the life before."""
        since_s = time.monotonic()
        while (now_s := time.monotonic()) - since_s < SETTLED_S:
            if self.missing() or self.behind() > before.behind() + NEAR:
                since_s = now_s
            await asyncio.sleep(LOOK_S)

    async def _live(self) -> None:
        self.wiring.route(await Needs(self.wiring, self.waiting).arrive())
        self.sides += self._made
        # First of all the probe: a member that the group refuses never comes back from its start.
        self._probe = Probe([side.watched(self.wiring.settings) for side in self.sides], end=self._end_process)
        self._probe.start()
        await asyncio.gather(*[side.app.start() for side in self.sides])
        room = Room(self.wiring.tables.client, self.wiring.registry)
        crashes = [_crash(side.app) for side in self.sides]
        looks = [look for side in self.sides for look in (side.audit.run, side.holes.run)]
        await _first([*looks, *crashes, self.doorkeeper.watch, room.watch])

    def _end_process(self, cause: str, remedy: str) -> None:
        end_process(cause, remedy, self.code())

    async def stop(self) -> None:
        """Read and apply no more; the liveness probe ends the process if that hangs."""
        if self.living is not None:
            self.living.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self.living
        for side in self.sides:
            if side.app._started.is_set():
                await side.app.stop()
        if self._probe is not None:
            self._probe.stop()

    async def close(self) -> None:
        """Let what is on its way come to its end, and close what is open; after `stop`."""
        await self.wiring.outbox.stop()
        # A write that its actor was cancelled out of runs to its end; only then may the connections go.
        rest = asyncio.all_tasks() - set(self._others) - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=1.0)
        await self.wiring.tables.close()


def _crash(app: object) -> Callable[[], Awaitable[None]]:
    """Wait for the crash of a Faust app and raise its reason."""

    async def wait() -> None:
        await app._crashed.wait()  # type: ignore[attr-defined]
        reason = app._crash_reason  # type: ignore[attr-defined]
        # Raised as it is, a cancellation would look like the end of this task, and the worker's like a wish.
        if reason is None or isinstance(reason, asyncio.CancelledError):
            message = f"the app crashed without a reason of its own ({reason!r})"
            raise RuntimeError(message) from reason
        raise reason

    return wait


async def _first(lives: list[Callable[[], Awaitable[None]]]) -> None:
    """Run all until one ends, which it only does by raising."""
    tasks = [asyncio.ensure_future(live()) for live in lives]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
