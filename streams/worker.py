"""A worker process: its probes and metrics, its work until it is told to stop or something ends it, and why it left.

What it does meanwhile is in `moves` (from namespace to namespace) and `life` (in one of them).

Exit codes: 0 told to stop, 1 a fault of the program, 70 stuck (liveness), 75 a dependency stayed away too long
(start again), 78 refused: an operator must act first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from streams.chunks.chunking import SeekOverdue, TopicGone
from streams.chunks.liveness import EXIT_STUCK
from streams.features.blobs import UnreadableError
from streams.features.calendar import Calendar
from streams.life import Life
from streams.metrics import OfNow
from streams.moves import Moves, Told
from streams.opened import declared
from streams.placement import Placement
from streams.service import http
from streams.service.entry import missing_right
from streams.service.outbox import OutboxError
from streams.service.settings import Connections
from streams.service.waiting import Waiting
from streams.settings import StreamSettings
from streams.tables.errors import Broken, Refused
from streams.wiring import Wiring

EXIT_FAULT, EXIT_AGAIN, EXIT_REFUSED = 1, 75, 78

logger = logging.getLogger(__name__)


class Worker:
    """One process's worker; `run` is its life, `missing` what keeps it from being ready.

    It folds into the namespace that is in force, or, where one is given, `into` that one for ever.
    """

    def __init__(self, settings: StreamSettings, wanted: tuple[str, ...], *, into: str = "") -> None:
        self.settings, self.wanted = settings, wanted
        self.waiting = Waiting()
        self.code = EXIT_STUCK  # until a better reason to leave is known
        self.moves: Moves | None = None
        self.registry = CollectorRegistry()
        self.registry.register(OfNow(lambda: self.life.wiring.registry if self.life is not None else None))
        # Loading the tables behind the calendar takes half a second: before anybody counts on this worker.
        Calendar(settings.zone)
        self.placement = Placement(settings.connections, declared(settings).schema, self.waiting, into=into)

    @property
    def life(self) -> Life | None:
        """The one that works, None before it begins."""
        return self.moves.life if self.moves is not None else None

    async def run(self, stop: asyncio.Event) -> int:
        """Live until `stop` is set or something ends this process; the exit code."""
        address = self.settings.shell.http
        probes: dict[str, http.Check] = {"live": dict, "ready": self.missing}
        async with await http.serve(address, registry=self.registry, about=self.about, **probes) as server:
            logger.info("Probes and metrics on http://%s/ready", server.address)
            stopping = asyncio.create_task(stop.wait())
            moves = self.moves = Moves(self.placement, self._prepared, stopping)
            try:
                await moves.run()
            except Exception as error:
                self.code = _code(error, self.settings.connections)  # before a life stops: one that hangs ends with it
                if self.code:
                    _hush()
            finally:
                stopping.cancel()
                await moves.end()
                await self.placement.leave()
        return self.code

    def missing(self) -> Mapping[str, str]:
        """What keeps this worker from being ready, each with a sentence; empty when it reads and applies."""
        if self.life is not None:
            return self.life.missing()
        return dict(self.waiting.missing) or {"worker": "It is starting."}

    def about(self) -> Mapping[str, object]:
        """Where this worker stands, and what a hole in a log has stopped.

        That does not make it unready: who starts it again or waits for it helps nobody, an operator must act.
        """
        stopped = self.life.stopped() if self.life is not None else {}
        return {"namespace": self.placement.roll.member.namespace, "stopped": stopped}

    def _prepared(self, namespace: str) -> Life:
        installation = self.settings.connections.namespace
        wiring = Wiring(self.settings.within(namespace), self.wanted, installation=installation)
        return Life(wiring, Waiting(), lambda: self.code)


def _code(error: Exception, connections: Connections) -> int:
    """Say why the worker ends, and with which code."""
    if isinstance(error, Told):
        logger.info("Told to stop: leaving the group.")
        return 0
    if isinstance(error, Refused | Broken | TopicGone | OutboxError | UnreadableError):
        logger.critical("%s", error)
        return EXIT_REFUSED
    if isinstance(error, SeekOverdue | KafkaError | OSError):
        logger.critical("%s", missing_right(error, connections) or error)
        return EXIT_AGAIN
    logger.critical("The worker met a fault of its own and ends before it loses anything.", exc_info=error)
    return EXIT_FAULT


def _hush() -> None:
    """The reason is told: what Faust's services say while they stop over one another is of use in a debug log only."""
    if not logger.isEnabledFor(logging.DEBUG):
        for name in ("faust", "mode", "aiokafka", "streams.chunks"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


async def work(settings: StreamSettings, wanted: tuple[str, ...], *, into: str = "") -> int:
    """Run one worker in this process until SIGTERM or SIGINT; the exit code. A second signal leaves at once."""
    stop = asyncio.Event()

    def told() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGINT)
        stop.set()

    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, told)
    return await Worker(settings, wanted, into=into).run(stop)
