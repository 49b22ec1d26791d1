"""The life of a worker process: wait for Kafka and Redis, read and apply until told to stop, leave and say why.

Exit codes: 0 told to stop, 1 a fault of the program, 70 stuck (liveness), 75 a dependency stayed away too long
(start again), 78 refused: an operator must act first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping

from aiokafka.errors import KafkaError

from streams.app import Side
from streams.chunks.chunking import LogCut, SeekOverdue, TopicGone
from streams.chunks.liveness import EXIT_STUCK, Probe, end_process
from streams.features.blobs import UnreadableError
from streams.metrics import SideCollector
from streams.needs import Needs
from streams.service import http, loop
from streams.service.entry import Doorkeeper
from streams.service.outbox import OutboxError
from streams.service.room import Room
from streams.service.waiting import Waiting
from streams.settings import StreamSettings
from streams.tables.errors import Broken, Refused
from streams.wiring import Wiring

EXIT_FAULT, EXIT_AGAIN, EXIT_REFUSED = 1, 75, 78

logger = logging.getLogger(__name__)


class Worker:
    """One process's worker; `run` is its life, `missing` what keeps it from being ready."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.sides: list[Side] = []
        self.waiting = Waiting()
        self.doorkeeper = Doorkeeper(wiring.settings.connections, self._kafka_is_away)
        self.code = EXIT_STUCK  # until a better reason to leave is known
        self._probe: Probe | None = None

    async def run(self, stop: asyncio.Event) -> int:
        """Live until `stop` is set or something ends this life; the exit code."""
        wiring = self.wiring
        wiring.registry.register(SideCollector(self.sides, wiring.words, lambda: not self.missing()))
        address = wiring.settings.shell.http
        async with await http.serve(address, live=dict, ready=self.missing, registry=wiring.registry) as server:
            logger.info("Probes and metrics on http://%s/ready", server.address)
            life = asyncio.create_task(self._live())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.code = _code(life)
            if self.code:
                _hush()
            stopping.cancel()
            await self._end(life)
        return self.code

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

    def _kafka_is_away(self) -> bool:
        consumers = [side.consumer for side in self.sides]
        return bool(self.wiring.outbox.trouble) or any(c is not None and c.broker_away() for c in consumers)

    async def _live(self) -> None:
        """Wait for what is needed, start every side, watch; raises what ends this life."""
        # Made before anything is connected: the first events do not wait for imports and caches.
        sides = self.wiring.sides()
        loop.calm_the_collector()
        self.wiring.route(await Needs(self.wiring, self.waiting).arrive())
        self.sides += sides
        # First of all the probe: a member that the group refuses never comes back from its start.
        self._probe = Probe([side.watched(self.wiring.settings) for side in self.sides], end=self._end_process)
        self._probe.start()
        await asyncio.gather(*[side.app.start() for side in self.sides])
        room = Room(self.wiring.tables.client, self.wiring.registry)
        crashes = [_crash(side.app) for side in self.sides]
        await _first([*[side.audit.run for side in self.sides], *crashes, self.doorkeeper.watch, room.watch])

    def _end_process(self, cause: str, remedy: str) -> None:
        end_process(cause, remedy, self.code)

    async def _end(self, life: asyncio.Task[None]) -> None:
        """Stop everything; the liveness probe ends the process if that hangs."""
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await life
        for side in self.sides:
            if side.app._started.is_set():
                await side.app.stop()
        if self._probe is not None:
            self._probe.stop()
        await self.wiring.outbox.stop()
        # A write that its actor was cancelled out of runs to its end; only then may the connections go.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=1.0)
        await self.wiring.tables.close()


def _code(life: asyncio.Task[None]) -> int:
    """Say why the worker ends, and with which code."""
    error = None if not life.done() or life.cancelled() else life.exception()
    if error is None:
        logger.info("Told to stop: leaving the group.")
        return 0
    if isinstance(error, Refused | Broken | LogCut | TopicGone | OutboxError | UnreadableError):
        logger.critical("%s", error)
        return EXIT_REFUSED
    if isinstance(error, SeekOverdue | KafkaError | OSError):
        logger.critical("%s", error)
        return EXIT_AGAIN
    logger.critical("The worker met a fault of its own and ends before it loses anything.", exc_info=error)
    return EXIT_FAULT


def _hush() -> None:
    """The reason is told: what Faust's services say while they stop over one another is of use in a debug log only."""
    if not logger.isEnabledFor(logging.DEBUG):
        for name in ("faust", "mode", "aiokafka", "streams.chunks"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _crash(app: object) -> Callable[[], Awaitable[None]]:
    """Wait for the crash of a Faust app and raise its reason."""

    async def wait() -> None:
        await app._crashed.wait()  # type: ignore[attr-defined]
        raise app._crash_reason or RuntimeError("the app crashed without a reason")  # type: ignore[attr-defined]

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


async def work(settings: StreamSettings, wanted: tuple[str, ...]) -> int:
    """Run one worker in this process until SIGTERM or SIGINT; the exit code. A second signal leaves at once."""
    stop = asyncio.Event()

    def told() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGINT)
        stop.set()

    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, told)
    return await Worker(Wiring(settings, wanted)).run(stop)
