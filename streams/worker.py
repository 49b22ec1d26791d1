"""The life of a worker process: find the namespace in force, read and apply there until told to stop, say why it left.

When another namespace comes into force (`kairos promote`) the worker stops in order and lives on in that one.

Exit codes: 0 told to stop, 1 a fault of the program, 70 stuck (liveness), 75 a dependency stayed away too long
(start again), 78 refused: an operator must act first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from schemas.keys import Keys
from streams.chunks.chunking import LogCut, SeekOverdue, TopicGone
from streams.chunks.liveness import EXIT_STUCK
from streams.features.blobs import UnreadableError
from streams.features.calendar import Calendar
from streams.features.rows import mismatch
from streams.life import Life
from streams.metrics import not_ready
from streams.needs import reach_kafka, reach_redis
from streams.service import http, roll
from streams.service.namespaces import schema_of
from streams.service.outbox import OutboxError
from streams.service.redis import connect
from streams.service.waiting import Waiting
from streams.settings import StreamSettings
from streams.tables.errors import Broken, OtherDeclaration, Refused
from streams.tables.weather import Weather
from streams.wiring import Wiring, declared

EXIT_FAULT, EXIT_AGAIN, EXIT_REFUSED = 1, 75, 78

logger = logging.getLogger(__name__)


class Worker:
    """One process's worker; `run` is its life, `missing` what keeps it from being ready.

    It folds into the namespace that is in force, or, where one is given, `into` that one for ever.
    """

    def __init__(self, settings: StreamSettings, wanted: tuple[str, ...], *, into: str = "") -> None:
        self.settings, self.wanted, self.into = settings, wanted, into
        self.waiting = Waiting()
        self.code = EXIT_STUCK  # until a better reason to leave is known
        self.life: Life | None = None
        self._closing: list[asyncio.Task[None]] = []
        self.registry = CollectorRegistry()
        self.registry.register(OfThisLife(self))
        # Loading the tables behind the calendar takes half a second: before anybody counts on this worker.
        Calendar(settings.tools.features.zone)
        schema = declared(settings.tools).schema
        self._client = connect(settings.connections)
        member = roll.myself("stream", schema, pinned=bool(into))
        self.roll = roll.Roll(self._client, settings.connections.namespace, member)

    async def run(self, stop: asyncio.Event) -> int:
        """Live until `stop` is set or something ends this process; the exit code."""
        address = self.settings.shell.http
        probes = {"live": dict, "ready": self.missing, "about": self.about}
        async with await http.serve(address, registry=self.registry, **probes) as server:
            logger.info("Probes and metrics on http://%s/ready", server.address)
            stopping = asyncio.create_task(stop.wait())
            life: Life | None = self._prepared(self.into or self.roll.force.live)
            try:
                while life is not None:
                    self.code = EXIT_STUCK
                    life = await self._live(life, stopping)
            finally:
                stopping.cancel()
                await asyncio.gather(*self._closing)
                await self.roll.leave()
                await self._client.aclose()
        return self.code

    def missing(self) -> Mapping[str, str]:
        """What keeps this worker from being ready, each with a sentence; empty when it reads and applies."""
        if self.life is not None:
            return self.life.missing()
        return dict(self.waiting.missing) or {"worker": "It is starting."}

    def about(self) -> Mapping[str, str]:
        """Where this worker stands."""
        return {"namespace": self.roll.member.namespace}

    def _prepared(self, namespace: str) -> Life:
        return Life(Wiring(self.settings.within(namespace), self.wanted), self.waiting, lambda: self.code)

    async def _live(self, life: Life, stopping: asyncio.Task[bool]) -> Life | None:
        """Live in the namespace in force, for which `life` should be made, until it is no more; the life after it."""
        settling = asyncio.create_task(self._settle())
        await asyncio.wait({settling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not settling.done() or settling.exception():
            self.code = _code(settling)
            settling.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await settling
            await life.close()
            return None
        if (namespace := settling.result()) != life.namespace:
            await life.close()
            life = self._prepared(namespace)
        self.life, following = life, None
        living, moving = asyncio.create_task(life.live()), asyncio.create_task(self._moved(namespace))
        await asyncio.wait({living, stopping, moving}, return_when=asyncio.FIRST_COMPLETED)
        if moving.done() and not moving.exception() and not living.done() and not stopping.done():
            logger.info("Namespace %s is in force now: leaving %s for it.", self.roll.force.live, namespace)
            following = self._prepared(self.roll.force.live)  # made while this one still works
        else:
            self.code = _code(living if living.done() or not moving.done() else moving)
            if self.code:
                _hush()
        moving.cancel()
        await life.stop(living)
        closing = asyncio.create_task(life.close())
        if following is not None:
            self._closing.append(closing)  # the next life need not wait for it
        else:
            await closing
        self.life = None
        return following

    async def _settle(self) -> str:
        """The namespace to fold into, once Kafka and Redis answer and it is one of our declaration."""
        connections, weather = self.settings.connections, Weather()
        await reach_kafka(connections, self.waiting)
        if self.into:
            namespace = self.into
        else:
            placing = roll.place(self.roll, weather.ride, self._say, serving=False)
            namespace = (await reach_redis(weather, self.waiting, placing)).live
        schema = await reach_redis(weather, self.waiting, self._schema_of(namespace, weather))
        if schema not in (None, self.roll.member.schema):
            text = f"Namespace {namespace} holds rows of {mismatch(schema or 0, self.roll.member.schema)}."
            raise OtherDeclaration(text)
        self.roll.works_in(namespace)
        return namespace

    async def _schema_of(self, namespace: str, weather: Weather) -> int | None:
        return await weather.ride("reading a row's schema", lambda: schema_of(self._client, Keys(namespace)))

    def _say(self, sentence: str) -> None:
        if sentence:
            self.waiting.on("namespace", sentence)
        else:
            self.waiting.over("namespace")

    async def _moved(self, namespace: str) -> None:
        """Keep our place on the roll until another namespace is in force."""
        await self.roll.until(lambda force: not self.into and force.live != namespace)


class OfThisLife(Collector):
    """The metrics of the life that a worker has now: their counters begin anew with each."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        if self.worker.life is None:
            yield not_ready()
        else:
            yield from self.worker.life.wiring.registry.collect()


def _code(life: asyncio.Task[None] | asyncio.Task[str]) -> int:
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
